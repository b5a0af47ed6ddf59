// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Router is one of the pair: eth0 on the LAN, eth1 on the WAN, eth2 the sync
// link (eth3 the DMZ when there is one).
type Router struct {
	Name  string
	Index int // 1 to 3
	NS    *Namespace
	lab   *Lab
	off   bool
}

// routerNets are a router's interfaces in order: switch and the addresses that
// router 1 has; router 2 has the next ones, router 3 those after.
var routerNets = []struct {
	sw     string
	first  netip.Prefix
	first6 netip.Prefix // invalid: none
}{
	{LAN, netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("2001:db8:a::2/64")},
	{WAN, netip.MustParsePrefix("203.0.113.2/24"), netip.MustParsePrefix("2001:db8:b::2/64")},
	{Sync, netip.MustParsePrefix("192.168.255.1/30"), netip.Prefix{}},
	{DMZ, netip.MustParsePrefix("172.16.0.2/24"), netip.Prefix{}},
}

func (r *Router) nets() int {
	if r.lab.opts.DMZ {
		return 4
	}
	return 3
}

// Addr is the router's own address on eth0, eth1, ...
func (r *Router) Addr(iface int) netip.Prefix {
	p := r.counted(routerNets[iface].first)
	if routerNets[iface].sw == Sync && r.lab != nil && r.lab.opts.Third {
		return netip.PrefixFrom(p.Addr(), p.Bits()-1) // two addresses are not enough
	}
	return p
}

// Addr6 is the router's own global address on eth0 or eth1, with Options.IPv6.
func (r *Router) Addr6(iface int) netip.Prefix { return r.counted(routerNets[iface].first6) }

// counted is router 1's address, the next one for router 2, and so on.
func (r *Router) counted(first netip.Prefix) netip.Prefix {
	addr := first.Addr()
	for range r.Index - 1 {
		addr = addr.Next()
	}
	return netip.PrefixFrom(addr, first.Bits())
}

// All lists the routers of its lab; without a lab those of a pair.
func (r *Router) All() []*Router {
	if r.lab == nil {
		return []*Router{{Name: "r1", Index: 1}, {Name: "r2", Index: 2}}
	}
	return r.lab.Routers()
}

// MAC is the hardware address of eth0, eth1, ...
func (r *Router) MAC(iface int) net.HardwareAddr { return mac(r.Name, iface) }

func (r *Router) build() (err error) {
	if r.NS, err = newNamespace(r.lab.Prefix + "-" + r.Name); err != nil {
		return err
	}
	err = r.NS.Sysctl([][2]string{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", "0"},
		{"net/ipv4/icmp_ratelimit", "0"}, // or an error that must not be sent may hide behind the limit
		{"net/ipv6/conf/all/forwarding", "1"},
		{"net/ipv6/conf/default/accept_dad", "0"},
		{"net/ipv6/icmp/ratelimit", "0"},
	}...)
	for i := 0; err == nil && i < r.nets(); i++ {
		iface := fmt.Sprintf("eth%d", i)
		if err = r.lab.cable(routerNets[i].sw, r.Name, r.NS, iface, r.MAC(i)); err == nil {
			err = r.NS.address(iface, r.Addr(i))
		}
		if err == nil && r.lab.opts.IPv6 && routerNets[i].first6.IsValid() {
			err = r.NS.address(iface, r.Addr6(i))
		}
	}
	if err == nil {
		err = r.NS.rules(r.lab.opts)
	}
	for i := 0; err == nil && i < r.nets(); i++ {
		err = r.awaitLink(i)
	}
	if err == nil {
		// Loaded with the rules above: strict windows, loose pick-up as by default.
		err = r.NS.Sysctl([2]string{"net/netfilter/nf_conntrack_tcp_be_liberal", "0"})
	}
	if err != nil {
		return fmt.Errorf("build router %s: %w", r.Name, err)
	}
	return nil
}

// awaitLink waits until both ends of a cable carry frames.
func (r *Router) awaitLink(i int) error {
	return errors.Join(r.NS.awaitUp(fmt.Sprintf("eth%d", i)), r.lab.Switch.awaitUp(r.port(routerNets[i].sw)))
}

// port names the router's port on a switch.
func (r *Router) port(sw string) string { return sw + "." + r.Name }

func (r *Router) switches() []string {
	var out []string
	for _, n := range routerNets[:r.nets()] {
		out = append(out, n.sw)
	}
	return out
}

// PowerOff cuts the router's power and returns the instant (CLOCK_MONOTONIC
// ns) at which its ports went dark. Its switch ports stop forwarding, then
// everything that runs in it stands still, then the far ends lose their
// carrier, the sync link's included.
//
// A dead machine does nothing. Processes that are killed do: they give back
// sockets and programs, and hold the machine's one rtnl lock and its processors
// for some 20 ms, which would be charged to the router that is taking over. So
// they are killed, and the namespace is destroyed, by PowerOn or Close only.
func (r *Router) PowerOff() (at int64, err error) {
	if r.off {
		return 0, fmt.Errorf("power off %s: it is off", r.Name)
	}
	pids := r.NS.PIDs()
	var dark []netlink.Link
	for _, sw := range r.switches() {
		p, err := r.lab.Switch.nl.LinkByName(r.port(sw))
		if err != nil {
			return 0, fmt.Errorf("find port %q: %w", r.port(sw), err)
		}
		dark = append(dark, p)
	}
	at = Now()
	if relay := r.lab.relay.Load(); relay != nil {
		relay.goDark(r.Index)
	}
	for _, p := range dark {
		if e := r.lab.Switch.portState(p, brStateDisabled); !errors.Is(e, unix.ENETDOWN) { // dark already
			err = errors.Join(err, e)
		}
	}
	sendAll(pids, unix.SIGSTOP)
	r.off = true
	for _, p := range dark {
		err = errors.Join(err, r.lab.Switch.nl.LinkSetDown(p))
	}
	err = errors.Join(err, r.farEnd(Sync, false))
	r.NS.halt()
	if err != nil {
		return at, fmt.Errorf("power off %s: %w", r.Name, err)
	}
	return at, nil
}

// PowerOn kills and destroys what the router was and builds it anew: same
// addresses, same MACs, empty kernel table, nothing running.
func (r *Router) PowerOn() error {
	if !r.off {
		return fmt.Errorf("power on %s: it is on", r.Name)
	}
	for _, sw := range r.switches() {
		p, err := r.lab.Switch.nl.LinkByName(r.port(sw))
		if err != nil {
			continue
		}
		if err := r.lab.Switch.nl.LinkDel(p); err != nil {
			return fmt.Errorf("pull cable %q: %w", r.port(sw), err)
		}
	}
	r.NS.KillAll()
	if err := r.NS.remove(); err != nil {
		return err
	}
	r.off = false
	err := errors.Join(r.build(), r.farEnd(Sync, true))
	if err == nil && !r.lab.opts.Third && r.lab.Other(r).off {
		err = r.lab.Switch.setUp(r.port(Sync), false) // nobody at the other end
	}
	return err
}

// farEnd sets the other router's port up or down where the two are joined by a
// cable: the sync link. There each end's carrier is the other end.
func (r *Router) farEnd(sw string, up bool) error {
	if sw != Sync || r.lab.opts.Third || r.lab.Other(r).off {
		return nil
	}
	return r.lab.Switch.setUp(r.lab.Other(r).port(sw), up)
}

// switchOf names the switch of an interface.
func switchOf(iface string) string {
	for i, n := range routerNets {
		if iface == fmt.Sprintf("eth%d", i) {
			return n.sw
		}
	}
	return ""
}

// IsOff says whether the router is without power.
func (r *Router) IsOff() bool { return r.off }

// LinkDown sets one of the router's interfaces down from inside, as
// `ip link set eth0 down` does, and returns the instant (CLOCK_MONOTONIC ns).
func (r *Router) LinkDown(iface string) (at int64, err error) {
	at = Now()
	return at, errors.Join(r.NS.setUp(iface, false), r.farEnd(switchOf(iface), false))
}

// LinkUp undoes LinkDown.
func (r *Router) LinkUp(iface string) error {
	return errors.Join(r.NS.setUp(iface, true), r.farEnd(switchOf(iface), true))
}

// Unplug takes the carrier from one of the router's interfaces by setting its
// switch port down; sw is LAN, WAN, Sync or DMZ. It returns the instant.
func (r *Router) Unplug(sw string) (at int64, err error) {
	at = Now()
	return at, errors.Join(r.lab.Switch.setUp(r.port(sw), false), r.farEnd(sw, false))
}

// Plug undoes Unplug.
func (r *Router) Plug(sw string) error {
	return errors.Join(r.lab.Switch.setUp(r.port(sw), true), r.farEnd(sw, true))
}

// Mute makes the router's switch port drop everything both ways while the
// carrier stays; Unmute undoes it.
func (r *Router) Mute(sw string) error { return r.setPort(sw, brStateDisabled) }

// Unmute undoes Mute.
func (r *Router) Unmute(sw string) error { return r.setPort(sw, brStateForwarding) }

func (r *Router) setPort(sw string, state uint8) error {
	p, err := r.lab.Switch.nl.LinkByName(r.port(sw))
	if err != nil {
		return fmt.Errorf("find port %q: %w", r.port(sw), err)
	}
	return r.lab.Switch.portState(p, state)
}

// Port states of a bridge (linux/if_bridge.h BR_STATE_*).
const (
	brStateDisabled   = 0
	brStateForwarding = 3
)

// portState sets a bridge port's state, which takes effect at once; setting
// the link down waits for the kernel to wind the device down.
func (n *Namespace) portState(port netlink.Link, state uint8) error {
	return n.Run(func() error {
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(port.Attrs().Index)
		req.AddData(msg)
		info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
		info.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{state})
		req.AddData(info)
		if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
			return fmt.Errorf("set state of port %q to %d: %w", port.Attrs().Name, state, err)
		}
		return nil
	})
}

// Now is CLOCK_MONOTONIC in nanoseconds, the clock of every time in this
// repository.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprintf("netlab: read CLOCK_MONOTONIC: %v", err))
	}
	return ts.Nano()
}

// Since is the time from an instant of Now until now.
func Since(at int64) time.Duration { return time.Duration(Now() - at) }

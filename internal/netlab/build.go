// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LAN, WAN, Sync and DMZ name the switches; a switch port is called
// SWITCH.STATION, e.g. "lan.r1".
const (
	LAN  = "lan"
	WAN  = "wan"
	Sync = "sync"
	DMZ  = "dmz"
)

// ports maps interface indexes of switch ports to their names, for sniffers.
type ports struct {
	sync.RWMutex
	name map[int]string
}

func (p *ports) set(index int, name string) {
	p.Lock()
	defer p.Unlock()
	if p.name == nil {
		p.name = map[int]string{}
	}
	p.name[index] = name
}

func (p *ports) get(index int) (string, bool) {
	p.RLock()
	defer p.RUnlock()
	s, ok := p.name[index]
	return s, ok
}

func (l *Lab) build() (err error) {
	if l.Switch, err = newNamespace(l.Prefix + "-sw"); err != nil {
		return err
	}
	if err := l.buildSwitches(); err != nil {
		return err
	}
	if l.Client, err = l.host("client", LAN, ClientAddr, LANVIP.Addr()); err != nil {
		return err
	}
	if l.Server, err = l.host("server", WAN, ServerAddr, netip.Addr{}); err != nil {
		return err
	}
	if l.opts.DMZ {
		l.DMZ, err = l.host("dmz", DMZ, netip.MustParsePrefix("172.16.0.10/24"), netip.MustParseAddr("172.16.0.2"))
		if err != nil {
			return err
		}
	}
	if l.opts.IPv6 {
		err = errors.Join(l.Client.address("eth0", ClientAddr6), l.Server.address("eth0", ServerAddr6),
			l.Client.route6("eth0", LANRouter6.Addr()))
		if err != nil {
			return err
		}
	}
	l.R1, l.R2 = &Router{lab: l, Name: "r1", Index: 1}, &Router{lab: l, Name: "r2", Index: 2}
	err = errors.Join(l.R1.build(), l.R2.build())
	if l.opts.Third {
		l.R3 = &Router{lab: l, Name: "r3", Index: 3}
		err = errors.Join(err, l.R3.build())
	}
	return err
}

func (l *Lab) buildSwitches() error {
	kv := [][2]string{{"net/ipv6/conf/all/disable_ipv6", "1"}, {"net/ipv6/conf/default/disable_ipv6", "1"}}
	for _, k := range []string{"arptables", "iptables", "ip6tables"} {
		key := "net/bridge/bridge-nf-call-" + k // there only when br_netfilter is loaded
		if _, err := os.Stat("/proc/sys/" + key); err == nil {
			kv = append(kv, [2]string{key, "0"})
		}
	}
	if err := l.Switch.Sysctl(kv...); err != nil {
		return err
	}
	names := []string{LAN, WAN, Sync}
	if l.opts.DMZ {
		names = append(names, DMZ)
	}
	for _, name := range names {
		// Without snooping, as a plain switch: multicast goes to every port.
		snoop := false
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}, MulticastSnooping: &snoop}
		if err := l.Switch.nl.LinkAdd(br); err != nil {
			return fmt.Errorf("add switch %q: %w", name, err)
		}
		if err := l.Switch.nl.LinkSetUp(br); err != nil {
			return fmt.Errorf("set switch %q up: %w", name, err)
		}
	}
	return nil
}

// host makes a namespace with eth0 on a switch.
func (l *Lab) host(role, sw string, addr netip.Prefix, gateway netip.Addr) (*Namespace, error) {
	n, err := newNamespace(l.Prefix + "-" + role)
	if err != nil {
		return nil, err
	}
	err = n.Sysctl([2]string{"net/ipv6/conf/default/accept_dad", "0"},
		[2]string{"net/ipv4/ip_local_port_range", "32768 60999"})
	if err == nil {
		err = l.cable(sw, role, n, "eth0", mac(role, 0))
	}
	if err == nil {
		err = n.address("eth0", addr)
	}
	if err == nil && gateway.IsValid() {
		err = n.nl.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()})
	}
	if err == nil {
		err = errors.Join(n.awaitUp("eth0"), l.Switch.awaitUp(sw+"."+role))
	}
	if err != nil {
		return n, fmt.Errorf("build host %q: %w", n.Name, err)
	}
	return n, nil
}

// route6 makes a link-local router the default one.
func (n *Namespace) route6(iface string, by netip.Addr) error {
	link, err := n.nl.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s in %q: %w", iface, n.Name, err)
	}
	if err := n.nl.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: by.AsSlice()}); err != nil {
		return fmt.Errorf("route %q by %s: %w", n.Name, by, err)
	}
	return nil
}

// mac is the same at each build: a machine that lost power comes back with its
// own network cards.
func mac(role string, iface int) net.HardwareAddr {
	var n byte
	for i, r := range roles {
		if r == role {
			n = byte(i)
		}
	}
	return net.HardwareAddr{0x02, 't', 'l', 0, n, byte(iface)}
}

// cable makes a veth pair from a switch port to an interface of a namespace,
// both ends up.
func (l *Lab) cable(sw, station string, n *Namespace, iface string, hw net.HardwareAddr) error {
	port := sw + "." + station
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: iface,
		PeerHardwareAddr: hw, PeerNamespace: netlink.NsFd(n.handle),
	}
	if err := l.Switch.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("add cable %s to %s of %q: %w", port, iface, n.Name, err)
	}
	p, err := l.Switch.nl.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find port %q: %w", port, err)
	}
	br, err := l.Switch.nl.LinkByName(sw)
	if err != nil {
		return fmt.Errorf("find switch %q: %w", sw, err)
	}
	if err := l.Switch.nl.LinkSetMaster(p, br); err != nil {
		return fmt.Errorf("plug %s into switch %q: %w", port, sw, err)
	}
	if err := l.Switch.nl.LinkSetUp(p); err != nil {
		return fmt.Errorf("set port %q up: %w", port, err)
	}
	l.ports.set(p.Attrs().Index, port)
	return n.setUp(iface, true)
}

// awaitUp waits until frames pass an interface. The kernel notices a carrier in
// a work of its own, which queues for the machine's one rtnl lock: on a busy
// machine that takes a second.
func (n *Namespace) awaitUp(iface string) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		link, err := n.nl.LinkByName(iface)
		if err != nil {
			return fmt.Errorf("find %s in %q: %w", iface, n.Name, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("wait for %s in %q: it is still %s", iface, n.Name, link.Attrs().OperState)
		}
	}
}

func (n *Namespace) setUp(iface string, up bool) error {
	link, err := n.nl.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s in %q: %w", iface, n.Name, err)
	}
	set := n.nl.LinkSetDown
	if up {
		set = n.nl.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set %s in %q up=%t: %w", iface, n.Name, up, err)
	}
	return nil
}

func (n *Namespace) address(iface string, p netip.Prefix) error {
	link, err := n.nl.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s in %q: %w", iface, n.Name, err)
	}
	ipnet := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	if err := n.nl.AddrAdd(link, &netlink.Addr{IPNet: ipnet, Flags: unix.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("add %s to %s of %q: %w", p, iface, n.Name, err)
	}
	return nil
}

// Address puts an address on an interface, RemoveAddress takes it away.
func (n *Namespace) Address(iface string, p netip.Prefix) error { return n.address(iface, p) }

// RemoveAddress takes an address from an interface.
func (n *Namespace) RemoveAddress(iface string, p netip.Prefix) error {
	link, err := n.nl.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("find %s in %q: %w", iface, n.Name, err)
	}
	ipnet := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	return n.nl.AddrDel(link, &netlink.Addr{IPNet: ipnet})
}

// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/vip"
)

// ownProtocol marks the addresses that tandem itself installs (IFA_PROTO).
// What a killed process left behind is not the machine's own.
const ownProtocol = vip.Proto

// ownerPriority is the priority of the router that owns the addresses (RFC
// 9568 section 5.2.4).
const ownerPriority = 255

// machine is the interfaces of this network namespace.
type machine struct {
	names []string
	links map[string]netlink.Link
	addrs map[string][]netip.Prefix // without those that tandem installs
}

func readMachine() (*machine, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	m := &machine{links: make(map[string]netlink.Link), addrs: make(map[string][]netip.Prefix)}
	for _, l := range links {
		name := l.Attrs().Name
		m.names = append(m.names, name)
		m.links[name] = l
		list, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", name, err)
		}
		for _, a := range list {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && a.Protocol != ownProtocol {
				ones, _ := a.Mask.Size()
				m.addrs[name] = append(m.addrs[name], netip.PrefixFrom(ip.Unmap(), ones))
			}
		}
	}
	return m, nil
}

// has says whether an interface has exactly this address.
func (m *machine) has(iface string, ip netip.Addr) bool {
	return slices.ContainsFunc(m.addrs[iface], func(p netip.Prefix) bool { return p.Addr() == ip })
}

// hasFamily says whether it has any address of ip's family.
func (m *machine) hasFamily(iface string, v4 bool) bool {
	return slices.ContainsFunc(m.addrs[iface], func(p netip.Prefix) bool { return p.Addr().Is4() == v4 })
}

// hasLinkLocal says whether it has an IPv6 link-local address.
func (m *machine) hasLinkLocal(iface string) bool {
	return slices.ContainsFunc(m.addrs[iface], func(p netip.Prefix) bool { return p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() })
}

// speaks says whether a link can be spoken on without a listen-address: by an
// address of the peer's or the group's family; else by IPv4, or by an IPv6
// address that somebody gave.
func (m *machine) speaks(l config.Link) bool {
	switch {
	case len(l.Peer) > 0:
		return m.hasFamily(l.Interface, l.Peer[0].Is4())
	case l.Group.IsValid():
		return m.hasFamily(l.Interface, l.Group.Is4())
	}
	return slices.ContainsFunc(m.addrs[l.Interface], func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() || p.Addr().Is4() })
}

func (a *asker) interfaces() string {
	m, err := readMachine()
	if err != nil {
		a.fail(err.Error())
		return ""
	}
	var used []string
	for i := range a.cfg.VRRP.Groups {
		if g := &a.cfg.VRRP.Groups[i]; !g.Disable {
			a.group(m, g)
			used = append(used, g.Interface)
		}
	}
	if a.cfg.Capture.Advert == "xdp" {
		all := slices.Collect(maps.Values(m.links))
		for _, name := range slices.Compact(slices.Sorted(slices.Values(used))) {
			if l := m.links[name]; l != nil {
				a.xdp(l, all)
			}
		}
	}
	if a.cfg.Sync != nil {
		for _, l := range a.cfg.Sync.Links {
			a.link(m, l)
			used = append(used, l.Interface)
		}
	}
	slices.Sort(used)
	return strings.Join(slices.Compact(used), ", ") + " are there"
}

// exists refuses an interface that is not there.
func (a *asker) exists(m *machine, name, where string) bool {
	if m.links[name] == nil {
		a.fail(fmt.Sprintf("%s: %q: no such interface on this machine: there are %s", where, name, strings.Join(m.names, ", ")))
		return false
	}
	if m.links[name].Attrs().Flags&1 == 0 { // net.FlagUp
		a.warn(fmt.Sprintf("%s: %q: the interface is down: ip link set %s up", where, name, name))
	}
	return true
}

func (a *asker) group(m *machine, g *config.Group) {
	at := func(key string) string { return a.cfg.Where("vrrp", "group", g.Name, key) }
	if a.exists(m, g.Interface, at("interface")) {
		switch {
		case g.HelloSource.IsValid() && !m.has(g.Interface, g.HelloSource):
			a.warn(fmt.Sprintf("%s: %s is not an address of %s: adverts cannot be sent from it", at("hello-source-address"), g.HelloSource, g.Interface))
		case !g.HelloSource.IsValid() && g.IPv6() && !m.hasLinkLocal(g.Interface):
			a.warn(fmt.Sprintf("%s: %q has no IPv6 link-local address, which adverts are sent from: the group waits until it has one", at("interface"), g.Interface))
		case !g.HelloSource.IsValid() && !g.IPv6() && !m.hasFamily(g.Interface, true):
			a.warn(fmt.Sprintf("%s: %q has no IPv4 address of its own, which adverts are sent from: the group waits until it has one", at("interface"), g.Interface))
		}
		a.peers(m, g, at("peer-address"))
	}
	if g.NoAccept {
		if err := features.HaveProgramType(ebpf.Netfilter); err != nil {
			a.fail(fmt.Sprintf("%s: false needs netfilter programs, which this kernel has not (%v): boot Linux 6.4 or newer, or take the line out", at("accept-mode"), plain(err)))
		}
	}
	for _, i := range g.Track.Interfaces {
		if m.links[i.Name] == nil {
			a.warn(fmt.Sprintf("%s: %q: no such interface on this machine: it counts as down until it exists", at("track"), i.Name))
		}
	}
	for i, v := range g.Installed() {
		ip, key := v.Prefix.Addr(), "address"
		advertised := i < len(g.Addresses)
		if !advertised {
			key = "excluded-address"
		}
		if v.Interface != g.Interface && !a.exists(m, v.Interface, at(key)) {
			continue
		}
		if m.links[v.Interface] == nil {
			continue // said already
		}
		switch owns := m.has(v.Interface, ip); {
		case owns && g.Priority != ownerPriority:
			a.fail(fmt.Sprintf("%s: %s is %s's own address here: remove it from the interface, or, if this router owns it, write priority = 255",
				at(key), ip, v.Interface))
		case !owns && advertised && g.Priority == ownerPriority:
			a.fail(fmt.Sprintf("%s: 255 is for the router that owns the addresses, and %s has no %s: write 254 or less",
				at("priority"), v.Interface, ip))
		}
	}
}

// peers looks at those that adverts go to by unicast.
func (a *asker) peers(m *machine, g *config.Group, where string) {
	for _, p := range g.Peers {
		switch {
		case m.has(g.Interface, p.Addr):
			a.fail(fmt.Sprintf("%s: %s is this router's own address: name the other router's", where, p.Addr))
		case p.TTL == 255 && !p.Addr.IsLinkLocalUnicast() && !slices.ContainsFunc(m.addrs[g.Interface], func(n netip.Prefix) bool { return n.Masked().Contains(p.Addr) }):
			a.warn(fmt.Sprintf("%s: %s is in no network of %s: each router on the way takes one from the TTL, so give it a floor, for one router between { address = \"%s\", ttl-minimum = 254 }",
				where, p.Addr, g.Interface, p.Addr))
		}
	}
}

// otherLink names another sync link whose interface is there.
func (a *asker) otherLink(m *machine, l config.Link) string {
	for _, o := range a.cfg.Sync.Links {
		if o.Interface != l.Interface && m.links[o.Interface] != nil {
			return o.Interface
		}
	}
	return ""
}

func (a *asker) link(m *machine, l config.Link) {
	at := func(key ...string) string {
		return a.cfg.Where(append([]string{"conntrack-sync", "interface", l.Interface}, key...)...)
	}
	if other := a.otherLink(m, l); m.links[l.Interface] == nil && other != "" {
		a.warn(fmt.Sprintf("%s: %q: no such interface on this machine: tandem starts without it and waits for it, since %s is there", at(), l.Interface, other))
		return
	}
	if !a.exists(m, l.Interface, at()) {
		return
	}
	switch {
	case l.Listen.IsValid() && !m.has(l.Interface, l.Listen):
		a.fail(fmt.Sprintf("%s: %s is not an address of %s: give it to the interface, or take the line out", at("listen-address"), l.Listen, l.Interface))
	case !l.Listen.IsValid() && !m.speaks(l):
		a.fail(fmt.Sprintf("%s: the link has no address: give it one, as ip address add 192.168.255.1/30 dev %s", at(), l.Interface))
	case len(l.Peer) > 0 && m.has(l.Interface, l.Peer[0]):
		a.fail(fmt.Sprintf("%s: %s is this node's own address: name the other node's", at("peer"), l.Peer[0]))
	}
}

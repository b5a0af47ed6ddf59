// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func readLink(t *table) Link {
	defer t.finish()
	l := Link{
		Interface: t.name(),
		Listen:    t.address("listen-address"),
		Port:      uint16(t.number("port", DefaultPort, 1, 65535)),
		XDP:       t.choice("xdp", "auto", "auto", "off"),
	}
	l.Listen = onLink(l.Listen, l.Interface)
	if l.Listen.Zone() != "" {
		t.refuse("listen-address", l.Listen.String(), "is an address of another interface than %s", l.Interface)
	}
	if !isLink(l.Interface) {
		t.d.fault(t.key, "must be %s", linkRule)
	}
	peers, ok := t.list("peer")
	if ok && len(peers) == 0 {
		t.fault("peer", "empty list: name the peer's address, or take the line out and it is found on the link")
	}
	for _, s := range peers {
		a, err := netip.ParseAddr(s)
		a = onLink(a, l.Interface)
		switch {
		case err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.Is4In6():
			t.refuse("peer", s, `must be unicast addresses without prefix length, as ["192.168.255.2"]`)
		case a == l.Listen:
			t.refuse("peer", s, "is this node's own listen-address: name the other node's")
		case l.Listen.IsValid() && a.Is4() != l.Listen.Is4():
			t.refuse("peer", s, "must be of the family of listen-address, %s", l.Listen)
		case slices.Contains(l.Peer, a):
			t.refuse("peer", s, "stands there twice")
		default:
			l.Peer = append(l.Peer, a)
		}
	}
	readMulticast(&l, t)
	return l
}

// onLink takes a zone off that says what the table says.
func onLink(a netip.Addr, iface string) netip.Addr {
	if a.Zone() == iface {
		return a.WithZone("")
	}
	return a
}

// readMulticast reads where nodes call each other on a link without peers.
func readMulticast(l *Link, t *table) {
	s := t.text("mcast-group", "", "a multicast address, as \"225.0.0.50\" or \"ff02::5450\"", func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.IsMulticast() && a.Zone() == ""
	})
	if s == "" {
		return
	}
	l.Group = netip.MustParseAddr(s)
	switch {
	case len(l.Peer) > 0:
		t.refuse("mcast-group", s, "is not used where peers are named: keep one of the two lines")
	case l.Listen.IsValid() && l.Listen.Is4() != l.Group.Is4():
		t.refuse("mcast-group", s, "must be of the family of listen-address, %s", l.Listen)
	}
}

// checkLinks holds the links against the groups and against each other.
func checkLinks(root *table, c *Config) {
	key := func(l *Link, more ...string) []string {
		return append([]string{"conntrack-sync", "interface", l.Interface}, more...)
	}
	links := c.Sync.Links
	for i := range links {
		l := &links[i]
		for _, g := range c.VRRP.Groups {
			if g.Interface == l.Interface {
				root.d.fault(key(l), "carries group %s too: flows that leave by a sync link are not captured, "+
					"so the link needs an interface of its own (a VLAN will do)", g.Name)
			}
		}
		for j := range links[:i] {
			checkApart(root, key, &links[j], l)
		}
	}
}

// checkApart refuses a link that could be taken for an earlier one. IPv6
// addresses of link scope mean something on their interface only.
func checkApart(root *table, key func(*Link, ...string) []string, a, b *Link) {
	if a.Port != b.Port {
		root.d.fault(key(b, "port"), "%d: %s has %d: the port is the same on all links", b.Port, a.Interface, a.Port)
	}
	if b.Listen.IsValid() && b.Listen == a.Listen && !b.Listen.IsLinkLocalUnicast() {
		root.d.fault(key(b, "listen-address"), "%q: is that of %s already: each link needs an address of its own", b.Listen, a.Interface)
	}
	for _, p := range b.Peer {
		if slices.Contains(a.Peer, p) && !p.IsLinkLocalUnicast() {
			root.d.fault(key(b, "peer"), "%q: stands at %s already: name the address that the peer has on this link", p, a.Interface)
		}
	}
}

// rateUnits are those of rate, the larger ones first.
var rateUnits = []struct {
	unit string
	size float64
}{{"GB/s", 1e9}, {"MB/s", 1e6}, {"kB/s", 1e3}}

// rate gives bytes per second.
func (t *table) rate(name string, def int64) int64 {
	v, ok := t.get(name)
	if !ok {
		return def
	}
	s, _ := v.(string)
	for _, u := range rateUnits {
		n, found := strings.CutSuffix(s, u.unit)
		if f, err := strconv.ParseFloat(strings.TrimSpace(n), 64); found && err == nil && f*u.size >= minRate && f*u.size <= maxRate {
			return int64(f * u.size)
		}
	}
	t.refuse(name, v, `must be bytes per second from "100kB/s" to "10GB/s", as "50MB/s"`)
	return def
}

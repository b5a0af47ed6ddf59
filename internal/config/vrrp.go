// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"time"
)

// Bounds of [vrrp.group.NAME]. The advertisement interval is 12 bits of
// centiseconds on the wire (RFC 9568 section 5.2.7).
const (
	minAdvert       = 10 * time.Millisecond
	maxAdvert       = 4095 * 10 * time.Millisecond
	advertStep      = 10 * time.Millisecond
	defaultPriority = 100 // RFC 9568 section 6.1
)

func readVRRP(v *VRRP, t *table) {
	defer t.finish()
	p := t.table("global-parameters")
	version := int(p.number("version", 3, 2, 3))
	garp := readGARP(p, defaultGARP)
	for _, g := range t.table("group").tables() {
		v.Groups = append(v.Groups, readGroup(g, version, garp))
	}
	for _, s := range t.table("sync-group").tables() {
		v.SyncGroups = append(v.SyncGroups, readSyncGroup(s))
	}
	defer p.finish()
	v.StartupDelay = p.duration("startup-delay", 0, 0, maxStartupDelay, 0)
}

// readGroup reads a group; version and garp are those of groups that name none.
func readGroup(t *table, version int, garp GARP) Group {
	defer t.finish()
	g := Group{
		Name:         t.name(),
		Description:  t.text("description", "", "a line of text", func(s string) bool { return len(s) <= 255 }),
		Disable:      t.flag("disable"),
		Interface:    t.text("interface", "", linkRule, isLink),
		VRID:         uint8(t.number("vrid", 0, 1, 255)),
		Priority:     uint8(t.number("priority", defaultPriority, 1, 255)),
		NoPreempt:    t.flag("no-preempt"),
		PreemptDelay: t.duration("preempt-delay", 0, 0, maxPreemptDelay, 0),
	}
	if !isName(g.Name) {
		t.d.fault(t.key, "the group must have %s", nameRule)
	}
	if !t.has("interface") {
		t.fault("interface", `missing: name the interface that carries the adverts, as interface = "eth0"`)
	}
	if !t.has("vrid") {
		t.fault("vrid", "missing: write the virtual router's number, 1 to 255, the same on every router of the group")
	}
	g.Addresses = t.addresses("address", g.Interface)
	readWire(t, &g, version)
	readPlaces(t, &g, garp)
	g.Track = readTrack(t.table("track"))
	g.Check = t.check("health-check")
	g.Scripts = t.scripts("transition-script")
	return g
}

// addresses gives virtual addresses: strings, or tables that name another
// interface.
func (t *table) addresses(name, iface string) []Address {
	items, ok := t.items(name)
	if !ok {
		t.fault(name, `missing: give at least one virtual address, as %s = ["10.0.0.1/24"]`, name)
		return nil
	}
	if len(items) == 0 {
		t.fault(name, `empty list: give at least one virtual address, as %s = ["10.0.0.1/24"]`, name)
	}
	var out []Address
	for _, item := range items {
		if a, ok := t.oneAddress(name, iface, item); ok {
			out = append(out, a)
		}
	}
	return out
}

const addressRule = `must be an address with its prefix length, as "10.0.0.1/24", or { address = "10.0.0.1/24", interface = "eth0.9" }`

func (t *table) oneAddress(name, iface string, item any) (a Address, ok bool) {
	a.Interface = iface
	text, isText := item.(string)
	if m, isTable := item.(map[string]any); isTable {
		text, isText = m["address"].(string)
		for k, v := range m {
			s, isString := v.(string)
			if k != "address" && (k != "interface" || !isString || !isLink(s)) {
				t.refuse(name, item, addressRule)
				return a, false
			}
			if k == "interface" {
				a.Interface = s
			}
		}
	}
	var err error
	if a.Prefix, err = netip.ParsePrefix(text); err != nil {
		var ip netip.Addr
		if ip, err = netip.ParseAddr(text); err == nil {
			a.Prefix = netip.PrefixFrom(ip, ip.BitLen())
		}
	}
	if !isText || err != nil {
		t.refuse(name, item, addressRule)
		return a, false
	}
	return a, t.usable(name, item, a.Prefix)
}

// usable refuses what cannot be a host's address.
func (t *table) usable(name string, item any, p netip.Prefix) bool {
	ip := p.Addr()
	switch {
	case ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() || ip.Is4In6() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		t.refuse(name, item, "must be a unicast address that a host can have")
	case p.Bits() == 0:
		t.refuse(name, item, "the prefix length must be from 1 to %d", ip.BitLen())
	case ip.Is6() && p.Bits() < 127 && ip == p.Masked().Addr():
		t.refuse(name, item, "is the subnet-router anycast address of its network, not a host's")
	case ip.Is6():
		return true
	case p.Bits() < 31 && ip == p.Masked().Addr():
		t.refuse(name, item, "is the address of the network, not of a host in it")
	case p.Bits() < 31 && ip == lastOf(p):
		t.refuse(name, item, "is the broadcast address of its network, not a host's")
	default:
		return true
	}
	return false
}

// lastOf is the last address of an IPv4 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// address gives one plain address, invalid when absent.
func (t *table) address(name string) netip.Addr {
	v, ok := t.get(name)
	if !ok {
		return netip.Addr{}
	}
	s, _ := v.(string)
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
		t.refuse(name, v, `must be a unicast address without prefix length, as "10.0.0.2"`)
		return netip.Addr{}
	}
	return a
}

func readSyncGroup(t *table) SyncGroup {
	defer t.finish()
	s := SyncGroup{Name: t.name()}
	if !isName(s.Name) {
		t.d.fault(t.key, "the sync group must have %s", nameRule)
	}
	var ok bool
	if s.Member, ok = t.list("member"); !t.has("member") || (ok && len(s.Member) == 0) {
		t.fault("member", `missing: name the groups that change state together, as member = ["LAN", "WAN"]`)
	}
	s.Check = t.check("health-check")
	s.Scripts = t.scripts("transition-script")
	return s
}

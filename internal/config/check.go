// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"

	"github.com/BurntSushi/toml"
)

// owner is the priority of the router that owns the addresses (RFC 9568
// section 5.2.4).
const owner = 255

// checkVRRP holds groups and sync groups against each other.
func checkVRRP(root *table, v *VRRP, external bool) {
	if len(v.Groups) == 0 && !external && !root.d.hasGroups() {
		root.d.fault(toml.Key{"vrrp", "group"}, "missing: at least one group is needed, as a table [vrrp.group.LAN]")
	}
	checkVRIDs(root, v.Groups)
	checkAddresses(root, v.Groups)
	checkExcluded(root, v.Groups)
	member := make(map[string]string) // group -> its sync group
	for _, s := range v.SyncGroups {
		checkMembers(root, v, s, member)
		checkAlike(root, v, s)
	}
	for _, g := range v.Groups {
		if _, ok := member[g.Name]; !ok && slices.ContainsFunc(v.SyncGroups, func(s SyncGroup) bool { return s.Name == g.Name }) {
			root.d.fault(groupKey(g), "a sync group has the same name and this group is not in it: rename one of the two")
		}
	}
}

// hasGroups: a group that is there but faulty is not a missing one.
func (d *document) hasGroups() bool {
	return slices.ContainsFunc(d.md.Keys(), func(k toml.Key) bool { return len(k) > 2 && k[0] == "vrrp" && k[1] == "group" })
}

func groupKey(g Group, more ...string) toml.Key {
	return append(toml.Key{"vrrp", "group", g.Name}, more...)
}

// checkVRIDs: one virtual router per VRID, interface and family. Disabled
// groups count too: enabling one must not break the file.
func checkVRIDs(root *table, groups []Group) {
	type id struct {
		iface string
		vrid  uint8
		v6    bool
	}
	seen := make(map[id]string)
	for _, g := range groups {
		if g.VRID == 0 || g.Interface == "" {
			continue
		}
		k := id{g.Interface, g.VRID, g.IPv6()}
		if other, ok := seen[k]; ok {
			root.d.fault(groupKey(g, "vrid"), "%d: group %s has the same vrid on %s: each group of an interface needs its own", g.VRID, other, g.Interface)
			continue
		}
		seen[k] = g.Name
	}
}

func checkAddresses(root *table, groups []Group) {
	type place struct {
		netip.Addr
		link string // of a link-local one: each link may have it
	}
	seen := make(map[place]string)
	for _, g := range groups {
		for _, a := range g.Addresses {
			p := place{Addr: a.Prefix.Addr()}
			if p.Is6() && p.IsLinkLocalUnicast() {
				p.link = a.Interface
			}
			if other, ok := seen[p]; ok {
				root.d.fault(groupKey(g, "address"), "%q: stands in group %s already: an address belongs to one group, once", a.Prefix, other)
			}
			seen[p] = g.Name
		}
	}
}

func checkMembers(root *table, v *VRRP, s SyncGroup, member map[string]string) {
	key := toml.Key{"vrrp", "sync-group", s.Name, "member"}
	for _, name := range s.Member {
		i := slices.IndexFunc(v.Groups, func(g Group) bool { return g.Name == name })
		other, taken := member[name]
		switch {
		case i < 0:
			root.d.fault(key, "%q: no such group: %s", name, known("groups", v.Groups, func(g Group) string { return g.Name }))
		case v.Groups[i].Disable:
			root.d.fault(key, "%q: this group is disabled: take it out of the sync group, or enable it", name)
		case taken && other == s.Name:
			root.d.fault(key, "%q: stands there twice", name)
		case taken:
			root.d.fault(key, "%q: is a member of sync group %s already: a group can be in one only", name, other)
		default:
			member[name] = s.Name
		}
	}
}

// checkAlike refuses members that could not decide as one. The order of
// priorities across routers cannot be seen in one file: Against holds it
// against the other router's.
func checkAlike(root *table, v *VRRP, s SyncGroup) {
	var first *Group
	for i := range v.Groups {
		g := &v.Groups[i]
		if !slices.Contains(s.Member, g.Name) {
			continue
		}
		if first == nil {
			first = g
			continue
		}
		if g.NoPreempt != first.NoPreempt {
			root.d.fault(groupKey(*g, "no-preempt"), "%t: group %s of the same sync group %s has %t: members preempt together or not at all",
				g.NoPreempt, first.Name, s.Name, first.NoPreempt)
		}
		if (g.Priority == owner) != (first.Priority == owner) {
			root.d.fault(groupKey(*g, "priority"), "%d: group %s of the same sync group %s has %d: with 255 in one member all need it, since an owner never waits for the others",
				g.Priority, first.Name, s.Name, first.Priority)
		}
	}
}

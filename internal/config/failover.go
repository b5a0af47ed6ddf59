// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"
)

// readFailover reads whose role replication follows. VyOS has only the sync
// group.
func readFailover(s *Sync, t *table) {
	f := t.table("failover-mechanism")
	v := f.table("vrrp")
	s.SyncGroup = v.text("sync-group", "", nameRule, isName)
	s.Group = v.text("group", "", nameRule, isName)
	s.External = f.flag("external")
	s.Addresses = readMoved(f, s.External)
	v.finish()
	f.finish()
	const hint = `write failover-mechanism.vrrp.sync-group = "MAIN", or failover-mechanism.vrrp.group = "LAN", ` +
		`or failover-mechanism.external = true if another program elects`
	switch {
	case s.External && (v.has("sync-group") || v.has("group")):
		t.fault("failover-mechanism", "names a group, and another election (external): keep one of the two lines")
	case !v.has("sync-group") && !v.has("group") && !s.External:
		t.fault("failover-mechanism", "missing: %s", hint)
	case v.has("sync-group") && v.has("group"):
		t.fault("failover-mechanism", "names both a sync group and a group: keep one of the two lines")
	}
}

// readMoved reads the addresses that another election moves.
func readMoved(f *table, external bool) (out []netip.Addr) {
	l, ok := f.list("address")
	switch {
	case external && len(l) == 0:
		f.fault("address", `missing: name the virtual addresses that the other election moves, as address = ["10.0.0.1"]: `+
			`else they are taken for this router's own, and flows to them are not copied`)
	case ok && !external:
		f.fault("address", "is for external = true: those of a group stand in its own table")
	}
	for _, s := range l {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "":
			f.refuse("address", s, `must be addresses without prefix length, as ["10.0.0.1", "203.0.113.1"]`)
		case slices.Contains(out, a):
			f.refuse("address", s, "stands there twice")
		default:
			out = append(out, a)
		}
	}
	return out
}

// checkExternal: two elections would move one role.
func checkExternal(root *table, c *Config) {
	for _, g := range c.VRRP.Groups {
		root.d.fault(groupKey(g), "with failover-mechanism.external = true another program elects: take this table out")
	}
}

func checkFollowed(root *table, c *Config, key []string) {
	name := c.Sync.Group
	i := slices.IndexFunc(c.VRRP.Groups, func(g Group) bool { return g.Name == name })
	if i < 0 {
		root.d.fault(key, "%q: no such group: %s", name, known("groups", c.VRRP.Groups, func(g Group) string { return g.Name }))
		return
	}
	if c.VRRP.Groups[i].Disable {
		root.d.fault(key, "%q: this group is disabled", name)
	}
	for _, s := range c.VRRP.SyncGroups {
		if slices.Contains(s.Member, name) {
			root.d.fault(key, "%q: is a member of sync group %s, which decides: write failover-mechanism.vrrp.sync-group = %q", name, s.Name, s.Name)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Changes are what a running daemon does for another configuration. A set whose
// groups changed in what they are, or that has others, ends and begins anew; one
// that changed in anything else goes on.
type Changes struct {
	Tables []string // taken over in place: "[vrrp.group.LAN]"
	Ends   []string // names of sets that are gone
	Anew   []Set    // they end, and begin as they are now
	Begins []Set
}

// None says whether there is nothing to do.
func (c *Changes) None() bool { return len(c.Tables)+len(c.Ends)+len(c.Anew)+len(c.Begins) == 0 }

// String is "taken over: [vrrp.group.LAN]; ended: DMZ; began anew: MAIN; began: GUEST".
func (c *Changes) String() string {
	var parts []string
	for _, p := range []struct {
		what string
		list []string
	}{{"taken over", c.Tables}, {"ended", c.Ends}, {"began anew", Names(c.Anew)}, {"began", Names(c.Begins)}} {
		if len(p.list) > 0 {
			parts = append(parts, p.what+": "+strings.Join(p.list, ", "))
		}
	}
	return cmp.Or(strings.Join(parts, "; "), "nothing has changed")
}

// Changed compares a configuration with the one in force. The error says what
// cannot change while the daemon runs, and then nothing is to be taken over.
func (c *Config) Changed(next *Config) (out Changes, err error) {
	if stuck := c.stuck(next); len(stuck) > 0 {
		return Changes{}, fmt.Errorf("%s changed: while tandem runs only groups, sync groups, startup-delay, hooks.user and hooks.timeout can; "+
			"nothing was taken over: restart tandem for it, which hands the role over first", strings.Join(stuck, ", "))
	}
	was, is := c.VRRP.Sets(), next.VRRP.Sets()
	if len(was) > 0 && len(is) == 0 {
		return Changes{}, errors.New("no group is enabled any more: nothing was taken over; to end them all stop tandem")
	}
	for _, s := range was {
		if findSet(is, s.Name) == nil {
			out.Ends = append(out.Ends, s.Name)
		}
	}
	var anew []string // groups
	for _, s := range is {
		switch old := findSet(was, s.Name); {
		case old == nil:
			out.Begins = append(out.Begins, s)
		case !old.goesOnAs(&s):
			out.Anew = append(out.Anew, s)
		default:
			continue
		}
		for _, g := range s.Groups {
			anew = append(anew, g.Name)
		}
	}
	out.Tables = c.tables(next, anew)
	return out, nil
}

// stuck are the tables that changed and cannot while the daemon runs.
func (c *Config) stuck(next *Config) (out []string) {
	for _, t := range []struct {
		name string
		a, b any
	}{{"[hooks].start", c.Hooks.Unit, next.Hooks.Unit}, {"[node]", c.Node, next.Node}, {c.syncTable(next), c.Sync, next.Sync},
		{"[capture]", c.Capture, next.Capture}, {"[control]", c.Control, next.Control}, {"[metrics]", c.Metrics, next.Metrics}, {"[log]", c.Log, next.Log}} {
		if !reflect.DeepEqual(t.a, t.b) {
			out = append(out, t.name)
		}
	}
	return out
}

// syncTable says more where another set is to be followed.
func (c *Config) syncTable(next *Config) string {
	const name = "[conntrack-sync]"
	if c.Sync == nil || next.Sync == nil {
		return name
	}
	if old := cmp.Or(c.Sync.SyncGroup, c.Sync.Group); old != cmp.Or(next.Sync.SyncGroup, next.Sync.Group) {
		return name + " (the replication follows " + old + " from its start to its end)"
	}
	return name
}

// tables are those that are taken over in place: of what is there before and
// after, without the groups that begin.
func (c *Config) tables(next *Config, begin []string) (out []string) {
	note := func(name string, changed bool) {
		if changed {
			out = append(out, name)
		}
	}
	for _, g := range next.VRRP.Groups {
		i := slices.IndexFunc(c.VRRP.Groups, func(old Group) bool { return old.Name == g.Name })
		if i >= 0 && c.VRRP.Groups[i].Disable == g.Disable && !slices.Contains(begin, g.Name) {
			note("[vrrp.group."+g.Name+"]", !reflect.DeepEqual(c.VRRP.Groups[i], g))
		}
	}
	for _, s := range next.VRRP.SyncGroups {
		i := slices.IndexFunc(c.VRRP.SyncGroups, func(old SyncGroup) bool { return old.Name == s.Name })
		if i >= 0 && !slices.ContainsFunc(s.Member, func(m string) bool { return slices.Contains(begin, m) }) {
			note("[vrrp.sync-group."+s.Name+"]", !reflect.DeepEqual(c.VRRP.SyncGroups[i], s))
		}
	}
	note("[vrrp.global-parameters]", c.VRRP.StartupDelay != next.VRRP.StartupDelay)
	note("[hooks]", c.Hooks != next.Hooks)
	return out
}

// goesOnAs says whether a set that runs can become another one as it runs.
func (s *Set) goesOnAs(next *Set) bool {
	if len(s.Groups) != len(next.Groups) {
		return false
	}
	for i := range next.Groups {
		g := &next.Groups[i]
		old := slices.IndexFunc(s.Groups, func(o Group) bool { return o.Name == g.Name })
		if old < 0 || s.Groups[old].identity() != g.identity() {
			return false
		}
	}
	return true
}

// identity is what a group is as long as it runs.
type identity struct {
	Interface  string
	VRID       uint8
	Version    int
	IPv6       bool // what it elects over
	VirtualMAC bool
	MAC6       bool // it carries IPv6 addresses
	Owner      bool // an owner behaves otherwise, too
}

func (g *Group) identity() identity {
	id := identity{Interface: g.Interface, VRID: g.VRID, Version: g.Version, IPv6: g.IPv6(), VirtualMAC: g.VirtualMAC, Owner: g.Priority == owner}
	for _, a := range g.Installed() {
		id.MAC6 = id.MAC6 || g.VirtualMAC && a.Prefix.Addr().Is6() && (a.Interface == "" || a.Interface == g.Interface)
	}
	return id
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Changed compares a configuration with the one in force. what names the tables
// whose change can be taken over while the daemon runs; the error names those of
// which that is not so, and then nothing is to be taken over.
func (c *Config) Changed(next *Config) (what []string, err error) {
	var stuck []string
	note := func(where string, rest, changeable bool) {
		switch {
		case rest:
			stuck = append(stuck, where)
		case changeable:
			what = append(what, where)
		}
	}
	names := func(v *VRRP) (out []string) {
		for _, g := range v.Groups {
			out = append(out, "group "+g.Name)
		}
		for _, s := range v.SyncGroups {
			out = append(out, "sync-group "+s.Name)
		}
		return out
	}
	if !slices.Equal(names(&c.VRRP), names(&next.VRRP)) {
		note("the list of groups and sync groups", true, true)
	} else {
		for i := range c.VRRP.Groups {
			a, b := c.VRRP.Groups[i], next.VRRP.Groups[i]
			note("[vrrp.group."+a.Name+"]", !reflect.DeepEqual(a.fixed(), b.fixed()), !reflect.DeepEqual(a, b))
		}
		for i := range c.VRRP.SyncGroups {
			a, b := c.VRRP.SyncGroups[i], next.VRRP.SyncGroups[i]
			note("[vrrp.sync-group."+a.Name+"]", !slices.Equal(a.Member, b.Member), !reflect.DeepEqual(a, b))
		}
	}
	note("[hooks]", c.Hooks.Unit != next.Hooks.Unit, c.Hooks != next.Hooks)
	for _, t := range []struct {
		name string
		a, b any
	}{{"[node]", c.Node, next.Node}, {"[vrrp.global-parameters]", c.VRRP.StartupDelay, next.VRRP.StartupDelay}, {"[conntrack-sync]", c.Sync, next.Sync},
		{"[capture]", c.Capture, next.Capture}, {"[control]", c.Control, next.Control}, {"[metrics]", c.Metrics, next.Metrics}, {"[log]", c.Log, next.Log}} {
		note(t.name, !reflect.DeepEqual(t.a, t.b), false)
	}
	if len(stuck) > 0 {
		return nil, fmt.Errorf("%s changed: while tandem runs only address, excluded-address, garp, no-preempt, preempt-delay, priority (but 255), "+
			"description, track, health-check, transition-script, hooks.user and hooks.timeout can; nothing was taken over: "+
			"restart tandem for it, which hands the role over first", strings.Join(stuck, ", "))
	}
	return what, nil
}

// fixedGroup is a group without what may change while it runs.
type fixedGroup struct {
	Group
	IPv6  bool // what it elects over
	MAC6  bool // its virtual MAC carries IPv6 addresses
	Owner bool // an owner behaves otherwise, too
}

func (g Group) fixed() fixedGroup {
	f := fixedGroup{Group: g, IPv6: g.IPv6(), Owner: g.Priority == owner}
	for _, a := range g.Installed() {
		f.MAC6 = f.MAC6 || g.VirtualMAC && a.Prefix.Addr().Is6() && (a.Interface == "" || a.Interface == g.Interface)
	}
	f.Track, f.Check, f.Scripts, f.Description, f.Priority = Track{}, nil, Scripts{}, "", 0
	f.Addresses, f.Excluded, f.GARP, f.NoPreempt, f.PreemptDelay = nil, nil, GARP{}, false, 0
	return f
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Against says what two routers' files refuse in each other, that neither can
// show alone; nil when they go together. The faults stand in c's file.
func (c *Config) Against(o *Config) error {
	p := &pair{c: c, o: o}
	if c.Node.Name == o.Node.Name {
		p.fault(toml.Key{"node", "name"}, "%q: %s has the same: nodes of one name do not talk", c.Node.Name, o.Path)
	}
	for i := range c.VRRP.Groups {
		g := &c.VRRP.Groups[i]
		if other := o.group(g.Name); other != nil {
			p.group(g, other)
		}
	}
	for _, s := range c.VRRP.SyncGroups {
		p.order(s)
	}
	return errors.Join(p.faults...)
}

func (c *Config) group(name string) *Group {
	i := slices.IndexFunc(c.VRRP.Groups, func(g Group) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return &c.VRRP.Groups[i]
}

// pair is two files that are held against each other.
type pair struct {
	c, o   *Config
	faults []error
}

func (p *pair) fault(key toml.Key, format string, args ...any) {
	p.faults = append(p.faults, Fault{Path: p.c.Path, Line: p.c.line(key), Key: key.String(), Text: fmt.Sprintf(format, args...)})
}

// there is the place of a group's key in the other file, without the key.
func (p *pair) there(name, key string) string {
	place, _, _ := strings.Cut(p.o.Where("vrrp", "group", name, key), ": ")
	return place
}

// group holds what two routers of one group must have alike, or they do not
// hear each other.
func (p *pair) group(g, o *Group) {
	if g.VRID != o.VRID {
		p.fault(groupKey(*g, "vrid"), "%d: %s has %d: it is the same on every router of the group", g.VRID, p.there(g.Name, "vrid"), o.VRID)
	}
	if g.Version != o.Version {
		p.fault(groupKey(*g, "version"), "%d: %s has %d: routers that speak different versions do not hear each other", g.Version, p.there(g.Name, "version"), o.Version)
	}
	if g.Version == 2 && o.Version == 2 && g.AdvertInterval != o.AdvertInterval {
		p.fault(groupKey(*g, "advertise-interval"), "%q: %s has %q: version 2 drops the adverts of another interval",
			short(g.AdvertInterval), p.there(g.Name, "advertise-interval"), short(o.AdvertInterval))
	}
}

// order refuses members of which one router is the better one here and the
// other one there: preemption would never end. Equal priorities are decided by
// addresses, on each interface by itself.
func (p *pair) order(s SyncGroup) {
	var first *Group
	for _, name := range s.Member {
		g, o := p.c.group(name), p.o.group(name)
		if g == nil || o == nil {
			continue
		}
		if len(s.Member) > 1 && g.Priority == o.Priority {
			p.fault(groupKey(*g, "priority"), "%d: %s has the same, so that addresses decide, in each group of sync group %s by itself: give the two routers different priorities",
				g.Priority, p.there(name, "priority"), s.Name)
			return
		}
		if first == nil {
			first = g
			continue
		}
		f := p.o.group(first.Name)
		if cmp.Compare(g.Priority, o.Priority) != cmp.Compare(first.Priority, f.Priority) {
			p.fault(groupKey(*g, "priority"), "%d: %s has %d, and in group %s of the same sync group %s it is %d to %d: one router must be the better one in all members",
				g.Priority, p.there(name, "priority"), o.Priority, first.Name, s.Name, first.Priority, f.Priority)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// Bounds of health checks and scripts.
const (
	defaultCheckInterval = time.Minute // as VyOS has it
	minCheckInterval     = 100 * time.Millisecond
	maxCheckInterval     = time.Hour
	defaultCheckTimeout  = 5 * time.Second // or the interval, if that is shorter
	minCheckTimeout      = 10 * time.Millisecond
	defaultFailureCount  = 3 // as VyOS has it
	maxCount             = 100
	maxWeight            = 253
	defaultScriptTimeout = 30 * time.Second
	minScriptTimeout     = 100 * time.Millisecond
	maxScriptTimeout     = 10 * time.Minute
)

// Track is what a group follows beside its adverts.
type Track struct {
	Interfaces []TrackedInterface
	ExcludeOwn bool // exclude-vrrp-interface: the group's own interface may be down
}

// TrackedInterface is one entry of track.interface.
type TrackedInterface struct {
	Name   string
	Weight int // 0: down is a fault
}

// HealthCheck is health-check of a group or sync group.
type HealthCheck struct {
	Script       []string   // the program and its arguments; nil: a ping
	Ping         netip.Addr // valid: no script
	Interval     time.Duration
	Timeout      time.Duration
	FailureCount int // failures in a row that make it down
	Rise         int // successes in a row that make it up again
	Weight       int // 0: down is a fault
}

// Scripts is transition-script of a group or sync group; each a program and its
// arguments, nil for none.
type Scripts struct{ Active, Backup, Fault, Stop []string }

// All are the scripts that are configured, by their keys.
func (s *Scripts) All() map[string][]string {
	all := map[string][]string{"active": s.Active, "backup": s.Backup, "fault": s.Fault, "stop": s.Stop}
	for key, argv := range all {
		if argv == nil {
			delete(all, key)
		}
	}
	return all
}

// Hooks is [hooks]: how scripts are run.
type Hooks struct {
	User    string        // whom they run as
	Timeout time.Duration // of a transition script
	Unit    bool          // start = "unit": tandem run does not start tandem hooks
}

// Runs says whether there is anything for tandem hooks to do.
func (c *Config) Runs() bool {
	for _, g := range c.VRRP.Groups {
		if !g.Disable && (g.Check != nil || len(g.Scripts.All()) > 0) {
			return true
		}
	}
	return slices.ContainsFunc(c.VRRP.SyncGroups, func(s SyncGroup) bool { return s.Check != nil || len(s.Scripts.All()) > 0 })
}

func readHooks(t *table) Hooks {
	defer t.finish()
	return Hooks{
		User:    t.text("user", "root", "the name of a user", isName),
		Timeout: t.duration("timeout", defaultScriptTimeout, minScriptTimeout, maxScriptTimeout, 0),
		Unit:    t.choice("start", "run", "run", "unit") == "unit",
	}
}

const scriptRule = `the absolute path of a program, and its arguments behind spaces, as "/etc/tandem/check.sh eth3"`

// script gives a program and its arguments. There is no shell, so no quotes.
func (t *table) script(name string) []string {
	s := t.text(name, "", scriptRule, func(s string) bool {
		f := strings.Fields(s)
		return len(f) > 0 && filepath.IsAbs(f[0]) && !strings.ContainsAny(s, "\"'`$\x00\n")
	})
	if s == "" {
		return nil
	}
	return strings.Fields(s)
}

func (t *table) scripts(name string) (s Scripts) {
	sub := t.table(name)
	defer sub.finish()
	s = Scripts{Active: sub.script("active"), Backup: sub.script("backup"), Fault: sub.script("fault"), Stop: sub.script("stop")}
	master := sub.script("master") // VyOS's name
	if sub.has("master") && sub.has("active") {
		sub.fault("master", "is the old name of active: keep one of the two lines")
	}
	if master != nil {
		s.Active = master
	}
	return s
}

// check reads a health-check; nil when there is none.
func (t *table) check(name string) *HealthCheck {
	sub := t.table(name)
	if sub == nil {
		return nil
	}
	defer sub.finish()
	h := &HealthCheck{
		Script:       sub.script("script"),
		Interval:     sub.duration("interval", defaultCheckInterval, minCheckInterval, maxCheckInterval, 0),
		FailureCount: int(sub.number("failure-count", defaultFailureCount, 1, maxCount)),
		Rise:         int(sub.number("rise", 1, 1, maxCount)),
		Weight:       sub.weight("weight"),
	}
	h.Timeout = sub.duration("timeout", min(defaultCheckTimeout, h.Interval), minCheckTimeout, maxCheckInterval, 0)
	if h.Timeout > h.Interval {
		sub.refuse("timeout", short(h.Timeout), "must not be longer than the interval, %s", short(h.Interval))
	}
	h.Ping = sub.address("ping")
	switch {
	case sub.has("script") && sub.has("ping"):
		sub.fault("ping", "beside a script: a health check is one of the two, keep one of the lines")
	case !sub.has("script") && !sub.has("ping"):
		t.fault(name, `neither script nor ping: write script = "/etc/tandem/check.sh", or ping = "192.0.2.1"`)
	}
	return h
}

// weight gives what is added to the priority, 0 when absent.
func (t *table) weight(name string) int {
	v, ok := t.get(name)
	if !ok {
		return 0
	}
	n, isNumber := v.(int64)
	if !isNumber || n == 0 || n < -maxWeight || n > maxWeight {
		t.refuse(name, v, "must be a whole number from -%d to %d, and not 0: below 0 it is taken off the priority while the thing is down, "+
			"above 0 it is added while it is up; without a weight, down is a fault", maxWeight, maxWeight)
		return 0
	}
	return int(n)
}

const trackRule = `must be names of interfaces, as ["eth3"], or with a weight { name = "eth3", weight = -50 }`

func readTrack(t *table) (out Track) {
	defer t.finish()
	out.ExcludeOwn = t.flag("exclude-vrrp-interface")
	v, ok := t.get("interface")
	if !ok {
		return out
	}
	for _, item := range listOf(v) {
		i, good := t.trackedInterface(item)
		switch {
		case !good:
			t.refuse("interface", item, trackRule)
		case slices.ContainsFunc(out.Interfaces, func(o TrackedInterface) bool { return o.Name == i.Name }):
			t.refuse("interface", i.Name, "stands there twice")
		default:
			out.Interfaces = append(out.Interfaces, i)
		}
	}
	return out
}

// listOf gives the items of a list; what is none is a list of one.
func listOf(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case []map[string]any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
		return out
	}
	return []any{v}
}

func (t *table) trackedInterface(item any) (i TrackedInterface, ok bool) {
	m, isTable := item.(map[string]any)
	if !isTable {
		i.Name, ok = item.(string)
		return i, ok && isLink(i.Name)
	}
	i.Name, _ = m["name"].(string)
	weight, weighed := m["weight"]
	if len(m) != 1 && (len(m) != 2 || !weighed) || !isLink(i.Name) {
		return i, false
	}
	if n, isNumber := weight.(int64); weighed {
		if !isNumber || n == 0 || n < -maxWeight || n > maxWeight {
			return i, false
		}
		i.Weight = int(n)
	}
	return i, true
}

// checkTracking holds what is tracked against the groups.
func checkTracking(root *table, v *VRRP) {
	for _, g := range v.Groups {
		if g.Priority == owner && g.weighed() {
			root.d.fault(groupKey(g, "priority"), "%d: the owner of the addresses has one priority always, and this group tracks with a weight: "+
				"take the weight out, then a failure is a fault", g.Priority)
		}
	}
	for _, s := range v.SyncGroups {
		if s.Check == nil {
			continue
		}
		for _, g := range v.Groups {
			if !slices.Contains(s.Member, g.Name) {
				continue
			}
			if g.Check != nil {
				root.d.fault(groupKey(g, "health-check"), "sync group %s has a health-check of its own, which is one for all its members: keep one of the two", s.Name)
			}
			if g.Priority == owner && s.Check.Weight != 0 {
				root.d.fault(toml.Key{"vrrp", "sync-group", s.Name, "health-check", "weight"}, "%d: member %s has priority 255, which never changes: "+
					"take the line out, then a failure is a fault", s.Check.Weight, g.Name)
			}
		}
	}
}

// weighed: something that the group tracks changes its priority.
func (g *Group) weighed() bool {
	return g.Check != nil && g.Check.Weight != 0 ||
		slices.ContainsFunc(g.Track.Interfaces, func(i TrackedInterface) bool { return i.Weight != 0 })
}

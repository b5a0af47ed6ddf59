// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/event"
)

func scripts(name string) config.Scripts {
	one := func(s string) []string { return []string{"/etc/" + s, name} }
	return config.Scripts{Active: one("active"), Backup: one("backup"), Fault: one("fault"), Stop: one("stop")}
}

func testConfig() *config.Config {
	group := func(name, iface string, prio uint8) config.Group {
		return config.Group{Name: name, Interface: iface, VRID: 10, Priority: prio, Scripts: scripts(name),
			Addresses: []config.Address{{Prefix: netip.MustParsePrefix("10.0.0.1/24")}, {Prefix: netip.MustParsePrefix("10.0.0.2/24")}}}
	}
	c := &config.Config{Node: config.Node{Name: "r1"}, Hooks: config.Hooks{User: "root"}}
	c.VRRP.Groups = []config.Group{group("LAN", "eth0", 200), group("WAN", "eth1", 100), group("DMZ", "eth2", 50), group("OLD", "eth3", 50)}
	c.VRRP.Groups[3].Disable = true
	c.VRRP.Groups[1].Scripts = config.Scripts{}
	c.VRRP.SyncGroups = []config.SyncGroup{{Name: "MAIN", Member: []string{"LAN", "WAN"}, Scripts: scripts("MAIN")}}
	return c
}

func role(subject, to string) event.Event {
	return event.Event{Kind: event.Role, Subject: subject, Data: event.RoleData{To: to}}
}

func stopped(subject string) event.Event {
	return event.Event{Kind: event.Role, Subject: subject, Data: event.RoleData{To: "Initialize", Stopped: true}}
}

func addresses(subject string, in bool) event.Event {
	return event.Event{Kind: event.Address, Subject: subject, Data: event.AddressData{In: in}}
}

// programs are jobs in short: "active LAN".
func programs(jobs []job) (out []string) {
	for _, j := range jobs {
		out = append(out, strings.TrimPrefix(j.argv[0], "/etc/")+" "+j.argv[1])
	}
	return out
}

func TestPlan(t *testing.T) {
	for name, tt := range map[string]struct {
		events []event.Event
		want   []string
	}{
		"members first, then the sync group": {[]event.Event{role("MAIN", "Backup")}, []string{"backup LAN", "backup MAIN"}},
		"a group in none":                    {[]event.Event{role("DMZ", "Backup")}, []string{"backup DMZ"}},
		"active when the addresses are in": {[]event.Event{role("DMZ", "Backup"), role("DMZ", "Active"), addresses("DMZ", true)},
			[]string{"backup DMZ", "active DMZ"}},
		"never active without addresses": {[]event.Event{role("DMZ", "Backup"), role("DMZ", "Active"), role("DMZ", "Backup"), addresses("DMZ", true)},
			[]string{"backup DMZ"}},
		"addresses that were put back change nothing": {[]event.Event{role("DMZ", "Active"), addresses("DMZ", true), addresses("DMZ", true), addresses("DMZ", false)},
			[]string{"active DMZ"}},
		"back and forth, in order": {[]event.Event{role("DMZ", "Active"), addresses("DMZ", true), role("DMZ", "Backup"), role("DMZ", "Active"), addresses("DMZ", true)},
			[]string{"active DMZ", "backup DMZ", "active DMZ"}},
		"fault, and its end":        {[]event.Event{role("DMZ", "Initialize"), role("DMZ", "Backup")}, []string{"fault DMZ", "backup DMZ"}},
		"stop":                      {[]event.Event{role("DMZ", "Backup"), stopped("DMZ")}, []string{"backup DMZ", "stop DMZ"}},
		"what is known stays known": {[]event.Event{role("DMZ", "Backup"), role("DMZ", "Backup")}, []string{"backup DMZ"}},
		"nobody's": {[]event.Event{role("OLD", "Backup"), role("external", "Backup"), role("LAN", "Backup"),
			{Kind: event.Role, Subject: "MAIN"}, {Kind: event.Alarm, Subject: "MAIN"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlanner(testConfig())
			var got []string
			for i := range tt.events {
				got = append(got, programs(p.take(&tt.events[i]))...)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// A daemon that is gone has stopped everything that it did not say so of.
func TestPlanGone(t *testing.T) {
	p := newPlanner(testConfig())
	for _, e := range []event.Event{role("MAIN", "Active"), addresses("MAIN", true), role("DMZ", "Backup"), stopped("DMZ")} {
		p.take(&e)
	}
	if d := cmp.Diff([]string{"stop LAN", "stop MAIN"}, programs(p.gone())); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if again := p.gone(); again != nil {
		t.Errorf("a second time: %v", programs(again))
	}
	e := role("MAIN", "Backup") // it is back
	if d := cmp.Diff([]string{"backup LAN", "backup MAIN"}, programs(p.take(&e))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// The arguments and the environment are documented in docs/tracking.md.
func TestPlanTells(t *testing.T) {
	p := newPlanner(testConfig())
	e := event.Event{Seq: 7, Kind: event.Role, Subject: "MAIN", Data: event.RoleData{From: "Active", To: "Initialize", Reason: "LAN: interface eth0 is down", Priority: map[string]int{"LAN": 150}}}
	jobs := p.take(&e)
	if len(jobs) != 2 {
		t.Fatalf("%d jobs", len(jobs))
	}
	for i, want := range []struct{ argv, env []string }{
		{[]string{"/etc/fault", "LAN", "INSTANCE", "LAN", "FAULT", "150"},
			[]string{"TANDEM_ADDRESSES=10.0.0.1/24 10.0.0.2/24", "TANDEM_EVENT=7", "TANDEM_INTERFACE=eth0", "TANDEM_NAME=LAN", "TANDEM_NODE=r1", "TANDEM_PRIORITY=150",
				"TANDEM_REASON=LAN: interface eth0 is down", "TANDEM_STATE=fault", "TANDEM_TYPE=group", "TANDEM_VRID=10"}},
		{[]string{"/etc/fault", "MAIN", "GROUP", "MAIN", "FAULT", "150"},
			[]string{"TANDEM_EVENT=7", "TANDEM_NAME=MAIN", "TANDEM_NODE=r1", "TANDEM_PRIORITY=150", "TANDEM_REASON=LAN: interface eth0 is down",
				"TANDEM_STATE=fault", "TANDEM_TYPE=sync-group"}},
	} {
		slices.Sort(jobs[i].env)
		if d := cmp.Diff(want.argv, jobs[i].argv) + cmp.Diff(want.env, jobs[i].env); d != "" {
			t.Errorf("job %d (-want +got):\n%s", i, d)
		}
	}
	if argv := p.sets["MAIN"].groups[0].Scripts.Fault; len(argv) != 2 {
		t.Errorf("the configuration's own arguments grew: %v", argv)
	}
}

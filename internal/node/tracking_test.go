// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/track"
)

func trackedConfig() *config.Config {
	c := &config.Config{Node: config.Node{Name: "r1"}, Hooks: config.Hooks{User: "root"}}
	c.VRRP.Groups = []config.Group{
		{Name: "LAN", Priority: 200, Track: config.Track{Interfaces: []config.TrackedInterface{{Name: "eth3"}, {Name: "eth4", Weight: -50}}}},
		{Name: "WAN", Priority: 200, Track: config.Track{ExcludeOwn: true}},
		{Name: "DMZ", Priority: 100, Check: &config.HealthCheck{Ping: netip.MustParseAddr("192.0.2.1"), Weight: 20}},
		{Name: "OLD", Priority: 100, Disable: true, Check: &config.HealthCheck{Script: []string{"/a"}}},
		{Name: "BARE", Priority: 100},
	}
	c.VRRP.SyncGroups = []config.SyncGroup{{Name: "MAIN", Member: []string{"LAN", "WAN"}, Check: &config.HealthCheck{Script: []string{"/c", "x"}}}}
	return c
}

func newTestTracking() *tracking {
	return newTracking(trackedConfig(), event.New(64), slog.New(slog.DiscardHandler))
}

func (t *tracking) all() map[string]adverts.Tracked {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]adverts.Tracked{}
	for i := range t.board.Groups() {
		g := &t.board.Groups()[i]
		out[g.Name] = t.verdict(g)
	}
	return out
}

// A weight counts for all members, a fault of the sync group's check too; a
// fault of one member stays its own, since a set follows its members anyway.
func TestTrackedGroups(t *testing.T) {
	const shared, eth4 = "health-check of MAIN", "interface eth4"
	want := []track.Group{
		{Name: "LAN", Priority: 200, Things: []track.Thing{{ID: "interface eth3"}, {ID: eth4, Weight: -50}, {ID: shared}}},
		{Name: "WAN", Priority: 200, Things: []track.Thing{{ID: eth4, Weight: -50}, {ID: shared}}},
		{Name: "DMZ", Priority: 100, Things: []track.Thing{{ID: "health-check of DMZ", Weight: 20}}},
		{Name: "BARE", Priority: 100},
	}
	if d := cmp.Diff(want, trackedGroups(trackedConfig())); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestTrackingTells(t *testing.T) {
	tr := newTestTracking()
	tr.note("interface eth3", track.Up, "")
	tr.note("interface eth4", track.Down, "it does not exist")
	const unheard = "health-check of MAIN has not answered yet"
	if d := cmp.Diff(map[string]adverts.Tracked{
		"LAN": {Priority: 150, Fault: unheard}, "WAN": {Priority: 150, Fault: unheard, Loose: true}, "DMZ": {Priority: 100},
	}, tr.begin()); d != "" {
		t.Errorf("at the start (-want +got):\n%s", d)
	}
	word := func(main, dmz, why string) control.HooksWord {
		return control.HooksWord{Checks: []control.CheckWord{{Name: "health-check of MAIN", State: main, Why: why}, {Name: "health-check of DMZ", State: dmz},
			{Name: "health-check of the moon", State: "down"}}}
	}
	for _, step := range []struct {
		word                control.HooksWord
		lan, wan, dmz, bare adverts.Tracked
	}{
		{word("up", "up", ""), adverts.Tracked{Priority: 150}, adverts.Tracked{Priority: 150, Loose: true}, adverts.Tracked{Priority: 120}, adverts.Tracked{Priority: 100}},
		{word("down", "down", "exit status 1"), adverts.Tracked{Priority: 150, Fault: "health-check of MAIN: exit status 1"},
			adverts.Tracked{Priority: 150, Loose: true, Fault: "health-check of MAIN: exit status 1"}, adverts.Tracked{Priority: 100}, adverts.Tracked{Priority: 100}},
		// Another hooks process knows nothing yet: all stays.
		{word("unknown", "unknown", ""), adverts.Tracked{Priority: 150, Fault: "health-check of MAIN: exit status 1"},
			adverts.Tracked{Priority: 150, Loose: true, Fault: "health-check of MAIN: exit status 1"}, adverts.Tracked{Priority: 100}, adverts.Tracked{Priority: 100}},
		{word("up", "up", ""), adverts.Tracked{Priority: 150}, adverts.Tracked{Priority: 150, Loose: true}, adverts.Tracked{Priority: 120}, adverts.Tracked{Priority: 100}},
	} {
		tr.hooks(step.word)
		if d := cmp.Diff(map[string]adverts.Tracked{"LAN": step.lan, "WAN": step.wan, "DMZ": step.dmz, "BARE": step.bare}, tr.all()); d != "" {
			t.Errorf("after %+v (-want +got):\n%s", step.word.Checks, d)
		}
	}
	if d := cmp.Diff(map[string]int{"LAN": 150, "WAN": 150, "DMZ": 120, "BARE": 100}, tr.priorities()); d != "" {
		t.Errorf("priorities (-want +got):\n%s", d)
	}
	things := tr.things("DMZ")
	if len(things) != 1 || things[0].State != "up" || things[0].Weight != 20 || things[0].What != "ping 192.0.2.1" || things[0].Since.IsZero() {
		t.Errorf("DMZ tracks %+v", things)
	}
	var said []string
	for _, e := range tr.stream.History(0) {
		said = append(said, e.Subject+" "+e.Text)
	}
	if d := cmp.Diff([]string{"interface eth3 up", "interface eth4 down: it does not exist", "health-check of MAIN up", "health-check of DMZ up",
		"health-check of MAIN down: exit status 1", "health-check of DMZ down", "health-check of MAIN up", "health-check of DMZ up"}, said); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

// Done is this daemon's numbers only, and never goes back.
func TestTrackingRemembersDone(t *testing.T) {
	tr := newTestTracking()
	a := tr.hooks(control.HooksWord{Done: 9})
	if a.Done != 0 || !a.Started.Equal(tr.started) {
		t.Errorf("another daemon's number was taken: %+v", a)
	}
	for _, done := range []uint64{5, 0} {
		if a = tr.hooks(control.HooksWord{Done: done, Daemon: a.Started}); a.Done != 5 {
			t.Errorf("told %d, it answers %d", done, a.Done)
		}
	}
}

// Without tandem hooks a group waits, but not for ever; with a slow check it
// waits for that.
func TestTrackingLosesPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTestTracking()
		go func() { _ = tr.wait(t.Context()) }()
		time.Sleep(9 * time.Second)
		if tr.all()["WAN"].Fault == "" {
			t.Error("it did not wait")
		}
		if a := tr.alarms(time.Now()); len(a) != 0 {
			t.Errorf("alarms: %+v", a)
		}
		time.Sleep(1500 * time.Millisecond)
		if f := tr.all()["WAN"].Fault; f != "" {
			t.Errorf("it waits still: %s", f)
		}
		if a := tr.alarms(time.Now()); len(a) != 1 || a[0].Kind != "hooks" {
			t.Errorf("alarms: %+v", a)
		}
		tr.hooks(control.HooksWord{Checks: []control.CheckWord{{Name: "health-check of MAIN", State: "down", Why: "no"}}})
		if a := tr.alarms(time.Now()); len(a) != 1 || a[0].Kind != "tracked" || a[0].About != "health-check of MAIN" || a[0].Text != "down: no" {
			t.Errorf("alarms: %+v", a)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		tr := newTestTracking()
		go func() { _ = tr.wait(t.Context()) }()
		for range 15 {
			tr.hooks(control.HooksWord{Checks: []control.CheckWord{{Name: "health-check of MAIN", State: "unknown"}}})
			time.Sleep(2 * time.Second)
		}
		if tr.all()["WAN"].Fault == "" {
			t.Error("it did not wait for a check that is made")
		}
	})
}

// What was tracked before keeps its state, what is new counts as up until it
// answers, and a group that did not change hears nothing.
func TestTrackingReload(t *testing.T) {
	tr := newTestTracking()
	var err error
	if tr.links, err = track.OpenLinks(nil, func(name string, l track.Level, why string) { tr.note(track.InterfaceID(name), l, why) }); err != nil {
		t.Fatal(err)
	}
	defer tr.links.Close()
	tr.note("interface eth3", track.Down, "it is down, or has no carrier")
	tr.hooks(control.HooksWord{Checks: []control.CheckWord{{Name: "health-check of MAIN", State: "down", Why: "no"}, {Name: "health-check of DMZ", State: "down"}}})
	before := tr.begin()
	next := trackedConfig()
	next.VRRP.Groups[0].Track = config.Track{Interfaces: []config.TrackedInterface{{Name: "lo"}, {Name: "no-such", Weight: -10}}}
	next.VRRP.Groups[2].Check.Weight = 40                                                       // the same check
	next.VRRP.Groups[4].Check = &config.HealthCheck{Script: []string{"/new"}}                   // a new one
	next.VRRP.SyncGroups[0].Check = &config.HealthCheck{Ping: netip.MustParseAddr("192.0.2.9")} // another one
	tr.reload(next)
	if d := cmp.Diff(map[string]adverts.Tracked{
		"LAN": {Priority: 190}, "WAN": {Priority: 190, Loose: true}, "DMZ": {Priority: 100}, "BARE": {Priority: 100},
	}, tr.all()); d != "" {
		t.Errorf("afterwards (-want +got):\n%s", d)
	}
	if before["LAN"].Fault == "" {
		t.Error("LAN was not in fault before: this proves nothing")
	}
	if got := tr.things("BARE"); len(got) != 1 || got[0].State != "up" || got[0].What != "/new" || got[0].Why == "" {
		t.Errorf("BARE tracks %+v", got)
	}
	next.VRRP.Groups[0].Track = config.Track{}
	tr.hooks(control.HooksWord{Checks: []control.CheckWord{{Name: "health-check of MAIN", State: "down", Why: "no answer"}}})
	if f := tr.all()["LAN"].Fault; f != "health-check of MAIN: no answer" {
		t.Errorf("LAN: %q", f)
	}
}

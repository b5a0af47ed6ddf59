// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/vrrp"
)

// What a group tracks: a failure moves the whole set at once and by priority 0
// from each member, a weight makes it yield to the peer, and maintenance keeps it
// a Backup though nobody else is there.
func TestTracked(t *testing.T) {
	l, a, b := pair(t, 100*ms)
	none[Promoting](b, 300*ms)
	a.Track("WAN", Tracked{Fault: "health-check of WAN: exit status 1"})
	if e := await[Demoting](a, "Demoting", nil); e.Cause != vrrp.CauseUnwell {
		t.Errorf("demoted: %+v", e)
	}
	if e := await(b, "Promoting", promoted); e.Cause != vrrp.CausePriorityZero || e.Silence > 300*ms {
		t.Errorf("promotion: %+v", e)
	}
	eventually(t, 5*time.Second, "both members have released, and the reason is shown", func() bool {
		g := a.Status().Groups
		return g[0].Counters.SentPriZeroPackets == 1 && g[1].Counters.SentPriZeroPackets == 1 &&
			g[1].Reason == "health-check of WAN: exit status 1" && g[0].Reason == "another member of the sync group waits"
	})
	a.Track("WAN", Tracked{})
	await(a, "Promoting", promoted) // it is higher
	await(b, "Backup", func(e Changed) bool { return e.To == vrrp.Backup })

	// A weight: below the peer's priority in both groups, so that peer preempts.
	a.Track("LAN", Tracked{Priority: 50})
	a.Track("WAN", Tracked{Priority: 50})
	await(b, "Promoting", promoted)
	if e := await[Demoting](a, "Demoting", nil); e.Cause != vrrp.CauseHigherPriority {
		t.Errorf("demoted: %+v", e)
	}
	if g := a.Status().Groups; g[0].Priority != 50 || g[1].Priority != 50 {
		t.Errorf("priorities in force: %d, %d", g[0].Priority, g[1].Priority)
	}

	// Maintenance.
	b.SetAside(true)
	if e := await[Demoting](b, "Demoting", nil); e.Cause != vrrp.CauseMaintenance {
		t.Errorf("demoted: %+v", e)
	}
	await(a, "Promoting", promoted)
	a.Stop()
	none[Promoting](b, 600*ms)
	b.SetAside(false)
	await(b, "Promoting", promoted)
	_ = l
}

// A set that is in fault from the first moment never speaks, whatever its
// priority; and before the startup delay is over nobody does.
func TestTrackedAtStart(t *testing.T) {
	l := newLab(t)
	a := l.start(1, Config{Groups: groups(200, 50*ms), StartupDelay: 400 * ms, Tracked: map[string]Tracked{"LAN": {Fault: "health-check of LAN has not answered yet"}}})
	ready := await[Ready](a, "Ready", nil)
	a.Track("LAN", Tracked{})
	eventually(t, 5*time.Second, "reason: startup delay", func() bool { return a.Status().Groups[0].Reason == "startup delay" })
	e := await[Changed](a, "a change", nil)
	if d := time.Duration(e.At - ready.At); e.To != vrrp.Backup || d < 400*ms {
		t.Errorf("it left Initialize for %v after %v", e.To, d)
	}
	b := l.start(2, Config{Groups: groups(100, 50*ms), Tracked: map[string]Tracked{"LAN": {Fault: "health-check of LAN has not answered yet"}}})
	await[Ready](b, "Ready", nil)
	none[Promoting](b, 300*ms)
	if r := b.Status().Groups[0].Reason; r != "health-check of LAN has not answered yet" {
		t.Errorf("reason %q", r)
	}
}

// exclude-vrrp-interface: a group goes on while its interface has no carrier.
func TestLooseInterface(t *testing.T) {
	l := newLab(t)
	a := l.start(1, Config{Groups: groups(200, 50*ms), Tracked: map[string]Tracked{"WAN": {Loose: true}}})
	await[AddressesIn](a, "AddressesIn", nil)
	run(t, "ip", "-n", l.sw, "link", "set", "r1wan", "down")
	none[Demoting](a, 300*ms)
	a.Track("WAN", Tracked{})
	if e := await[Demoting](a, "Demoting", nil); e.Cause != vrrp.CauseInterfaceDown {
		t.Errorf("demoted: %+v", e)
	}
}

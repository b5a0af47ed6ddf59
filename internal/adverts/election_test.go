// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/vrrp"
)

const ms = time.Millisecond

func promoted(e Promoting) bool { return e.Set == "MAIN" }

// pair starts both routers; the first becomes Active.
func pair(t *testing.T, interval time.Duration) (l *lab, a, b *router) {
	l = newLab(t)
	a = l.start(1, Config{Groups: groups(200, interval)})
	await(a, "AddressesIn", func(e AddressesIn) bool { return e.Set == "MAIN" })
	b = l.start(2, Config{Groups: groups(100, interval)})
	await(b, "Backup", func(e Changed) bool { return e.To == vrrp.Backup })
	return l, a, b
}

func TestElection(t *testing.T) {
	_, a, b := pair(t, 100*ms)
	none[Promoting](b, 500*ms)
	a.wantAddress("eth0", "10.1.0.100", true)
	a.wantAddress("eth1", "10.2.0.100", true)
	b.wantAddress("eth0", "10.1.0.100", false)
	for _, g := range b.Status().Groups {
		if g.State != vrrp.Backup || g.ActivePriority != 200 || g.ActiveInterval != 100*ms {
			t.Errorf("status of the Backup: %+v", g)
		}
	}
	for _, g := range a.Status().Groups {
		if g.State != vrrp.Active || !g.AddressesIn || g.Counters.SentAdvertisements < 5 {
			t.Errorf("status of the Active: %+v", g)
		}
	}
}

func TestStopIsPriorityZero(t *testing.T) {
	_, a, b := pair(t, 100*ms)
	none[Promoting](b, 300*ms)
	a.Stop()
	e := await(b, "Promoting", promoted)
	if e.Cause != vrrp.CausePriorityZero || e.Silence > 300*ms { // no Active_Down_Interval
		t.Errorf("promotion: %+v", e)
	}
	await[AddressesIn](b, "AddressesIn", nil)
	a.wantAddress("eth0", "10.1.0.100", false)
	b.wantAddress("eth0", "10.1.0.100", true)
}

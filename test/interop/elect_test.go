// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
)

// other is another program's VRRP on r2, in the same virtual router as tandem.
type other interface {
	start(priority int)
	stop()
	active() bool
}

// wire is a way to elect.
type wire struct {
	name     string
	interval time.Duration
	group    string // tandem's keys
	source   string // tandem's address
	peer     string // the other's
	short    bool   // without silences and second Actives, which take long at 1 s
	judge    advert
}

// down is Active_Down_Interval of a priority, skew the last part of it.
func (w *wire) down(priority int) time.Duration { return 3*w.interval + w.skew(priority) }
func (w *wire) skew(priority int) time.Duration {
	return w.interval * time.Duration(256-priority) / 256
}

// late is what the programs and a busy machine may need beyond: all that is
// waited for so long comes at once where the machine is idle.
const late = 15 * time.Second

// elect has tandem, priority 100, elect with another program: as the Active
// and as the Backup, taking over, preempting, giving the role up, winning and
// losing against a second Active.
func elect(t *testing.T, l *lab, w *wire, o other) {
	n := l.run(l.r1, 100, w.group)
	n.await(control.RoleActive, w.down(100)+late)

	o.start(200)
	g := n.await(control.RoleBackup, w.down(200)+2*late)
	eventually(t, late, "the other is Active", o.active)
	if g.ActiveAddress != w.peer || g.ActivePriority != 200 || g.ActiveMS != float64(w.interval.Milliseconds()) {
		t.Errorf("tandem sees %s, priority %d, each %v ms; want %s, 200, %v", g.ActiveAddress, g.ActivePriority, g.ActiveMS, w.peer, w.interval)
	}
	if g.Checksum != "" && g.ChecksumHeard != "pseudo-header" {
		t.Errorf("tandem heard a checksum %q", g.ChecksumHeard)
	}
	if w.short {
		time.Sleep(2 * w.interval)
	} else {
		never(t, w.down(100)+w.interval, "tandem leaves Backup while the Active speaks", func() bool { return !n.is(control.RoleBackup) })
		// The Active falls silent, and comes back.
		l.filter("out")
		n.await(control.RoleActive, w.down(100)+late)
		l.filter("")
		n.await(control.RoleBackup, 2*w.interval+late)
	}

	zeroes := n.group().Counters.PriZeroRcvd
	asked := time.Now()
	o.stop()
	n.await(control.RoleActive, w.down(100)+late)
	if g := n.group(); g.Counters.PriZeroRcvd != zeroes+1 {
		t.Errorf("tandem heard priority 0 %d times after the other stopped, want once", g.Counters.PriZeroRcvd-zeroes)
	}
	t.Logf("tandem was Active %v after the other was told to stop (Skew_Time %v)", n.group().Since.Sub(asked).Round(time.Millisecond), w.skew(100))

	if w.short {
		w.stopped(l, n)
		return
	}
	o.start(50)
	never(t, w.down(50)+w.interval, "a Backup of lower priority takes the role", o.active)
	l.filter("in") // it does not hear tandem any more, tandem hears it
	eventually(t, w.down(50)+late, "the deaf one is Active", o.active)
	eventually(t, 4*w.interval+late, "tandem counts another Active", func() bool { return n.group().Counters.TwoActives > 1 })
	if !n.is(control.RoleActive) {
		t.Error("tandem gave the role to a losing advert")
	}
	l.filter("")
	eventually(t, 2*w.interval+late, "the other steps back", func() bool { return !o.active() })

	n.stop()
	eventually(t, w.down(50)+late, "the other takes over", o.active)
	n = l.run(l.r1, 100, w.group)
	n.await(control.RoleActive, w.down(100)+late)
	eventually(t, late, "the other lets it have the role", func() bool { return !o.active() })
	if c := n.group().Counters; c.VersionErrors+c.ChecksumErrors+c.TTLErrors+c.CountZeroErrors+c.PacketLengthErrors+c.AuthTypeErrors+
		c.AuthFailures+c.AdvertIntervalErrors+c.LinkLocalErrors+c.AddressListErrors+c.PeerErrors != 0 {
		t.Errorf("tandem found fault with the other's adverts: %+v", c)
	}
	w.stopped(l, n)
}

// stopped stops tandem and has everything judged that it sent.
func (w *wire) stopped(l *lab, n *node) {
	l.t.Helper()
	n.stop()
	l.judge(w)
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/vrrp"
)

// A set in fault from the start is told of once, one that changed is not; the
// reason that is shown is the present one.
func TestStandingFault(t *testing.T) {
	e := newElection("", event.New(16), slog.New(slog.DiscardHandler))
	e.standing(&adverts.GroupStatus{Name: "LAN", Set: "MAIN", Reason: "startup delay"})
	e.standing(&adverts.GroupStatus{Name: "LAN", Set: "MAIN", Fault: true, Reason: "health-check of LAN has not answered yet"})
	e.standing(&adverts.GroupStatus{Name: "LAN", Set: "MAIN", Fault: true, Reason: "interface eth0 does not exist"})
	e.standing(&adverts.GroupStatus{Name: "LAN", Set: "MAIN", Fault: true, Reason: "interface eth0 is down"})
	if got := e.set("MAIN").Reason; got != "LAN: interface eth0 is down" {
		t.Errorf("it is shown as %q", got)
	}
	e.changed(adverts.Changed{Set: "DMZ", From: vrrp.Initialize, To: vrrp.Backup})
	e.changed(adverts.Changed{Set: "DMZ", From: vrrp.Backup, To: vrrp.Initialize, Reason: "DMZ: interface eth2 is down"})
	e.standing(&adverts.GroupStatus{Name: "DMZ", Set: "DMZ", Fault: true, Reason: "interface eth2 does not exist"})
	var said []string
	for _, v := range e.stream.History(0) {
		d, ok := event.DataOf[event.RoleData](&v)
		if !ok {
			t.Errorf("%q has no data", v.Text)
		}
		said = append(said, v.Subject+" "+d.To+": "+d.Reason)
	}
	if d := cmp.Diff([]string{"MAIN Initialize: LAN: interface eth0 does not exist", "DMZ Backup: ", "DMZ Initialize: DMZ: interface eth2 is down"}, said); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if s := e.set("DMZ"); s.Role != control.RoleInitialize || s.Reason != "DMZ: interface eth2 does not exist" {
		t.Errorf("DMZ is shown as %+v", s)
	}
	// The stop is none.
	e.stopping.Store(true)
	e.changed(adverts.Changed{Set: "DMZ", From: vrrp.Backup, To: vrrp.Initialize, Reason: "DMZ: stopped"})
	last := e.stream.History(3)
	if d, _ := event.DataOf[event.RoleData](&last[0]); !d.Stopped {
		t.Errorf("a stop is told as %+v", d)
	}
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/vrrp"
)

// A set that a reload ends says that it stops, once, whatever its role was; its
// alarms are over, and nothing is left of it. The others hear nothing.
func TestEnded(t *testing.T) {
	e := newElection("", event.New(16), slog.New(slog.DiscardHandler))
	e.changed(adverts.Changed{Set: "MAIN", From: vrrp.Initialize, To: vrrp.Backup})
	e.changed(adverts.Changed{Set: "STAY", From: vrrp.Initialize, To: vrrp.Backup})
	for _, group := range []string{"LAN", "STAY"} {
		e.alarm(adverts.Alarm{Set: "MAIN", Group: group, Kind: adverts.AlarmSend, On: true, Text: "no room"})
	}
	e.ending["MAIN"], e.ending["DMZ"] = false, false
	e.changed(adverts.Changed{Set: "MAIN", From: vrrp.Backup, To: vrrp.Initialize, Reason: "LAN: stopped"})
	e.ended(adverts.Ended{Set: "MAIN", Groups: []string{"LAN", "WAN"}})
	e.ended(adverts.Ended{Set: "DMZ", Groups: []string{"DMZ"}}) // was in Initialize
	var said []string
	for _, v := range e.stream.History(0)[2:] {
		line := v.Subject + " " + v.Text
		if d, ok := event.DataOf[event.RoleData](&v); ok && d.Stopped {
			line = v.Subject + " stops"
		}
		said = append(said, line)
	}
	if d := cmp.Diff([]string{"LAN no room", "STAY no room", "MAIN stops", "LAN over: no room", "DMZ stops"}, said); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(e.alarms) != 1 || len(e.sets) != 1 || len(e.unended()) != 0 {
		t.Errorf("left: alarms %v, sets %v, ending %v", e.alarms, e.sets, e.ending)
	}
	e.changed(adverts.Changed{Set: "MAIN", From: vrrp.Initialize, To: vrrp.Backup})
	if s := e.set("MAIN"); s.Role != "Backup" {
		t.Errorf("another of its name: %+v", s)
	}
}

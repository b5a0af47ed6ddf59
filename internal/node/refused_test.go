// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
)

// One stray advert is none; a router that speaks otherwise is an alarm, once,
// until it has been silent for a while.
func TestRefusedAdverts(t *testing.T) {
	r := refused{}
	g := []control.VRRPGroup{{Name: "LAN", VRID: 10, Interface: "eth0", Version: 3, AdvertMS: 1000}}
	now := time.Now()
	step := func(after time.Duration, versions uint64, want int) {
		t.Helper()
		now = now.Add(after)
		g[0].Counters.VersionErrors = versions
		if got := r.look(g, now); len(got) != want || (want == 1 && (got[0].Kind != "advert-version" || got[0].About != "LAN")) {
			t.Errorf("%d refused: alarms %+v, want %d", versions, got, want)
		}
	}
	step(0, 0, 0)
	step(time.Second, 1, 0)
	step(time.Second, 2, 0)
	step(11*time.Second, 2, 0)
	step(time.Second, 3, 0) // the former are long ago
	step(time.Second, 4, 0)
	step(time.Second, 5, 1)
	step(9*time.Second, 5, 1)
	step(2*time.Second, 5, 0)
	step(time.Second, 1000, 1)
}

// Each reason has a sentence that names the group's VRID, interface and what to do.
func TestMisfits(t *testing.T) {
	g := control.VRRPGroup{Name: "LAN", VRID: 10, Interface: "eth0", Version: 3}
	kinds := map[string]bool{}
	for _, m := range misfits(&g) {
		if kinds[m.kind] || !strings.HasPrefix(m.text, "adverts for VRID 10 on eth0 ") || !strings.Contains(m.text, ": ") {
			t.Errorf("%s: %s", m.kind, m.text)
		}
		kinds[m.kind] = true
	}
	unicast := control.VRRPGroup{VRRPWire: control.VRRPWire{Peers: []control.VRRPPeer{{Address: "10.0.0.2"}}}}
	for i, m := range misfits(&unicast) {
		if m.kind == "peer" && m.text == misfits(&g)[i].text {
			t.Errorf("with peers and without: %s", m.text)
		}
	}
}

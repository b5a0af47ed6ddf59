// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// A ruleset that drops the sync link's port: the status says that nothing is
// heard though the carrier is up, and why that may be. Adverts still come, so
// nobody changes role. Without the rule all is well again.
func TestRefusedPortIsExplained(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	r1, r2 := p.Lab.R1, p.Lab.R2
	if text := run(t, r2, "status", "--socket", socket(p, r2)); strings.Contains(text, "nothing was heard") {
		t.Fatalf("status complains before anything happened:\n%s", text)
	}
	if err := r2.RefuseUDP(link.DefaultPort); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, 10*time.Second, "an alarm of r2", func() bool { return len(silent(t, p, r2)) == 1 })
	eventually(t, 5*time.Second, "r2 missing its peer", func() bool { return !ask(t, p, r2).Sync.Peers[0].Heard })
	text := run(t, r2, "status", "--socket", socket(p, r2))
	t.Logf("said after %s:\n%s", took.Round(10*time.Millisecond), text)
	for _, want := range []string{"ALARM", "nothing was heard though eth2 has a carrier", "is tandem running on the peer", "firewall", "UDP 3781"} {
		if !strings.Contains(text, want) {
			t.Errorf("status does not say %q", want)
		}
	}
	var s control.Status
	if err := json.Unmarshal([]byte(run(t, r2, "-j", "status", "--socket", socket(p, r2))), &s); err != nil {
		t.Fatal(err)
	}
	if l := s.Sync.Links[0]; l.Heard || !l.Carrier || l.Hint == "" {
		t.Errorf("status -j has %+v", l)
	}
	// r1 hears r2, but nobody answers it: it must know that its copy is stale.
	path := drill.Paths(p.Lab)[0]
	listen(t, path)
	c := dial(t, path)
	eventually(t, 10*time.Second, "r1 knowing that r2 lacks a flow", func() bool {
		peer := ask(t, p, r1).Sync.Peers[0]
		return peer.BacklogFlows == 1 && !peer.PeerComplete && peer.BacklogMS > 500
	})
	if text := run(t, r1, "status", "--socket", socket(p, r1)); !strings.Contains(text, "connections would be LOST") {
		t.Errorf("status of r1 does not warn:\n%s", text)
	}
	if got := flows(t, p, r2, control.FlowQuery{Source: control.SourceView}); len(got) != 0 {
		t.Errorf("r2 hears nothing, and has %v", got)
	}
	if a, b := ask(t, p, r1).Sets[0].Role, ask(t, p, r2).Sets[0].Role; a != control.RoleActive || b != control.RoleBackup {
		t.Errorf("r1 is %s, r2 is %s: the sync link's silence is no election", a, b)
	}
	if _, err := r2.NS.Output(t.Context(), "nft", "delete", "chain", "ip", "lab", "input"); err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitReady(t.Context(), r1, 15*time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "what was missed copied", func() bool {
		return flows(t, p, r2, control.FlowQuery{Source: control.SourceView})[keyOf("tcp", c)] == 1
	})
	for _, r := range p.Lab.Routers() {
		eventually(t, 10*time.Second, "no alarm of "+r.Name, func() bool { return len(silent(t, p, r)) == 0 })
	}
}

// A pulled cable is told apart from a firewall.
func TestPulledCableIsExplained(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	r2 := p.Lab.R2
	if _, err := r2.Unplug(netlab.Sync); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "an alarm of r2", func() bool { return len(silent(t, p, r2)) == 1 })
	text := run(t, r2, "status", "--socket", socket(p, r2))
	if !strings.Contains(text, "eth2 has no carrier") || strings.Contains(text, "firewall") {
		t.Errorf("status says:\n%s", text)
	}
	if err := r2.Plug(netlab.Sync); err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitReady(t.Context(), p.Lab.R1, 15*time.Second); err != nil {
		t.Fatal(err)
	}
}

// silent are a router's alarms about a silent link.
func silent(t *testing.T, p *drill.Pair, r *netlab.Router) (out []control.Alarm) {
	t.Helper()
	for _, a := range ask(t, p, r).Alarms {
		if a.Kind == "link-silent" {
			out = append(out, a)
		}
	}
	return out
}

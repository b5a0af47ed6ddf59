// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// A weight: an interface that one member tracks goes down, and the two exchange
// the roles without losing a packet; when it is back, again.
func TestWeightHandsOver(t *testing.T) {
	p := drill.PrepareForTest(t, netlab.Options{}, drill.PairOptions{Edit: within("[vrrp.group.LAN]", `track.interface = { name = "up0", weight = -150 }`)})
	r1, r2 := p.Lab.R1, p.Lab.R2
	link := func(r *netlab.Router, args ...string) {
		t.Helper()
		if _, err := r.NS.Output(t.Context(), "ip", append([]string{"link"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	link(r2, "add", "up0", "up", "type", "bridge")
	start(t, p, r1) // its interface is late
	start(t, p, r2)
	if _, err := p.AwaitRole(t.Context(), r2, control.RoleActive, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if g := ask(t, p, r1).Groups; g[0].EffectivePriority != 50 || g[1].EffectivePriority != 50 {
		t.Errorf("r1 without the interface has priorities %d, %d", g[0].EffectivePriority, g[1].EffectivePriority)
	}
	pr := startProbe(t, p.Lab)
	if err := p.AwaitCopied(t.Context(), r2, 1, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what   string
		args   []string
		active *netlab.Router
	}{
		{"the interface comes", []string{"add", "up0", "up", "type", "bridge"}, r1},
		{"it goes down", []string{"set", "up0", "down"}, r2},
	} {
		at := netlab.Now()
		link(r1, step.args...)
		if err := p.AwaitReady(t.Context(), step.active, 15*time.Second); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		time.Sleep(500 * time.Millisecond)
		pr.none(t, step.what, at)
	}
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// thereAndBack is how long A, B, A may take.
const thereAndBack = 5 * time.Second

// fast moves more than a whole TCP window within each turn.
var fast = load.Mix{Steady: 10, Idle: 5, Bulk: 12, UDP: 20, BulkRate: 1_500_000}

// A, B, A within five seconds under bulk TCP: the streams go on. When A is
// Active again its old entries have windows of seconds ago; unhealed, every
// segment is INVALID and the streams stand still.
func TestThereAndBack(t *testing.T) {
	for _, c := range []struct {
		name     string
		go1, go2 func(s *scene) error
	}{
		{"stop and start", func(s *scene) error { return s.Stop(s.Lab.R1) }, func(s *scene) error { return s.Start(s.Lab.R1) }},
		{"interface down and up", func(s *scene) error { _, err := s.Lab.R1.LinkDown("eth0"); return err },
			func(s *scene) error { return s.Lab.R1.LinkUp("eth0") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := play(t, netlab.Options{}, drill.PairOptions{}, fast, 0)
			for turn := range 2 {
				s.turn(fmt.Sprintf("%s, turn %d", c.name, turn+1), c.go1, c.go2)
			}
		})
	}
}

// turn is A, B, A once.
func (s *scene) turn(name string, there, back func(s *scene) error) {
	s.t.Helper()
	r1, r2 := s.Lab.R1, s.Lab.R2
	if err := s.AwaitReady(s.t.Context(), r1, 10*time.Second); err != nil {
		s.t.Fatal(err)
	}
	at, before := netlab.Now(), [2]uint64{invalid(s.t, r1), invalid(s.t, r2)}
	s.mark(at)
	if err := there(s); err != nil {
		s.t.Fatal(err)
	}
	s.become(r2, control.RoleActive, 5*time.Second)
	atB := netlab.Since(at)
	if rest := time.Second - atB; rest > 0 {
		time.Sleep(rest) // B forwards for a while: A's windows grow stale
	}
	if err := back(s); err != nil {
		s.t.Fatal(err)
	}
	s.become(r1, control.RoleActive, 8*time.Second)
	took := netlab.Since(at)
	s.t.Logf("%s: B is Active after %v, A again after %v", name, atB, took)
	if took > thereAndBack {
		s.t.Errorf("%s: took %v, more than %v: the case was not the one to be tried", name, took, thereAndBack)
	}
	r := s.judge(name)
	s.t.Logf("%s: INVALID packets: A %d, B %d", name, invalid(s.t, r1)-before[0], invalid(s.t, r2)-before[1])
	if r.BulkGap.Max > 2*time.Second {
		s.t.Errorf("%s: a stream stood still for %v", name, r.BulkGap.Max)
	}
	// What stalls by stale windows stalls late: once more, with a new mark.
	s.mark(netlab.Now())
	time.Sleep(1500 * time.Millisecond)
	r = s.judge(name + ", a while later")
	if r.BulkGap.Max > 500*time.Millisecond {
		s.t.Errorf("%s: a while later a stream stood still for %v", name, r.BulkGap.Max)
	}
}

// Masquerade, and the WAN interface of the Active goes down: the kernel kills
// thousands of entries that no packet ended. Their deaths are not told.
func TestMasqueradeLinkDown(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{NAT: netlab.Masquerade}, drill.PairOptions{})
	s := &scene{t: t, Pair: p}
	const flows = 4000
	s.gather(flows)
	r1, r2 := p.Lab.R1, p.Lab.R2
	if err := p.AwaitCopied(t.Context(), r1, flows, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	before := entries(t, s, r2, control.SourceView)
	had := entries(t, s, r1, control.SourceKernel)
	at, err := r1.LinkDown("eth1")
	if err != nil {
		t.Fatal(err)
	}
	s.become(r2, control.RoleActive, 3*time.Second)
	t.Logf("r2 is Active after %v; r1 had %d entries, %d are left", netlab.Since(at), len(had), len(entries(t, s, r1, control.SourceKernel)))
	if left := len(entries(t, s, r1, control.SourceKernel)); left > len(had)/2 {
		t.Fatalf("r1 had %d entries and has %d: the interface's going killed none, this proves nothing", len(had), left)
	}
	for _, wait := range []time.Duration{0, time.Second, 2 * time.Second} {
		time.Sleep(wait)
		now := entries(t, s, r2, control.SourceKernel)
		lost := 0
		for k := range before {
			if !now[k] {
				lost++
			}
		}
		own := s.status(r2).Sync.OwnFlows
		t.Logf("%v after: r2 has %d entries, lost %d of %d of its view; own flows %d", netlab.Since(at), len(now), lost, len(before), own)
		if lost > 0 || own < len(before) {
			t.Errorf("r2 lost %d flows of %d, owns %d", lost, len(before), own)
		}
	}
}

// entries are the TCP and UDP flows of one source.
func entries(t *testing.T, s *scene, r *netlab.Router, source string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := s.Client(r).Flows(t.Context(), control.FlowQuery{Source: source}, func(f *control.Flow) error {
		if f.Protocol == "tcp" || f.Protocol == "udp" {
			out[fmt.Sprintf("%s %+v", f.Protocol, f.Original)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

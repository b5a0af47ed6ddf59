// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// commit-after: a flow is in the Backup's kernel table when it is that old,
// and not before.
func TestCommitAfter(t *testing.T) {
	const after, flows = 3 * time.Second, 1000
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{Edit: within("[conntrack-sync]", `commit-after = "3s"`)})
	s := &scene{t: t, Pair: p}
	r2 := p.Lab.R2
	keepUDP(t, p.Lab)
	began := netlab.Now()
	s.gather(flows)
	if err := p.AwaitCopied(t.Context(), p.Lab.R1, flows, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	for {
		n := len(kernelEntries(t, r2))
		passed := netlab.Since(began) // at the end of the look
		if n > 0 && passed < after {
			t.Fatalf("%d flows are in the Backup's kernel table %v after the first was born", n, passed)
		}
		if n >= flows {
			t.Logf("all %d are in %v after the first was born", n, passed)
			break
		}
		if passed > after+10*time.Second {
			t.Fatalf("%d of %d flows are in the Backup's kernel table after %v", n, flows, passed)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := p.Lab.R1.PowerOff(); err != nil {
		t.Fatal(err)
	}
	st := s.become(r2, control.RoleActive, 5*time.Second)
	s.speak("after the power cut")
	if st = s.status(r2); st.Last == nil || st.Last.Committed > flows/10 {
		t.Errorf("the takeover committed what was in the kernel table: %+v", st.Last)
	}
}

// Election without copy: the addresses move by power cut, preemption and clean
// stop, and nothing is replicated.
func TestElectionOnly(t *testing.T) {
	p := drill.PrepareForTest(t, netlab.Options{}, drill.PairOptions{Edit: electionOnly})
	s := &scene{t: t, Pair: p}
	r1, r2 := p.Lab.R1, p.Lab.R2
	start(t, p, r1, r2)
	st := s.become(r1, control.RoleActive, 5*time.Second)
	s.become(r2, control.RoleBackup, 5*time.Second)
	if st.Sync != nil || st.Fence != nil || st.Capture != nil {
		t.Errorf("something is replicated: %+v", st)
	}
	soleHolder(t, p.Lab, r1, 5*time.Second)
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.become(r2, control.RoleActive, 5*time.Second)
	t.Logf("power cut: r2 is Active after %v", netlab.Since(at))
	soleHolder(t, p.Lab, r2, 5*time.Second)
	if err := r1.PowerOn(); err != nil {
		t.Fatal(err)
	}
	start(t, p, r1)
	s.become(r1, control.RoleActive, 5*time.Second)
	s.become(r2, control.RoleBackup, 5*time.Second)
	soleHolder(t, p.Lab, r1, 5*time.Second)
	at = netlab.Now()
	if err := p.Stop(r1); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	t.Logf("clean stop took %v", netlab.Since(at))
	s.become(r2, control.RoleActive, 5*time.Second)
	soleHolder(t, p.Lab, r2, 5*time.Second)
}

// Both lost power: the first one back becomes Active, alone, whichever it is;
// and the other one joins it.
func TestFirstBackIsActive(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	s := &scene{t: t, Pair: p}
	r1, r2 := p.Lab.R1, p.Lab.R2
	for _, r := range p.Lab.Routers() {
		if _, err := r.PowerOff(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r2.PowerOn(); err != nil {
		t.Fatal(err)
	}
	at := netlab.Now()
	start(t, p, r2)
	s.become(r2, control.RoleActive, 5*time.Second)
	t.Logf("r2 is Active %v after its start", netlab.Since(at))
	soleHolder(t, p.Lab, r2, 5*time.Second)
	if st := s.status(r2); st.Fence.Up {
		t.Error("the fence is up though there was nothing to commit")
	}
	if err := r1.PowerOn(); err != nil {
		t.Fatal(err)
	}
	at = netlab.Now()
	start(t, p, r1)
	if err := p.AwaitReady(t.Context(), r1, 8*time.Second); err != nil {
		t.Fatal(err)
	}
	t.Logf("r1 is Active again %v after its start", netlab.Since(at))
	soleHolder(t, p.Lab, r1, 5*time.Second)
}

func start(t *testing.T, p *drill.Pair, routers ...*netlab.Router) {
	t.Helper()
	for _, r := range routers {
		if err := p.Start(r); err != nil {
			t.Fatal(err)
		}
	}
}

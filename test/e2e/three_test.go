// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// peerOf is what a status says of one peer; nil: nothing.
func peerOf(s *control.Status, name string) *control.SyncPeer {
	if s.Sync == nil {
		return nil
	}
	for i := range s.Sync.Peers {
		if s.Sync.Peers[i].Name == name {
			return &s.Sync.Peers[i]
		}
	}
	return nil
}

// copied waits until routers have a complete view of another one with at least
// n flows, all of it in their kernel tables, and nothing of theirs is left to be
// told.
func (s *scene) copied(from *netlab.Router, n int, limit time.Duration, at ...*netlab.Router) {
	s.t.Helper()
	for _, r := range at {
		began := time.Now()
		st, err := s.Await(s.t.Context(), r, limit, fmt.Sprintf("a view of %s with %d flows", from.Name, n), func(st *control.Status) bool {
			p := peerOf(st, from.Name)
			return p != nil && p.Heard && p.Complete && p.PeerComplete && p.View >= n && p.Uncommitted == 0
		})
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Logf("%s has %d flows of %s after %v", r.Name, peerOf(&st, from.Name).View, from.Name, time.Since(began).Round(time.Millisecond))
	}
}

// cut takes a router's power and waits for the one that takes over.
func (s *scene) cut(r, taker *netlab.Router) {
	s.t.Helper()
	at, err := r.PowerOff()
	if err != nil {
		s.t.Fatal(err)
	}
	s.mark(at)
	st := s.become(taker, control.RoleActive, 5*time.Second)
	s.t.Logf("%s is Active %v after %s lost power: %+v", taker.Name, netlab.Since(at), r.Name, st.Last)
	s.judge(r.Name + " without power")
}

// Three routers: each Backup has the flows of the Active. When the power of one
// after the other is cut the next in rank takes over, nothing breaks, and the
// one that is left has the copy of the new Active, and none of the dead one's.
// Those that return join, and get the role back without a loss.
func TestThreeNodes(t *testing.T) {
	const crowd = 3000
	s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{Third: true}, drill.PairOptions{Edit: commitSoon})}
	r1, r2, r3 := s.Lab.R1, s.Lab.R2, s.Lab.R3
	s.watch()
	s.connect(load.Mix{Steady: 10, Idle: 5, Bulk: 4, UDP: 20})
	s.gather(crowd)
	all := crowd + 10 + 5 + 4 + 20
	s.copied(r1, all, 10*time.Second, r2, r3)

	st := s.status(r3)
	before := becameActive(&st) // it may have been there first
	s.cut(r1, r2)
	s.copied(r2, all, 10*time.Second, r3)
	s.forgotten(r3, r1)
	if st := s.status(r3); st.Sets[0].Role != control.RoleBackup || becameActive(&st) != before {
		t.Errorf("r3 has been %s while r2 took over: %+v", st.Sets[0].Role, st.Sets[0])
	}
	for _, text := range []string{run(t, r3, "sync", "peers", "--socket", socket(s.Pair, r3)), run(t, r3, "status", "--socket", socket(s.Pair, r3))} {
		if !strings.Contains(text, "r1") || !strings.Contains(text, "r2") || !strings.Contains(text, "NO, ") {
			t.Errorf("r3 does not show that r2 is heard and r1 is not:\n%s", text)
		}
	}

	s.cut(r2, r3)
	for _, r := range []*netlab.Router{r2, r1} {
		if err := r.PowerOn(); err != nil {
			t.Fatal(err)
		}
		at := netlab.Now()
		s.mark(at)
		start(t, s.Pair, r)
		st := s.become(r, control.RoleActive, 15*time.Second)
		t.Logf("%s is Active again %v after its start", r.Name, netlab.Since(at))
		handedOver(t, r.Name+" returns", &st)
		s.judge(r.Name + " returns")
	}
	s.copied(r1, all, 15*time.Second, r2, r3)
	soleHolder(t, s.Lab, r1, 5*time.Second)

	s.mark(netlab.Now())
	if out := order(t, s.Pair, r1, "switchover", "--to", "r3"); out.Active != "r3" || out.Already {
		t.Errorf("the switchover to the third says %+v", out)
	}
	s.become(r3, control.RoleActive, 5*time.Second)
	s.judge("switchover to r3")
}

// forgotten waits until a router has nothing left of the copy of a dead one.
func (s *scene) forgotten(r, dead *netlab.Router) {
	s.t.Helper()
	_, err := s.Await(s.t.Context(), r, 10*time.Second, "no flows of "+dead.Name, func(st *control.Status) bool {
		p := peerOf(st, dead.Name)
		return p != nil && !p.Heard && p.View == 0 && p.Uncommitted == 0
	})
	if err != nil {
		s.t.Error(err)
	}
}

func becameActive(s *control.Status) (n uint64) {
	for _, g := range s.Groups {
		n += g.Counters.BecomeActive
	}
	return n
}

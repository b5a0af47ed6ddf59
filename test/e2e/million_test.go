// SPDX-License-Identifier: Apache-2.0

//go:build proof

package e2e

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

var (
	many   = flag.Int("many.flows", 1_000_000, "further flows of TestMany")
	rounds = flag.Int("many.rounds", 20, "rounds of TestMany")
	busy   = flag.Int("many.busy", 1000, "busy TCP connections of TestMany, and as many UDP flows")
)

// TestMany is for `make proof`: a power cut, a join, and two planned changes of
// roles, again and again, with a million flows in the tables and busy
// connections on top. Nothing breaks, and nothing planned loses a packet.
func TestMany(t *testing.T) {
	roomFor(t, 2**many)
	s := &manyScene{scene: &scene{t: t, Pair: drill.ForTest(t, netlab.Options{}, drill.PairOptions{})}}
	for _, r := range s.Lab.Routers() {
		s.patient(r)
	}
	s.watch()
	s.crowdOf(*many)
	s.connect(load.Mix{Steady: *busy, UDP: *busy, SteadyPeriod: 200 * time.Millisecond})
	if err := s.AwaitCopied(t.Context(), s.Lab.R1, *many+2**busy, time.Minute); err != nil {
		t.Fatal(err)
	}
	for i := range *rounds {
		t.Run(fmt.Sprintf("round %d", i+1), func(t *testing.T) {
			s.round(t)
		})
	}
	res, err := s.far.Exchange(t.Context(), time.Duration(*many/5000)*time.Second)
	t.Logf("further flows, after all rounds: %v", res)
	if err != nil || res.Answered != res.Of || res.Resets != 0 || res.Moved != 0 {
		t.Errorf("further flows: %v (%v): %v", res, err, res.Missing)
	}
}

// manyScene keeps its crowd apart: no round waits for a million answers.
type manyScene struct {
	*scene
	far *load.Crowd
}

// patient keeps a router's kernel from ending flows that have nothing to say.
func (s *manyScene) patient(r *netlab.Router) {
	s.t.Helper()
	err := r.NS.Sysctl([2]string{"net/netfilter/nf_conntrack_udp_timeout", "86400"},
		[2]string{"net/netfilter/nf_conntrack_udp_timeout_stream", "86400"})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *manyScene) crowdOf(n int) {
	s.t.Helper()
	dnat := min(n/20, 30_000)
	c, err := drill.CrowdOf(s.Lab, load.CrowdConfig{UDPDNAT: dnat, TCPDNAT: dnat, UDPSNAT: n*4/10 - dnat, TCPSNAT: n - n*4/10 - dnat, Rate: crowdRate})
	if err != nil {
		s.t.Fatal(err)
	}
	s.far = c
	s.t.Cleanup(func() { _ = c.Close() })
	made, err := c.Open(s.t.Context(), time.Duration(n/5000+20)*time.Second)
	if err != nil || made.Answered != made.Of {
		s.t.Fatalf("make further flows: %v (%v): %v", made, err, made.Missing)
	}
	s.t.Logf("further flows: %v", made)
}

// round is one of each, in a subtest.
func (s *manyScene) round(t *testing.T) {
	whole := s.t
	s.t = t
	defer func() { s.t = whole }()
	r1, r2 := s.Lab.R1, s.Lab.R2

	s.settled(r1, r2)
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	st := s.become(r2, control.RoleActive, 10*time.Second)
	s.tell("power cut", &st)

	if err := r1.PowerOn(); err != nil {
		t.Fatal(err)
	}
	s.patient(r1)
	s.mark(netlab.Now())
	s.joins(r1)
	st = s.become(r1, control.RoleActive, 2*time.Minute)
	handedOver(t, "power returns", &st)
	s.tell("power returns", &st)

	e := talkOf(t, s.Lab, 50) // of 100 packets/s, each way
	time.Sleep(500 * time.Millisecond)
	for _, turn := range []struct {
		what  string
		do    func() error
		taker *netlab.Router
	}{
		{"clean stop", func() error { return s.Stop(r1) }, r2},
		{"start", func() error { s.joins(r1); return nil }, r1},
	} {
		at := netlab.Now()
		s.mark(at)
		if err := turn.do(); err != nil {
			t.Errorf("%s: %v", turn.what, err)
		}
		st := s.become(turn.taker, control.RoleActive, 2*time.Minute)
		handedOver(t, turn.what, &st)
		time.Sleep(500 * time.Millisecond)
		e.none(t, turn.what, at)
		s.tell(turn.what, &st)
		s.sides(turn.what)
	}
}

// sides gives both nodes' word on a change that failed: their timelines, and
// what their fences dropped.
func (s *manyScene) sides(what string) {
	s.t.Helper()
	if !s.t.Failed() {
		return
	}
	for _, r := range s.Lab.Routers() {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		st, err := s.Client(r).Status(ctx)
		if err == nil {
			s.t.Logf("%s: %s: fence %+v, commits %+v, last %+v", what, r.Name, st.Fence, st.Sync.Commits, st.Last)
			err = s.Client(r).Events(ctx, nil, false, func(e event.Event) error {
				if time.Since(e.At) < 10*time.Second {
					s.t.Logf("%s: %s: %s %s", what, r.Name, e.At.Format("05.000000"), e.Text)
				}
				return nil
			})
		}
		if err != nil { // one that is stopped
			s.t.Logf("%s: %s: %v", what, r.Name, err)
		}
		cancel()
	}
}

// settled waits until a Backup has written anew what it forwarded in its own
// term: a power cut before that is survived too, but behind the fence, which
// other tests look at.
func (s *manyScene) settled(active, backup *netlab.Router) {
	s.t.Helper()
	began := time.Now()
	if err := s.AwaitCopied(s.t.Context(), active, *many, time.Minute); err != nil {
		s.t.Fatal(err)
	}
	_, err := s.Await(s.t.Context(), backup, time.Minute, "all of the view in the kernel table", func(st *control.Status) bool {
		return st.Sync.Peers[0].Uncommitted == 0
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("all copied and committed after another %v", time.Since(began).Round(time.Millisecond))
}

// joins starts a router's daemon and waits until its view is complete. It asks
// ten times a second: an answer looks at each own flow.
func (s *manyScene) joins(r *netlab.Router) {
	s.t.Helper()
	began := time.Now()
	start(s.t, s.Pair, r)
	for time.Since(began) < 2*time.Minute {
		time.Sleep(100 * time.Millisecond)
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		st, err := s.Client(r).Status(ctx)
		cancel()
		if err == nil && st.Sync != nil && len(st.Sync.Peers) == 1 && st.Sync.Peers[0].Complete && st.Sync.Peers[0].View >= *many {
			s.t.Logf("join: %d flows, %v after the start", st.Sync.Peers[0].View, time.Since(began).Round(time.Millisecond))
			return
		}
	}
	s.t.Fatal("no join within 2 minutes")
}

// tell judges the connections, and gives the timeline.
func (s *manyScene) tell(what string, st *control.Status) {
	s.t.Helper()
	time.Sleep(2 * time.Second)
	s.judge(what)
	if st.Last != nil {
		s.t.Logf("%s: %s, %d flows, %+v", what, st.Last.Reason, st.Last.Committed, st.Last.Steps)
	}
}

// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"testing"
	"testing/synctest"
	"time"
)

// A takeover is remembered with what was known then, and the loss of the role
// with the moments of its steps; the latest ones of either.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, _ := running(t, false)
		r.cfg.Evidence = func() []string { return []string{"r2: not heard over the sync link"} }
		round := func() {
			r.Promoting("the Active was silent for 361 ms", r.cfg.Now(), 361*time.Millisecond)
			r.Post(Event{Kind: EvAddressesIn})
			time.Sleep(time.Second)
			r.Post(Event{Kind: EvDemoting, Cause: "an interface of the set went down"})
			time.Sleep(20 * time.Millisecond)
			r.Post(Event{Kind: EvAddressesOut})
			time.Sleep(time.Second)
		}
		began := r.cfg.Now()
		round()
		s := r.Status()
		if len(s.Records) != 1 || len(s.Yields) != 1 {
			t.Fatalf("%d takeovers and %d yields are remembered", len(s.Records), len(s.Yields))
		}
		if e := s.Records[0].Evidence; len(e) != 1 || e[0] != "r2: not heard over the sync link" {
			t.Errorf("evidence: %q", e)
		}
		y := s.Yields[0]
		if y.Cause != "an interface of the set went down" || y.Decided-began < int64(time.Second) || y.Released != y.Decided || y.AddressesOut-y.Decided != int64(20*time.Millisecond) {
			t.Errorf("yield: %+v, began at %d", y, began)
		}
		for range history + 3 {
			round()
		}
		if s = r.Status(); len(s.Records) != history || len(s.Yields) != history || s.Yields[0].Decided == y.Decided {
			t.Errorf("%d takeovers and %d yields are remembered, the first from %d", len(s.Records), len(s.Yields), s.Yields[0].Decided)
		}
	})
}

// An Active that releases the role is succeeded behind a fence that stands before
// the election is asked, and the record says that it stood from the decision on.
func TestFenceBeforeTheElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w, _ := running(t, false)
		r.Post(Event{Kind: EvPeerUp, Peer: 1, Name: "r2"})
		r.Post(Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleActive}})
		r.Post(Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleBackup}})
		synctest.Wait()
		raised := r.cfg.Now()
		if w.fenced != raised+int64(500*time.Millisecond) || len(w.said) < 2 || w.said[len(w.said)-2] != "fence up 500ms" || w.said[len(w.said)-1] != "take over" {
			t.Fatalf("done: %v; the fence stands until %d, said at %d", w.said, w.fenced, raised)
		}
		time.Sleep(10 * time.Millisecond)
		decided := r.cfg.Now()
		r.Promoting("the role was handed over by the peer", decided, 0)
		time.Sleep(5 * time.Millisecond)
		r.Post(Event{Kind: EvAddressesIn})
		time.Sleep(time.Second)
		if got := r.Status().Records; len(got) != 1 || got[0].FenceUp != decided || got[0].AddressesIn <= decided || got[0].FenceDown == 0 {
			t.Errorf("decided at %d: %+v", decided, got)
		}
		r.Post(Event{Kind: EvDemoting, Cause: "an interface of the set went down"})
		r.Post(Event{Kind: EvAddressesOut})
		time.Sleep(2 * time.Second)
		decided = r.cfg.Now()
		time.Sleep(time.Millisecond)
		r.Promoting("the Active was silent", decided, 0) // no word raised the fence before
		time.Sleep(time.Second)
		if got := r.Status().Records; len(got) != 2 || got[1].FenceUp <= decided {
			t.Errorf("decided at %d: %+v", decided, got)
		}
	})
}

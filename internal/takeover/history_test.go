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

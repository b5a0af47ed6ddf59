// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// floodRate is how many datagrams a second both routers get together.
const floodRate = 200_000

// TestFlood: an attacker on the sync link who has heard everything since the
// first hello, and says what he likes as fast as he can, moves counters. Flows
// go on being copied, adverts go out as before, and a takeover in the middle of
// it breaks nothing.
func TestFlood(t *testing.T) {
	p := drill.PrepareForTest(t, netlab.Options{}, drill.PairOptions{Interval: 50 * time.Millisecond, Edit: withKey(t)})
	r1, r2 := p.Lab.R1, p.Lab.R2
	wires := map[*netlab.Router]*tapped{r1: tap(t, p.Lab, r1, r2), r2: tap(t, p.Lab, r2, r1)}
	for _, r := range p.Lab.Routers() {
		if err := p.Start(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.AwaitReady(t.Context(), r1, 15*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Lab.Routers() {
		wires[r].settle(t)
		s := ask(t, p, r)
		if g := s.Sync.Links[0].Gate; g == nil || g.Mode != "native" {
			t.Fatalf("the gate of %s does not stand: %+v", r.Name, g)
		}
	}
	s := &scene{t: t, Pair: p}
	s.watch()
	s.connect(fast)
	for _, w := range wires {
		w.settle(t)
	}
	calm := s.lateness(r1, 2*time.Second)
	before := [2]control.Status{s.status(r1), s.status(r2)}
	f := startFlood(t, s.Lab, floodRate, map[string][][]byte{"sync.r1": wires[r2].hostile(wires[r1]), "sync.r2": wires[r1].hostile(wires[r2])})
	storm := s.lateInFlood(r1, 2*time.Second, calm)
	t.Logf("adverts of r1 late: at rest p50 %d, p99 %d, max %d us; in the flood p50 %d, p99 %d, max %d us",
		calm[0], calm[1], calm[2], storm[0], storm[1], storm[2])
	s.gather(1000)
	if err := s.AwaitCopied(t.Context(), r1, 1000, 20*time.Second); err != nil {
		t.Error(err)
	}
	after := [2]control.Status{s.status(r1), s.status(r2)}
	for i := range after {
		unmoved(t, &before[i], &after[i])
	}
	rate := f.rate()
	t.Logf("%.0f datagrams/s", rate)
	if rate < floodRate/4 {
		t.Errorf("%.0f datagrams/s are no flood", rate)
	}
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r2, control.RoleActive, 10*time.Second)
	time.Sleep(time.Second)
	s.judge("power cut in the flood")
}

// unmoved: between two moments of a flood nothing but counters moved, and each
// way to be refused was taken.
func unmoved(t *testing.T, before, after *control.Status) {
	t.Helper()
	for i := range after.Sets {
		if b, a := &before.Sets[i], &after.Sets[i]; a.Role != b.Role || a.Since.Truncate(time.Second) != b.Since.Truncate(time.Second) {
			t.Errorf("%s: %s was %s since %v, is %s since %v", after.Node, a.Name, b.Role, b.Since, a.Role, a.Since)
		}
	}
	was, is := &before.Sync.Peers[0], &after.Sync.Peers[0]
	if is.Counters.Sessions != was.Counters.Sessions || !is.Heard || !is.Complete || !is.PeerComplete || len(after.Sync.Peers) != 1 {
		t.Errorf("%s: %d sessions, before %d; peer: %+v", after.Node, is.Counters.Sessions, was.Counters.Sessions, is)
	}
	gate := moved(before.Sync.Links[0].Gate.Dropped, after.Sync.Links[0].Gate.Dropped)
	t.Logf("%s: before the stack %v; passed %v; behind it %v", after.Node, gate,
		moved(before.Sync.Links[0].Gate.Passed, after.Sync.Links[0].Gate.Passed), moved(drops(before), drops(after)))
	for _, why := range []string{"fragment", "hop_limit", "short", "version", "seal", "unknown_key", "forged", "stranger", "session", "replay", "reflected", "rate"} {
		if gate[why] == 0 {
			t.Errorf("%s: no datagram was dropped as %s", after.Node, why)
		}
	}
}

// lateInFlood is lateness of a flood's first window, or of the first one, of five,
// in which adverts are in time: a flood is in all of them, a host that stands still
// for 20 ms is not.
func (s *scene) lateInFlood(r *netlab.Router, d time.Duration, calm [3]int64) (us [3]int64) {
	s.t.Helper()
	for range 5 {
		if us = s.lateness(r, d); us[1] <= calm[1]+20_000 {
			return us
		}
		s.t.Logf("adverts of %s late: p50 %d, p99 %d, max %d us", r.Name, us[0], us[1], us[2])
	}
	s.t.Error("adverts are late in the flood")
	return us
}

// lateness of a router's adverts during d: p50, p99 and the bucket of the
// latest, in microseconds. A quantile is the upper bound of its bucket.
func (s *scene) lateness(r *netlab.Router, d time.Duration) (us [3]int64) {
	s.t.Helper()
	first := s.status(r).Adverts.SentLate
	time.Sleep(d)
	last := s.status(r).Adverts.SentLate
	n := slices.Clone(last.Buckets)
	total := uint64(0)
	for i := range n {
		n[i] -= first.Buckets[i]
		total += n[i]
	}
	if total == 0 {
		s.t.Fatalf("%s sent no advert in %v", r.Name, d)
	}
	bound := func(i int) int64 {
		if i < len(last.BoundsUS) {
			return last.BoundsUS[i]
		}
		return 1 << 40
	}
	sum := uint64(0)
	for i := range n {
		sum += n[i]
		for q, share := range []uint64{50, 99, 100} {
			if us[q] == 0 && sum*100 >= total*share {
				us[q] = bound(i)
			}
		}
	}
	return us
}

// gated says whether an XDP program is on a router's sync link.
func gated(t *testing.T, r *netlab.Router) bool {
	t.Helper()
	out, err := r.NS.Output(t.Context(), "ip", "-o", "link", "show", "dev", "eth2")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(out), "xdp")
}

// withKey gives both nodes the same key file.
func withKey(t *testing.T) func(router, toml string) string {
	t.Helper()
	key, err := link.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sync.key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(_, text string) string {
		return strings.Replace(text, `authentication = "none"`, `key-file = "`+path+`"`, 1)
	}
}

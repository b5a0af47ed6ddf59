// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// TestSealedPair: with a key the pair does what it does without, through a
// power cut; a third party's datagrams move a counter.
func TestSealedPair(t *testing.T) {
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: withKey(t)}, fast, 1000)
	r1, r2 := s.Lab.R1, s.Lab.R2
	link := s.status(r2).Sync.Links[0]
	if n := link.Counters.Dropped["unsealed"] + link.Gate.Dropped["seal"]; n != 0 {
		t.Fatalf("%d datagrams of the peer were not sealed", n)
	}
	forged := func() uint64 { return s.status(r2).Sync.Links[0].Gate.Dropped["stranger"] }
	if err := r1.NS.Sysctl([2]string{"net/ipv4/ip_default_ttl", "255"}); err != nil { // else the hop limit keeps them out
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if out, err := r1.NS.Output(ctx, "bash", "-c", "for i in 1 2 3; do echo forged > /dev/udp/192.168.255.2/3781; done"); err != nil {
		t.Fatalf("send forged datagrams: %v: %s", err, out)
	}
	for end := time.Now().Add(5 * time.Second); forged() != 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("3 forged datagrams: %d were counted", forged())
		}
	}
	if p := s.status(r2).Sync.Peers[0]; p.View < 1000 || !p.Complete {
		t.Fatalf("r2's view: %+v", p)
	}
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r2, control.RoleActive, 5*time.Second)
	time.Sleep(2 * time.Second)
	s.judge("power cut")
}

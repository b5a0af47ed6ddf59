// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// A router that was Active for a while has entries with the short timeouts that
// packets gave them. They run out while it is Backup and the flows live on, and
// its kernel says so up to a minute later: a takeover before that loses nothing.
func TestTakeoverBesideAgedEntries(t *testing.T) {
	for name, edit := range map[string]func(string, string) string{"continuous": nil, "takeover": commitAtTakeover} {
		t.Run(name, func(t *testing.T) { takeOverBesideAgedEntries(t, edit) })
	}
}

func takeOverBesideAgedEntries(t *testing.T, edit func(string, string) string) {
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: edit}, load.Mix{UDP: 200}, 500)
	r1, r2 := s.Lab.R1, s.Lab.R2
	for _, r := range s.Lab.Routers() {
		if err := r.NS.Sysctl([2]string{"net/netfilter/nf_conntrack_udp_timeout", "4"}, [2]string{"net/netfilter/nf_conntrack_udp_timeout_stream", "4"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range []*netlab.Router{r1, r2} {
		order(t, s.Pair, from, "switchover")
		s.become(s.Lab.Other(from), control.RoleActive, 10*time.Second)
		if err := s.AwaitReady(t.Context(), s.Lab.Other(from), 15*time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
	}
	time.Sleep(5 * time.Second)
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r2, control.RoleActive, 10*time.Second)
	s.judge("the power cut")
}

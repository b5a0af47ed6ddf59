// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// A path of many milliseconds has many segments under way, and a power cut
// loses their acknowledgements: the sender repeats the oldest, the receiver
// acknowledges all that it has, which is far ahead of what the heir has seen.
// Here the receivers of bulk transfers are not heard for a moment before the
// cut, as if their words were on such a path.
func TestUnheardAcknowledgements(t *testing.T) {
	s := play(t, netlab.Options{}, drill.PairOptions{}, fast, 0)
	r1, r2 := s.Lab.R1, s.Lab.R2
	ends := []*netlab.Namespace{s.Lab.Client, s.Lab.Server}
	nft := func(rule string) {
		t.Helper()
		for _, end := range ends {
			if _, err := end.Output(t.Context(), "nft", rule); err != nil {
				t.Fatal(err)
			}
		}
	}
	nft("table ip unheard { chain output { type filter hook output priority 0; tcp sport 20002 drop; }; }")
	time.Sleep(30 * time.Millisecond)
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	nft("delete table ip unheard")
	s.become(r2, control.RoleActive, 5*time.Second)
	s.judge("power cut")
	t.Logf("r2 dropped %d packets that fitted no entry of its", invalid(t, r2))
}

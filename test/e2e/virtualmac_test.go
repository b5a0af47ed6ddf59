// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// withVirtualMACs puts both groups of a router behind virtual MACs.
func withVirtualMACs(_, text string) string {
	return strings.ReplaceAll(text, "vrid =", "virtual-mac = true\nvrid =")
}

// The pair with virtual MACs: hosts keep the MAC that they know through a
// switchover, which loses nothing of a probe of 10,000 packets per second, and
// through a power cut; flows are copied, once each, and go on.
func TestVirtualMACs(t *testing.T) {
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: withVirtualMACs}, load.Mix{Steady: 10, Idle: 5, Bulk: 4, UDP: 20}, 1000)
	r1, r2 := s.Lab.R1, s.Lab.R2
	is := func(what string) {
		t.Helper()
		for sw, want := range map[string]string{netlab.LAN: "00:00:5e:00:01:0a", netlab.WAN: "00:00:5e:00:01:14"} {
			eventually(t, 5*time.Second, fmt.Sprintf("%s: the virtual address on the %s at %s alone", what, sw, want), func() bool {
				return slices.Equal(holders(t, s.Lab, sw), []string{want})
			})
		}
	}
	is("r1 is Active")
	for _, name := range s.status(r1).Capture.Interfaces {
		if strings.Contains(name, "v4") {
			t.Errorf("packets are captured on %s, and on its parent", name)
		}
	}
	pr := startProbe(t, s.Lab)
	time.Sleep(500 * time.Millisecond)

	at := netlab.Now()
	s.mark(at)
	if out := order(t, s.Pair, r1, "switchover"); out.Active != "r2" {
		t.Errorf("the switchover says %+v", out)
	}
	s.become(r2, control.RoleActive, 5*time.Second)
	time.Sleep(time.Second)
	pr.none(t, "r1 gives", at)
	is("r2 is Active")
	s.judge("r1 gives")
	if err := s.AwaitReady(t.Context(), r2, 15*time.Second); err != nil {
		t.Fatal(err)
	}

	at, err := r2.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r1, control.RoleActive, 5*time.Second)
	is("r2 lost power")
	s.judge("r2 lost power")
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// TestPartedAndHealed parts r1 from everything, or from all but the sync link,
// while it stays Active: r2 takes over and forwards, then the network heals. r1
// keeps the role, and what it holds of the flows is stale: they must have been
// written anew before their packets come.
func TestPartedAndHealed(t *testing.T) {
	for name, ports := range map[string][]string{
		"from everything":           {netlab.LAN, netlab.WAN, netlab.Sync},
		"the sync link still works": {netlab.LAN, netlab.WAN},
	} {
		t.Run(name, func(t *testing.T) { partAndHeal(t, ports) })
	}
}

func partAndHeal(t *testing.T, ports []string) {
	s := play(t, netlab.Options{}, drill.PairOptions{}, fast, 0)
	r1, r2 := s.Lab.R1, s.Lab.R2
	time.Sleep(6 * time.Second) // past the second burst of r1's announcements, which would call traffic before r1 hears its rival
	at := netlab.Now()
	s.mark(at)
	mute(t, r1, ports...)
	s.become(r2, control.RoleActive, 5*time.Second)
	time.Sleep(1500 * time.Millisecond)
	s.judge("parted")
	unmute(t, r1, ports...)
	s.mark(netlab.Now())
	time.Sleep(3 * time.Second)
	s.judge("healed")
	soleHolder(t, s.Lab, r1, 5*time.Second)
	eventually(t, 5*time.Second, "r1 writing flows anew", func() bool { return s.status(r1).Sync.Commits.Replaced > 0 })
	t.Logf("r1 dropped %d packets that fitted no entry of its yet", invalid(t, r1))
}

// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"slices"
	"testing"

	"github.com/tandem-ha/tandem/internal/control"
)

// Two versions in one group do not hear each other; the router that is told
// otherwise says so.
func TestVersionMix(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.run(l.r2, 200, fast+group4).await(control.RoleActive, late)
	n := l.run(l.r1, 100, "version = 2\n"+group4)
	eventually(t, 2*late, "an alarm", func() bool {
		s, err := n.client.Status(t.Context())
		return err == nil && slices.ContainsFunc(s.Alarms, func(a control.Alarm) bool { return a.Kind == "advert-version" && a.About == "G" })
	})
	eventually(t, late, "three adverts are counted", func() bool { return n.group().Counters.VersionErrors >= 3 })
	if g := n.group(); g.Counters.AdvertRcvd != 0 || g.ActiveAddress != "" && g.Role != control.RoleActive {
		t.Errorf("tandem shows %+v", *g)
	}
}

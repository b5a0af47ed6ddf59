// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/tandem-ha/tandem/internal/control"
)

// With accept-mode = false the Active's address is resolved, and answers
// nothing; the router's own does.
func TestAcceptMode(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := l.run(l.r1, 100, fast+group4+"accept-mode = false\n")
	n.await(control.RoleActive, late)
	eventually(t, late, "the address is in", func() bool { return n.group().Installed })
	ping := func(to string) bool {
		return exec.Command("ip", "netns", "exec", l.r2, "ping", "-c1", "-W1", to).Run() == nil
	}
	if !ping("10.0.0.1") || ping("10.0.0.100") {
		t.Error("the router's own address does not answer, or the virtual one does")
	}
	if neigh := run(t, "ip", "-n", l.r2, "neigh", "show", "10.0.0.100"); !strings.Contains(neigh, "lladdr") {
		t.Errorf("the virtual address is not resolved: %s", neigh)
	}
	if g := n.group(); !g.NoAccept || g.NotAccepted != 1 {
		t.Errorf("tandem shows accept-mode off: %v, %d packets dropped", g.NoAccept, g.NotAccepted)
	}
}

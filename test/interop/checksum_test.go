// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"testing"

	"github.com/tandem-ha/tandem/internal/control"
)

// A router that sums the message alone, as RFC 9568 has it and Cisco, Juniper
// and Arista do (here tandem itself, told to), makes one with checksum = "auto"
// do the same.
func TestChecksumLearnt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	w := wire{source: "10.0.0.1", interval: tenth, judge: advert{message: true, fields: header4, want: "10.0.0.1 224.0.0.18 255 48 1 3 1 10 1"}}
	stern := l.run(l.r2, 200, fast+group4+"checksum = \"message\"\n")
	stern.await(control.RoleActive, w.down(200)+late)
	n := l.run(l.r1, 100, fast+group4)
	if g := n.group(); g.Checksum != "auto" || g.ChecksumHeard == "pseudo-header" {
		t.Errorf("before: configured %s, heard %s", g.Checksum, g.ChecksumHeard)
	}
	eventually(t, late, "tandem hears the message's sum", func() bool {
		g := n.group()
		return g.ChecksumHeard == "message" && g.ChecksumSent == "message"
	})
	stern.stop()
	n.await(control.RoleActive, w.down(100)+late)
	never(t, 4*w.interval, "no role", func() bool { return !n.is(control.RoleActive) })
	w.stopped(l, n)
}

// Debian's keepalived drops adverts whose checksum covers the message alone:
// beside it checksum = "message" makes two Actives. (It says so once; then each
// advert that it drops puts its own next one off.)
func TestMessageAloneBesideKeepalived(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := l.run(l.r1, 200, fast+group4+"checksum = \"message\"\n")
	n.await(control.RoleActive, late)
	k := &keepalived{l: l, version: 3, lines: "advert_int 0.1\n" + ip4, vip: "10.0.0.100"}
	k.start(50)
	eventually(t, late, "keepalived, which does not hear tandem, is Active", k.active)
	eventually(t, late, "tandem counts another Active", func() bool { return n.group().Counters.TwoActives > 0 })
	if !n.is(control.RoleActive) {
		t.Error("tandem gave the role to a losing advert")
	}
}

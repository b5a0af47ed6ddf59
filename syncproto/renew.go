// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// An entry of a Backup's kernel table sees no packets: it runs out while its flow
// lives at the Active. The kernel tells of that when it comes by, up to a minute
// later (gc_worker in nf_conntrack_core.c); until then the entry counts as there
// and a packet does not find it. So its timeout is set anew before it runs out.

// Entries are written with 600 s at least (takeover's floor), or were left behind
// by packets of a term here, with what the kernel gives such a flow. The first
// kind is renewed each renewRound, the second at once if that may be short.
const (
	renewRound = int64(200e9)
	renewPause = int64(1e9) // between slices of a round

	// A flow that the kernel gives more than longLived seconds is renewed in one
	// round of longRounds.
	longLived  = 2 * longRounds * uint32(renewRound/1e9)
	longRounds = 16
)

// renewing is the round of renewals under way.
type renewing struct {
	next  int64
	kind  kind
	pos   uint32
	round uint32
}

// renewSlice marks what of the next slice is to be renewed.
func (v *View) renewSlice(now int64) {
	r := &v.renewing
	if now < r.next || v.n.active {
		return
	}
	r.next = now + renewPause
	for left := (v.tabs[kind4].size+v.tabs[kind6].size)/uint32(renewRound/renewPause) + 1; left > 0; {
		t := &v.tabs[r.kind]
		for ; r.pos < t.size && left > 0; r.pos, left = r.pos+1, left-1 {
			if t.at(r.pos).timeout <= longLived || (r.pos+r.round)%longRounds == 0 {
				v.renewSoon(t, r.pos)
			}
		}
		if r.pos < t.size {
			return
		}
		r.pos = 0
		if r.kind++; r.kind == kinds {
			r.kind, r.round = 0, r.round+1
			return
		}
	}
}

// renewSoon has an entry's timeout set anew, if the kernel table has it as it is.
// What the peer has not said again since it rebooted is to run out.
func (v *View) renewSoon(t *table, i uint32) {
	if b := t.at(i); b.has(flagUsed) && b.has(viewKernel) && !b.has(viewFormer|viewDead|viewBusy) && !v.want[t.kind].has(i) {
		v.aging[t.kind].set(i)
	}
}

// renewLeft is for an entry that a term here, or a former life of the daemon, left
// behind: how much it has of a short timeout nobody knows.
func (v *View) renewLeft(t *table, i uint32) {
	if t.at(i).timeout <= longLived {
		v.renewSoon(t, i)
	}
}

// renewals offers what is marked. While Active it leaves alone what packets told
// here.
func (g *giver) renewals(k kind) {
	v, t, m := g.v, &g.v.tabs[k], &g.v.aging[k]
	for i := m.next(0); i != nobody && !g.full(); i = m.next(i + 1) {
		m.clear(i)
		b := t.at(i)
		if !b.has(viewKernel) || b.has(viewFormer|viewDead|viewBusy) || v.want[k].has(i) || v.n.active && v.covered(t, i) {
			continue
		}
		b.set(viewBusy)
		t.load(i, &g.op(conntrack.OpRenew, Token(i<<1|uint32(k))|tokenRenew).Flow)
	}
}

// renewed takes the outcome. ENOENT: it had run out, or somebody deleted it. What
// cannot be renewed (a fixed timeout) is written anew.
func (v *View) renewed(t *table, i uint32, err error) {
	switch b := t.at(i); {
	case err == nil:
		v.stats.Renewed++
	case errors.Is(err, unix.ENOENT):
		v.lost(t, i)
	case temporary(err):
		v.aging[t.kind].set(i)
	default:
		b.set(viewAgain)
	}
}

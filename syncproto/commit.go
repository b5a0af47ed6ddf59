// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// Token ties one Op of Pending to its flow until Done.
type Token uint32

const (
	tokenDelete Token = 1 << (29 + iota)
	tokenRoom         // a deletion that makes room for the Op after it
	tokenRenew
	tokenEntry Token = 1<<29 - 1
)

func (tok Token) entry() (kind, uint32) {
	return kind(tok & 1), uint32(tok&tokenEntry) >> 1
}

// scanning is where Pending goes on when the hottest go first: a round looks
// at all that is wanted once per heat class.
type scanning struct {
	cold uint8 // 3 minus the class
	kind kind
	pos  uint32
}

// Pending appends at most max operations that the kernel table lacks: first
// deletions, then creations and replacements of flows whose age here is above
// minAge; the hottest first when minAge is 0; last, timeouts to be set anew.
// Every Token must come back in Done; until then its flow is not offered again.
// Sometimes a deletion with a token of its own comes before the replacement that
// needs it, so that ops may grow by max+1.
//
// While Active only flows that no told own flow covers are given, and of those
// that came since then only creations. While a Forget is under way each call does
// a slice of it, and an Active's gives nothing before the last: the hottest of all
// come first.
func (v *View) Pending(ops []conntrack.Op, tokens []Token, max int, minAge time.Duration, now int64) ([]conntrack.Op, []Token) {
	if v.forgetSlice(); v.n.active && v.forgetting.running {
		return ops, tokens
	}
	g := giver{v: v, ops: ops, tokens: tokens, limit: len(ops) + max}
	if !v.n.active {
		for k := range v.ends {
			g.deletions(kind(k))
		}
	}
	if minAge > 0 {
		for k := range v.want {
			g.older(kind(k), minAge, now)
		}
	} else {
		g.hottest(now)
	}
	for k := range v.aging {
		g.renewals(kind(k))
	}
	return g.ops, g.tokens
}

type giver struct {
	v      *View
	ops    []conntrack.Op
	tokens []Token
	limit  int
}

func (g *giver) full() bool { return len(g.ops) >= g.limit }

func (g *giver) op(kind conntrack.OpKind, tok Token) *conntrack.Op {
	if len(g.ops) < cap(g.ops) {
		g.ops = g.ops[:len(g.ops)+1]
	} else {
		g.ops = append(g.ops, conntrack.Op{})
	}
	g.tokens = append(g.tokens, tok)
	op := &g.ops[len(g.ops)-1]
	op.Kind, op.Err = kind, nil
	return op
}

func (g *giver) deletions(k kind) {
	v, t, m := g.v, &g.v.tabs[k], &g.v.ends[k]
	for i := m.next(0); i != nobody && !g.full(); i = m.next(i + 1) {
		if v.reborn(t, i) {
			continue
		}
		m.clear(i)
		t.at(i).set(viewBusy)
		t.load(i, &g.op(conntrack.OpDelete, Token(i<<1|uint32(k))|tokenDelete).Flow)
	}
}

// reborn says whether a hidden dead entry's original tuple is alive in another
// entry: what the kernel table has is then that one's to replace.
func (v *View) reborn(t *table, i uint32) bool {
	if !t.at(i).has(flagHidden) {
		return false
	}
	var k conntrack.Key
	t.key(i<<1, &k)
	e, ok := t.findOrig(&k)
	if !ok {
		return false
	}
	b := t.at(e)
	switch {
	case b.has(viewDead):
		v.ends[t.kind].set(e)
		b.set(viewKernel)
	case b.has(viewBusy):
		b.set(viewAgain)
	default:
		b.set(viewKernel)
		v.want[t.kind].set(e)
	}
	v.free(t, i)
	return true
}

func (g *giver) older(k kind, minAge time.Duration, now int64) {
	t, m, min := &g.v.tabs[k], &g.v.want[k], ticks(int64(minAge))
	for i := m.next(0); i != nobody && !g.full(); i = m.next(i + 1) {
		if t.at(i).age(now) > min {
			g.write(t, i)
		}
	}
}

func (g *giver) hottest(now int64) {
	s := &g.v.scan
	for range 4*int(kinds) + 1 {
		t, m := &g.v.tabs[s.kind], &g.v.want[s.kind]
		for i := m.next(s.pos); i != nobody; i = m.next(i + 1) {
			if g.full() {
				s.pos = i
				return
			}
			if heatOf(t.at(i).age(now)) >= 3-s.cold {
				g.write(t, i)
			}
		}
		s.pos = 0
		if s.kind++; s.kind == kinds {
			s.kind, s.cold = 0, (s.cold+1)&3
		}
		if g.v.want[kind4].n+g.v.want[kind6].n == 0 {
			*s = scanning{}
			return
		}
	}
}

// write offers one entry. While Active a flow that packets told here is left
// alone: the kernel table knows it better.
func (g *giver) write(t *table, i uint32) {
	v, b := g.v, t.at(i)
	v.catchUp(t, i)
	v.want[t.kind].clear(i)
	tok := Token(i<<1 | uint32(t.kind))
	if v.n.active && v.covered(t, i) {
		b.clear(viewKernel)
		return
	}
	b.set(viewBusy)
	if b.has(viewClash) {
		room := g.op(conntrack.OpDelete, tok|tokenRoom)
		t.load(i, &room.Flow)
		room.Flow.Orig, room.Flow.Reply = room.Flow.Reply, room.Flow.Orig
	}
	kind := conntrack.OpCreate
	if b.has(viewKernel) {
		kind = conntrack.OpReplace
	}
	f := &g.op(kind, tok).Flow
	t.load(i, f)
	restore(f)
}

// liberal is TCPFlagBeLiberal of both directions in a mutable's flags.
const liberal = conntrack.TCPFlagBeLiberal * 0x11

// restore makes of a flow what the kernel table is given: nobody knows its
// windows, and the first packet does not tell all of them (docs/ctnetlink.md).
func restore(f *conntrack.Flow) {
	if f.Proto == unix.IPPROTO_TCP {
		f.TCP.Flags[0] |= conntrack.TCPFlagBeLiberal
		f.TCP.Flags[1] |= conntrack.TCPFlagBeLiberal
	}
}

func (v *View) covered(t *table, i uint32) bool {
	var k, rk conntrack.Key
	t.key(i<<1, &k)
	t.key(i<<1|1, &rk)
	return v.n.own.covers(&k) || v.n.own.covers(&rk)
}

// Done takes the outcome of Pending's operations: ops[i].Err is that of
// tokens[i].
func (v *View) Done(tokens []Token, ops []conntrack.Op) {
	crowded := false // the deletion that was to make room failed
	for j, tok := range tokens {
		if tok&tokenRoom != 0 {
			crowded = ops[j].Err != nil
			continue
		}
		k, i := tok.entry()
		t := &v.tabs[k]
		t.at(i).clear(viewBusy)
		switch {
		case tok&tokenDelete != 0:
			v.deleted(t, i, ops[j].Err)
		case tok&tokenRenew != 0:
			v.renewed(t, i, ops[j].Err)
		default:
			v.written(t, i, ops[j].Kind == conntrack.OpReplace, crowded, ops[j].Err)
		}
		crowded = false
		v.afterDone(t, i)
	}
}

func (v *View) deleted(t *table, i uint32, err error) {
	b := t.at(i)
	if err == nil || errors.Is(err, unix.ENOENT) {
		v.stats.Deleted++
		b.clear(viewKernel)
		b.set(viewAgain) // if it came back meanwhile, it is to be created
		var k conntrack.Key
		t.key(i<<1, &k)
		v.n.own.deleted(&k)
		return
	}
	v.stats.Retried++
}

// written takes the outcome of a creation or a replacement. EEXIST means that
// somebody has one of its tuples: first it is tried as a replacement, which
// takes away the holder of the original tuple, then the holder of the reply
// tuple goes, then it is given up. What came while Active clashes and is given
// up at once.
func (v *View) written(t *table, i uint32, replace, crowded bool, err error) {
	b := t.at(i)
	switch {
	case err == nil:
		v.stats.Committed++
		b.set(viewKernel)
		b.clear(viewClash)
	case errors.Is(err, unix.EEXIST) && (b.has(viewLate) || b.has(viewClash) && !crowded):
		v.stats.Clashes++
		b.clear(viewClash | viewKernel)
	case errors.Is(err, unix.EEXIST):
		v.stats.Retried++
		b.set(viewKernel | viewAgain)
		b.put(viewClash, replace)
	case temporary(err): // what a replacement left is not known: it counts as there
		v.stats.Retried++
		b.set(viewAgain)
	default:
		v.stats.Refused++
		b.clear(viewKernel)
	}
}

func temporary(err error) bool {
	for _, e := range []error{unix.ENOMEM, unix.ENOBUFS, unix.ENOSPC, unix.EAGAIN, unix.EINTR, unix.ETIMEDOUT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// afterDone does what had to wait for the operation.
func (v *View) afterDone(t *table, i uint32) {
	b := t.at(i)
	again := b.has(viewAgain)
	b.clear(viewAgain)
	switch {
	case b.has(viewDead) && b.has(viewKernel) && b.has(viewOwner) && !v.n.active:
		v.ends[t.kind].set(i)
	case b.has(viewDead):
		v.free(t, i)
	case again && !(v.n.active && b.has(viewLate)):
		v.want[t.kind].set(i)
	}
}

// Uncommitted is the number of operations that Pending would give in time; what
// Forget has still to look at counts as such.
func (v *View) Uncommitted() int {
	return v.want[kind4].n + v.want[kind6].n + v.ends[kind4].n + v.ends[kind6].n + v.forgetting.left()
}

// Lost says that the kernel table lost an entry that the view may hold: it is
// uncommitted again. It says whether it was there. A flow that the peer lost
// by a reboot goes with its entry.
func (v *View) Lost(k *conntrack.Key) bool {
	i, ok := v.find(k)
	if !ok {
		return false
	}
	t := v.table(k.Family)
	v.catchUp(t, i)
	b := t.at(i)
	if !b.has(viewKernel) || b.has(viewBusy) {
		return false
	}
	v.lost(t, i)
	return true
}

// lost is Lost of an entry. Of a dead one nothing is left to be done.
func (v *View) lost(t *table, i uint32) {
	b := t.at(i)
	b.clear(viewKernel)
	switch {
	case b.has(viewDead):
	case b.has(viewFormer) && v.complete && !v.sweep.running:
		v.drop(t, i, false)
	case !v.n.active || !b.has(viewLate):
		v.want[t.kind].set(i)
	}
}

// adoptKind offers at most max entries of one kind to own flows, and says how
// many it looked at.
func (v *View) adoptKind(t *table, max int, now int64) (looked int) {
	pos := &v.adopt[t.kind]
	for ; *pos < t.size && looked < max; *pos++ {
		looked++
		b := t.at(*pos)
		if !b.has(flagUsed) || b.has(viewDead) || b.has(viewLate) && !b.has(viewOwner) {
			continue
		}
		t.load(*pos, &v.scratch)
		if b.has(viewKernel) && !b.has(viewBusy) && !v.want[t.kind].has(*pos) {
			restore(&v.scratch)
		}
		v.n.own.adoptFlow(&v.scratch, now-int64(b.age(now))<<tickShift, now)
	}
	return looked
}

// Fresh says whether flows came since Adopt looked last.
func (v *View) Fresh() bool { return v.late }

// adoptLeft says whether Adopt has more to look at; entries that came since
// its last round begin another.
func (v *View) adoptLeft() bool {
	if v.adopt[kind4] < v.tabs[kind4].size || v.adopt[kind6] < v.tabs[kind6].size {
		return true
	}
	if v.late {
		v.late = false
		v.adopt = [kinds]uint32{}
		return true
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// Flags of an entry of a view.
const (
	viewOwner  flag = 1 << (22 + iota) // the peer owns it; of a dead entry: the kernel's is to be deleted
	viewFormer                         // of a former session, not (yet) said again
	viewKernel                         // the kernel table has this original tuple, from us
	viewBusy                           // an operation is out; nothing is freed until Done
	viewAgain                          // changed while busy: Done leaves it pending
	viewDead                           // not in the view; waits for its deletion in the kernel table
	viewLate                           // came while Active: committed only if it does not clash
	viewClash                          // the kernel refused it once because of its reply tuple
)

// Values of the entry part of a slot's word.
const (
	slotSeqBits = 38
	slotSeqMask = 1<<slotSeqBits - 1
	slotEmpty   = 0
	slotLost    = 1<<26 - 1 // the slot's flow is not kept: its tuple is another's now
	slotRefused = 1<<26 - 2 // nor here: the policy, an own address, no room, or packets ended it here
)

// View is the copy of one peer's flows. It also keeps what the committer did
// with them: what the kernel table holds is its caller's word.
//
// A slot's word says which entry it has and which sequence was last applied to
// it. Entries outlive slots: those of a former session stay until the peer says
// complete, those that the kernel table still holds until they are deleted
// there. So a view is in memory once, whatever happens to sessions.
type View struct {
	n     *Node
	tabs  [kinds]table
	slots [kinds][]*[chunkSize]uint64
	want  [kinds]bitmap // entries to be created or replaced in the kernel table
	ends  [kinds]bitmap // dead entries to be deleted there
	aging [kinds]bitmap // entries whose timeout there is to be set anew

	live, former int
	complete     bool
	bequeathed   bool   // flows were taken out that the peer may still tell changes of
	rebooted     bool   // the peer's kernel table is another one: what it does not say again did not die
	releasedTo   uint64 // records up to this sequence are not owned any more
	released     bool   // nor are flows of former sessions
	sweep        sweeping
	adopt        [kinds]uint32 // where Adopt goes on
	late         bool          // entries came since Adopt began
	scan         scanning
	renewing     renewing
	forgetting   forgetting
	forgotten    bool // since then some may not have been written
	stats        ViewStats
	scratch      conntrack.Flow
	warmed       uint8
}

// ViewStats counts what a view did with records and operations.
type ViewStats struct {
	RefusedPolicy, RefusedLocal, RefusedFull uint64 // not taken
	Displaced                                uint64 // a newer flow took a tuple
	NotOwner                                 uint64 // deletions that stopped at the view
	Swept                                    uint64 // former flows that did not come back
	Clashes, Refused                         uint64 // the kernel table's word, given up
	Committed, Deleted, Retried, Renewed     uint64
}

func (v *View) init(n *Node) {
	*v = View{n: n}
	for k := range v.tabs {
		v.tabs[k].init(kind(k), n.cfg.MaxFlows, n.seed)
	}
}

// Len is the number of flows, former ones of a joining peer included.
func (v *View) Len() int { return v.live }

// Complete says whether the peer said that this is all it has.
func (v *View) Complete() bool { return v.complete && !v.bequeathed }

// Stats gives the counters.
func (v *View) Stats() ViewStats { return v.stats }

// Each walks the view until fn says false; f is reused.
func (v *View) Each(fn func(f *conntrack.Flow) bool) {
	for k := range v.tabs {
		t := &v.tabs[k]
		for i := range t.size {
			if b := t.at(i); b.has(flagUsed) && !b.has(viewDead) {
				t.load(i, &v.scratch)
				if !fn(&v.scratch) {
					return
				}
			}
		}
	}
}

func (v *View) table(family uint8) *table { return &v.tabs[kindOf(family)] }

// find gives the entry in the view whose original tuple is k.
func (v *View) find(k *conntrack.Key) (uint32, bool) {
	t := v.table(k.Family)
	i, ok := t.findOrig(k)
	return i, ok && !t.at(i).has(viewDead)
}

// word gives the word of a slot, making room for it.
func (v *View) word(slot uint32) *uint64 {
	k, i := slot&1, slot>>1
	c := int(i >> chunkBits)
	for len(v.slots[k]) <= c {
		v.slots[k] = append(v.slots[k], nil)
	}
	if v.slots[k][c] == nil {
		v.slots[k][c] = new([chunkSize]uint64)
	}
	return &v.slots[k][c][i&chunkMask]
}

func slotWord(entry uint32, seq uint64) uint64 { return uint64(entry)<<slotSeqBits | seq }

// slotEntry gives the entry of a slot's word.
func slotEntry(w uint64) (i uint32, ok bool) {
	e := uint32(w >> slotSeqBits)
	return e - 1, e != slotEmpty && e < slotRefused
}

// entryOf gives the entry of a slot whose word is w. One that says itself that
// it is another slot's, or nobody's, is damage, and left to the other.
func (v *View) entryOf(slot uint32, w uint64) (i uint32, ok bool) {
	if i, ok = slotEntry(w); !ok {
		return 0, false
	}
	t := &v.tabs[slot&1]
	return i, i < t.size && t.at(i).link == slot && t.at(i).has(flagUsed) && !t.at(i).has(viewFormer|viewDead)
}

// seqOf is the sequence last applied to a live entry; entries of former
// sessions are older than anything.
func (v *View) seqOf(t *table, i uint32) uint64 {
	b := t.at(i)
	if b.has(viewFormer | viewDead) {
		return 0
	}
	return *v.word(b.link) & slotSeqMask
}

// owned says whether the peer owns a live entry: its record said so, and no
// RELEASE covers that record.
func (v *View) owned(t *table, i uint32) bool {
	b := t.at(i)
	if b.has(viewFormer) {
		return b.has(viewOwner) && !v.released
	}
	return b.has(viewOwner) && v.seqOf(t, i) > v.releasedTo
}

// newSession starts a view anew beside what it has: all entries are former,
// all slots empty.
func (v *View) newSession(rebooted bool) {
	v.rebooted = rebooted
	for k := range v.tabs {
		t := &v.tabs[k]
		for i := range t.size {
			b := t.at(i)
			if b.has(flagUsed) && !b.has(viewDead) {
				b.put(viewOwner, v.owned(t, i))
				b.set(viewFormer)
			}
		}
		for _, c := range v.slots[k] {
			if c != nil {
				*c = [chunkSize]uint64{}
			}
		}
	}
	v.former = v.live
	v.complete, v.releasedTo, v.released, v.bequeathed = false, 0, false, false
	v.sweep = sweeping{}
	if v.n.mutant == mutantEarlySweep {
		v.startSweep(v.n.now)
	}
}

// sweeping removes what is former, in slices.
type sweeping struct {
	running bool
	kind    kind
	pos     uint32
	next    int64
}

// sweepPace is how many entries one slice of a sweep looks at.
const sweepPace = 16384

// saidComplete is the peer's word that all it has is here. It says false when
// it was said before.
func (v *View) saidComplete(now int64) bool {
	if v.complete {
		return false
	}
	v.complete = true
	if !v.rebooted {
		v.startSweep(now)
	}
	return true
}

// saidRelease is the peer's word that it owns nothing that it told up to seq.
func (v *View) saidRelease(seq uint64) {
	v.releasedTo, v.released = max(v.releasedTo, seq), true
}

func (v *View) startSweep(now int64) {
	if v.former > 0 {
		v.sweep = sweeping{running: true, next: now}
	}
}

// sweepSlice goes on with a sweep: a flow of a former session that was not
// said again is over.
func (v *View) sweepSlice(now int64) {
	s := &v.sweep
	if !s.running || s.next > now {
		return
	}
	s.next = now + sliceEvery
	t := &v.tabs[s.kind]
	for end := min(t.size, s.pos+sweepPace); s.pos < end; s.pos++ {
		if b := t.at(s.pos); b.has(flagUsed) && b.has(viewFormer) && !b.has(viewDead) {
			v.stats.Swept++
			v.drop(t, s.pos, v.owned(t, s.pos) && !v.elsewhere(t, s.pos))
		}
	}
	if s.pos >= t.size {
		s.kind, s.pos = s.kind+1, 0
	}
	if s.kind == kinds {
		*s = sweeping{}
	}
}

func (v *View) deadline() int64 {
	if v.sweep.running {
		return v.sweep.next
	}
	return forever
}

// drop takes an entry out of the view. owned: on the word of its owner, so the
// kernel table's entry goes too, unless this node is Active or owns the flow.
func (v *View) drop(t *table, i uint32, owned bool) {
	v.catchUp(t, i)
	b := t.at(i)
	if v.n.mutant == mutantForeignDelete {
		owned = true
	}

	v.live--
	if b.has(viewFormer) {
		v.former--
		b.clear(viewFormer)
	}
	if b.has(viewKernel) && !owned {
		v.stats.NotOwner++
	}
	if owned && (b.has(viewKernel) || b.has(viewBusy)) {
		var k conntrack.Key
		t.key(i<<1, &k)
		owned = !v.n.active && !v.n.own.owns(&k) && v.names(t, i, &k)
	}
	switch {
	case b.has(viewBusy):
		b.set(viewDead | viewAgain)
		b.put(viewOwner, owned)
	case b.has(viewKernel) && owned:
		b.set(viewDead)
		if v.want[t.kind].has(i) { // should it come back: what is in the kernel is stale
			b.set(viewAgain)
			v.want[t.kind].clear(i)
		}
		v.ends[t.kind].set(i)
	default:
		v.free(t, i)
	}
}

// names says whether k, the original tuple of an entry, is the one that it was
// indexed with: a name that was damaged may be another flow's.
func (v *View) names(t *table, i uint32, k *conntrack.Key) bool {
	j, ok := t.findOrig(k)
	return t.at(i).has(flagHidden) || ok && j == i
}

func (v *View) free(t *table, i uint32) {
	v.want[t.kind].clear(i)
	v.ends[t.kind].clear(i)
	v.aging[t.kind].clear(i)
	t.release(i)
}

// forgetDeletes drops all deletions that wait: this node became Active.
func (v *View) forgetDeletes() {
	v.adopt, v.late = [kinds]uint32{}, false
	for k := range v.tabs {
		m := &v.ends[k]
		for i := m.next(0); i != nobody; i = m.next(i + 1) {
			v.free(&v.tabs[k], i)
		}
	}
}

// owns says whether this node owns the flow with that original tuple.
func (o *own) owns(k *conntrack.Key) bool {
	t := &o.tabs[kindOf(k.Family)]
	i, ok := t.findOrig(k)
	return ok && t.at(i).has(ownOwner)
}

// heatAge is how long ago the last packet was, at most, by heat class; a view
// takes it off the time of arrival, so that old flows do not look young.
var heatAge = [4]int64{cold, int64(2 * time.Minute), int64(20 * time.Second), 0}

// heatOf is the class of a flow that a packet told so many ticks ago.
func heatOf(age uint32) uint8 {
	switch {
	case age < ticks(int64(8*time.Second)):
		return 3
	case age < ticks(int64(time.Minute)):
		return 2
	case age < ticks(int64(10*time.Minute)):
		return 1
	}
	return 0
}

// SPDX-License-Identifier: Apache-2.0

package loader

import "github.com/tandem-ha/tandem/conntrack"

// batchSize bounds how long the sink is held by one batch.
const batchSize = 1024

// change is what packets did to one flow within a batch.
type change struct {
	flow    conntrack.Flow
	at      int64
	verdict conntrack.Verdict
}

// batch merges what happened to one flow, and remembers what was told since
// the death socket was last seen empty. No I/O; its owner locks.
//
// Births and deaths come by two roads. A flow that was told before the socket
// was empty is certainly not the one whose death is read after: its tuple is
// recent otherwise, and one GET has to settle it.
type batch struct {
	changes []change
	id      uint32 // of this batch; marks in the generations refer to it
	recent  [2]map[conntrack.Key]mark
}

// mark: the place of a flow in the batch it was last told in.
type mark struct{ batch, index uint32 }

func newBatch() *batch {
	return &batch{
		changes: make([]change, 0, batchSize),
		recent:  [2]map[conntrack.Key]mark{{}, {}},
	}
}

// next gives the place for a record; take has to follow.
func (b *batch) next() *change {
	b.changes = b.changes[:len(b.changes)+1]
	return &b.changes[len(b.changes)-1]
}

// take keeps the change that was written to next's place: a former one of the
// same flow in this batch is replaced, the newest counts.
func (b *batch) take() {
	last := len(b.changes) - 1
	c := &b.changes[last]
	key := c.flow.Key()
	if m, ok := b.recent[0][key]; ok && m.batch == b.id {
		b.changes[m.index] = *c
		b.changes = b.changes[:last]
		return
	}
	b.recent[0][key] = mark{b.id, uint32(last)}
}

// refuse drops what was written to next's place.
func (b *batch) refuse() { b.changes = b.changes[:len(b.changes)-1] }

func (b *batch) full() bool { return len(b.changes) == batchSize }

// done empties the batch; what was told stays recent.
func (b *batch) done() {
	b.changes = b.changes[:0]
	b.id++
}

// isRecent: told since the death socket was last seen empty, so a death of
// this tuple may be of an older life.
func (b *batch) isRecent(k *conntrack.Key) bool {
	if _, ok := b.recent[0][*k]; ok {
		return true
	}
	_, ok := b.recent[1][*k]
	return ok
}

// emptied: the death socket was empty at the end of the read whose deaths were
// settled by now. What was told before that read began is no longer recent;
// what was told while its deaths were settled stays for the next.
func (b *batch) emptied() {
	b.recent[0], b.recent[1] = b.recent[1], b.recent[0]
	if len(b.recent[0]) > burst {
		b.recent[0] = map[conntrack.Key]mark{}
		return
	}
	clear(b.recent[0])
}

// burst: clearing a map walks all the room it ever had, and this is done with
// every read of the death socket. A generation larger than this gives its room
// back (a new Active is told all its flows at once).
const burst = 1 << 16

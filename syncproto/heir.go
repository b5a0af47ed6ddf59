// SPDX-License-Identifier: Apache-2.0

package syncproto

import "github.com/tandem-ha/tandem/conntrack"

// This file is for three nodes and more: one dies, another takes over, and the
// others hold a copy of both. What the heir tells as its own is out of date in
// the dead one's view, and what it does not tell is over. A node whose view was
// touched so is asked for everything when it is heard again.

// inherit ends what views of silent nodes have of a flow that this view's node
// owns now. The kernel table's entry goes to entry i with it; it says whether
// that has to be written again.
func (v *View) inherit(t *table, i uint32, f *conntrack.Flow, stale bool) bool {
	if len(v.n.peers) < 2 || v.n.active {
		return stale
	}
	k := f.Key()
	for _, p := range v.n.peers {
		q := &p.view
		if q == v || p.up {
			continue
		}
		j, ok := q.find(&k)
		if !ok {
			continue
		}
		qt, b := &q.tabs[t.kind], t.at(i)
		if qb := qt.at(j); qb.has(viewKernel) && !qb.has(viewBusy) && !b.has(viewKernel|viewBusy) {
			stale = stale || q.want[t.kind].has(j) || !qt.sameName(j, f) || significant(b.proto, qt.mutable(j), mutableOf(f))
			qb.clear(viewKernel)
			b.set(viewKernel)
		}
		q.ended(&k)
		q.bequeathed = true
	}
	return stale
}

// Bequeath drops what is left of the view of a silent node whose flows another
// one has taken over: that one has told all of them that live. What the kernel
// table has of the rest goes, too. It works in slices in Tick.
func (n *Node) Bequeath(p *Peer, now int64) {
	n.now = now
	if v := &p.view; !p.up && !n.active && v.live > 0 {
		v.bequeathed = true
		v.startBequest(now)
	}
}

// startBequest has the sweep take everything.
func (v *View) startBequest(now int64) {
	for k := range v.tabs {
		t := &v.tabs[k]
		for i := range t.size {
			if b := t.at(i); b.has(flagUsed) && !b.has(viewFormer|viewDead) {
				w := v.word(b.link)
				*w = slotWord(slotRefused, *w&slotSeqMask)
				b.set(viewFormer | viewOwner)
				v.former++
			} else if b.has(flagUsed) && !b.has(viewDead) {
				b.set(viewOwner)
			}
		}
	}
	v.released = false
	v.startSweep(now)
}

// elsewhere says whether another node's view has a flow of the same name: what
// the kernel table has is that one's.
func (v *View) elsewhere(t *table, i uint32) bool {
	if len(v.n.peers) < 2 {
		return false
	}
	var k conntrack.Key
	t.key(i<<1, &k)
	for _, p := range v.n.peers {
		if p.View() == v {
			continue
		}
		if _, ok := p.view.find(&k); ok {
			return true
		}
	}
	return false
}

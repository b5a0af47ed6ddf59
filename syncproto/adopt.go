// SPDX-License-Identifier: Apache-2.0

package syncproto

import "github.com/tandem-ha/tandem/conntrack"

// Adopt makes flows of all views that no own flow covers own: after a
// promotion this node answers for them. It looks at no more than max flows in
// one call and says whether there are more. Call it while Active; flows that a
// view gains later make it say more again.
func (n *Node) Adopt(max int, now int64) (more bool) {
	n.now = now
	for _, p := range n.peers {
		v := &p.view
		if v.reclaiming() {
			more = true
			continue
		}
		for k := range v.tabs {
			max -= v.adoptKind(&v.tabs[k], max, now)
		}
		more = more || v.adoptLeft()
	}
	return more
}

// adoptFlow makes one flow of a view own. A flow that packets told is known
// better here; one that was ours before is brought up to date.
func (o *own) adoptFlow(f *conntrack.Flow, at int64, now int64) {
	k, rk := f.Key(), f.ReplyKey()
	if o.covers(&k) || o.covers(&rk) {
		return
	}
	t := &o.tabs[kindOf(f.Family)]
	i, ok := t.findOrig(&k)
	if !ok || !t.sameName(i, f) {
		o.insert(t, f, ownOwner, at)
		return
	}
	b := t.at(i)
	m := mutableOf(f)
	t.setMutable(i, &m)
	o.claim(b)
	b.clear(ownGhost | ownHeld)
	o.changed(slotOf(t.kind, i))
}

// Reclaim is for an Active beside which the peer was Active too, until now: its
// flows went through the peer, so what packets told here before no longer
// counts against them. All of its view is uncommitted again, as replacements,
// and Adopt takes it anew, once Pending has done the Forget that this begins.
func (n *Node) Reclaim(p *Peer, now int64) {
	n.now = now
	v := &p.view
	v.Forget()
	v.forgetLate()
	v.forgetting.reclaim = true
	v.adopt, v.late = [kinds]uint32{}, false
}

// untell makes an own flow one that a view may bring up to date.
func (o *own) untell(k *conntrack.Key) {
	t := &o.tabs[kindOf(k.Family)]
	if i, _, ok := t.find(k); ok {
		t.at(i).clear(ownTold)
	}
}

// Release ends ownership of all own flows: from here on no death is told, and
// deaths that wait are forgotten. Call it first when leaving Active, before
// anything that may kill entries, and SetActive(false) with it.
func (n *Node) Release(now int64) {
	n.now = now
	o := &n.own
	o.drop = dropping{released: true}
	for _, h := range o.held {
		if b := o.body(h.slot); b.has(flagUsed) && b.link == h.use && b.has(ownHeld) {
			b.set(ownGhost)
		}
	}
	o.held = nil
	for k := range o.tabs {
		o.releaseKind(&o.tabs[k])
	}
	for _, p := range n.peers {
		p.released()
	}
}

// releaseKind takes ownership from all flows of one kind. Slots of flows that
// ended as owned must say so before they are used again.
func (o *own) releaseKind(t *table) {
	t.free = nobody
	for i := range t.size {
		b := t.at(i)
		switch {
		case !b.has(flagUsed | ownParked):
			o.park(slotOf(t.kind, i))
		case b.has(ownOwner) && b.has(flagUsed):
			b.set(ownMixed)
			b.clear(ownOwner | ownTold | ownHeld)
			o.owned--
		}
	}
}

// dropping is the state after Release: released flows stay until a peer has
// them, then those it covers go, in slices.
type dropping struct {
	released bool // ghosts are kept
	running  bool
	kind     kind
	pos      uint32
	next     int64
}

// dropPace is how many own flows one slice of DropReleased looks at.
const dropPace = 8192

// DropReleased drops own flows that a peer's complete view covers, and those
// that died since Release. It works in slices in Tick. Call it when the new
// Active's view is complete.
func (n *Node) DropReleased(now int64) {
	n.now = now
	n.own.drop = dropping{released: n.own.drop.released, running: true, next: now}
}

func (o *own) dropSlice(now int64) {
	d := &o.drop
	if !d.running || d.next > now {
		return
	}
	if o.n.active {
		*d = dropping{}
		return
	}
	d.next = now + sliceEvery
	for _, p := range o.n.peers {
		if p.view.forgetting.running { // it asks what is about to be dropped
			p.view.forgetSlice()
			return
		}
	}
	var k conntrack.Key
	t := &o.tabs[d.kind]
	for end := min(t.size, d.pos+dropPace); d.pos < end; d.pos++ {
		b := t.at(d.pos)
		if !b.has(flagUsed) || b.has(ownOwner) {
			continue
		}
		t.key(d.pos<<1, &k)
		if b.has(ownGhost) || o.n.covered(&k) {
			o.remove(slotOf(t.kind, d.pos), false)
		}
	}
	if d.pos >= t.size {
		d.kind, d.pos = d.kind+1, 0
	}
	if d.kind == kinds {
		*d = dropping{}
	}
}

// covered says whether a peer that said complete owns the flow.
func (n *Node) covered(k *conntrack.Key) bool {
	for _, p := range n.peers {
		if !p.view.complete {
			continue
		}
		if i, ok := p.view.find(k); ok && p.view.owned(p.view.table(k.Family), i) {
			return true
		}
	}
	return false
}

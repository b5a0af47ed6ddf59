// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// Flags of an own flow. Of a free slot only ownOwner means something: whether
// the flow that was there was owned when it ended.
const (
	ownOwner  flag = 1 << (22 + iota)
	ownTold        // a packet told it in this term; a seed never overwrites it
	ownHeld        // an uncertain death waits for its time
	ownGhost       // the kernel table lost it after Release; peers keep it
	ownMixed       // ownership changed in this use of the slot
	ownParked      // an empty slot in own.parked
)

const forever = int64(1<<63 - 1)

// refresh is after how long a packet that changes nothing is told again: the
// peer learns that the flow is alive, in five bytes.
var refresh = ticks(int64(30 * time.Second))

// cold is the age given to a flow that no packet told.
const cold = int64(time.Hour)

// own is the set of flows that this node replicates. The number of an entry is
// its slot.
type own struct {
	n       *Node
	tabs    [kinds]table
	lastUse uint32
	owned   int         // flows with ownOwner
	held    []heldDeath // in the order of their deadlines
	drop    dropping
	parked  queue  // empty slots that are not to be used before all peers know that they are
	full    uint64 // flows refused because of MaxFlows
	scratch conntrack.Flow
}

// heldDeath waits: the flow ends unless a packet tells it, or Release comes.
type heldDeath struct {
	slot, use uint32
	deadline  int64
}

func (o *own) init(n *Node) {
	o.n = n
	for k := range o.tabs {
		o.tabs[k].init(kind(k), n.cfg.MaxFlows, n.seed)
	}
}

func slotOf(k kind, i uint32) uint32 { return i<<1 | uint32(k) }

func (o *own) body(slot uint32) *body { return o.tabs[slot&1].at(slot >> 1) }

// Tell says that a packet made or changed f: this node owns it.
func (n *Node) Tell(f *conntrack.Flow, now int64) {
	n.now = now
	o := &n.own
	nf := &o.scratch
	*nf = *f
	normal(nf)
	t, k := &o.tabs[kindOf(f.Family)], f.Key()
	i, ok := t.findOrig(&k)
	if ok && t.sameName(i, nf) {
		o.retell(t, i, nf, now)
		return
	}
	o.insert(t, nf, ownOwner|ownTold, now)
}

// retell is Tell for a flow that is there.
func (o *own) retell(t *table, i uint32, f *conntrack.Flow, now int64) {
	b := t.at(i)
	m := mutableOf(f)
	changed := !b.has(ownOwner) || differ(t.mutable(i), m)
	o.claim(b)
	b.set(ownTold)
	b.clear(ownHeld | ownGhost)
	if !changed && b.age(now) < refresh {
		return
	}
	t.setMutable(i, &m)
	b.touch(now)
	o.changed(slotOf(t.kind, i))
}

// claim makes this node the owner.
func (o *own) claim(b *body) {
	if !b.has(ownOwner) {
		b.set(ownOwner | ownMixed)
		o.owned++
	}
}

// differ says whether peers must hear of it: the timeout alone is not told
// before refresh.
func differ(a, b mutable) bool {
	a.timeout = b.timeout
	return a != b
}

// insert makes room for f, whose tuples may be another flow's that died
// without a word, and tells peers of it. f is in normal form.
func (o *own) insert(t *table, f *conntrack.Flow, flags flag, at int64) bool {
	k, rk := f.Key(), f.ReplyKey()
	h, rh := t.hash(&k), t.hash(&rk)
	if i, _, ok := t.findHash(&k, h); ok {
		o.remove(slotOf(t.kind, i), t.at(i).has(ownOwner))
	}
	if i, _, ok := t.findHash(&rk, rh); ok {
		o.remove(slotOf(t.kind, i), t.at(i).has(ownOwner))
	}
	for flags&ownOwner == 0 && t.free != nobody && o.heldByPeer(slotOf(t.kind, t.free)) {
		o.park(slotOf(t.kind, t.unlink())) // the end of an owned flow is not for this one to say
	}
	i, ok := t.alloc()
	if !ok {
		o.full++
		return false
	}
	t.store(i, f, h, rh)
	b := t.at(i)
	o.lastUse++
	b.link = o.lastUse
	b.touch(at)
	b.set(flags)
	if flags&ownOwner != 0 {
		o.owned++
	}
	o.changed(slotOf(t.kind, i))
	return true
}

// remove ends an own flow. owned says whether it is an owner's word. A new flow
// may take the slot at once, and its record then says the end of this one; but
// only if that is an owner's word, and always was: else a peer might take it
// for the wrong one, and the slot stays empty until all peers know it.
func (o *own) remove(slot uint32, owned bool) {
	t, i := &o.tabs[slot&1], slot>>1
	mixed := t.at(i).has(ownMixed)
	if t.at(i).has(ownOwner) {
		o.owned--
	}
	t.vacate(i)
	t.at(i).put(ownOwner, owned)
	for _, p := range o.n.peers {
		p.slotFreed(slot)
	}
	if mixed || !owned {
		o.park(slot)
	} else {
		t.recycle(i)
	}
}

// park gives an empty slot back, but not before all peers know that it is.
func (o *own) park(slot uint32) {
	t, i := &o.tabs[slot&1], slot>>1
	if o.heldByPeer(slot) {
		t.at(i).set(ownParked)
		o.parked.push(slot, 0)
	} else {
		t.recycle(i)
	}
}

func (o *own) heldByPeer(slot uint32) bool {
	for _, p := range o.n.peers {
		if p.session.confirmed && *p.out.word(slot)&slotTold != 0 {
			return true
		}
	}
	return false
}

// unpark gives slots back whose emptiness all peers know.
func (o *own) unpark() {
	for slot, _, ok := o.parked.peek(); ok && !o.heldByPeer(slot); slot, _, ok = o.parked.peek() {
		o.parked.pop()
		o.body(slot).clear(ownParked)
		o.tabs[slot&1].recycle(slot >> 1)
	}
}

func (o *own) changed(slot uint32) {
	for _, p := range o.n.peers {
		p.slotChanged(slot)
	}
}

// Gone says that a packet took f to TIME_WAIT or CLOSE: it ends at the peers.
func (n *Node) Gone(f *conntrack.Flow, now int64) {
	n.now = now
	k := f.Key()
	t := &n.own.tabs[kindOf(f.Family)]
	if i, ok := t.findOrig(&k); ok {
		n.own.remove(slotOf(t.kind, i), true)
		return
	}
	if n.active { // not yet adopted: it must not be
		n.ended(&k)
	}
}

func (n *Node) ended(k *conntrack.Key) {
	for _, p := range n.peers {
		p.view.ended(k)
	}
}

// Seed says that the kernel table holds f (dump at start, audit). It never
// overwrites what was told. It is owned only while Active; else it is not
// taken at all if a view has it: then it was committed from there.
func (n *Node) Seed(f *conntrack.Flow, now int64) {
	n.now = now
	o := &n.own
	nf := &o.scratch
	*nf = *f
	normal(nf)
	t, k, rk := &o.tabs[kindOf(f.Family)], f.Key(), f.ReplyKey()
	var flags flag
	if n.active {
		flags = ownOwner
	}
	i, reply, ok := t.find(&k)
	if !ok {
		if j, _, taken := t.find(&rk); taken && t.at(j).has(ownTold) {
			return
		}
		if n.active || !n.found(nf) {
			o.insert(t, nf, flags, now-cold)
		}
		return
	}
	b := t.at(i)
	switch {
	case b.has(ownTold):
	case reply || !t.sameName(i, nf):
		o.insert(t, nf, flags, now-cold)
	default:
		m := mutableOf(nf)
		if differ(t.mutable(i), m) || n.active && !b.has(ownOwner) {
			t.setMutable(i, &m)
			b.clear(ownGhost)
			if n.active {
				o.claim(b)
			}
			o.changed(slotOf(t.kind, i))
		}
	}
}

// covers says whether a flow that packets told in this term of ours holds k in
// either direction: the kernel table has it, and knows it better than a peer.
func (o *own) covers(k *conntrack.Key) bool {
	t := &o.tabs[kindOf(k.Family)]
	i, _, ok := t.find(k)
	return ok && t.at(i).has(ownOwner) && t.at(i).has(ownTold)
}

// Died says that the kernel table lost d.Flow. Only the owner's word counts;
// an uncertain death waits for Config.HoldDeath.
func (n *Node) Died(d *conntrack.Death, now int64) {
	n.now = now
	o := &n.own
	k := d.Flow.Key()
	t := &o.tabs[kindOf(k.Family)]
	i, ok := t.findOrig(&k)
	if !ok {
		if n.active {
			n.diedUnadopted(d, &k)
		}
		return
	}
	slot, b := slotOf(t.kind, i), t.at(i)
	switch {
	case !b.has(ownOwner) && !n.active:
		o.entryGone(slot)
	case certain(d, b.state):
		o.remove(slot, b.has(ownOwner))
	case !b.has(ownHeld):
		b.set(ownHeld)
		o.held = append(o.held, heldDeath{slot, b.link, now + int64(n.cfg.HoldDeath)})
	}
}

// diedUnadopted is the death of what a view brought and this Active has not made
// its own yet. One that ended must not be adopted; one whose entry ran out did so
// because no packet passed here while this node was Backup, and is written again.
func (n *Node) diedUnadopted(d *conntrack.Death, k *conntrack.Key) {
	switch {
	case d.PortID == 0 && d.TimeLeft <= 1 && !closing(d.Flow.Proto, d.Flow.TCP.State):
		for _, p := range n.peers {
			p.view.Lost(k)
		}
	case certain(d, 0):
		n.ended(k)
	}
}

// entryGone ends a flow that this node does not own, after its entry; a
// released one stays, since a peer may need it to take over.
func (o *own) entryGone(slot uint32) {
	if o.drop.released && !o.drop.running {
		o.body(slot).set(ownGhost)
	} else {
		o.remove(slot, false)
	}
}

// deleted is told that this node deleted the entry of k, of which the kernel
// tells it nothing: a flow seeded from it is over, too.
func (o *own) deleted(k *conntrack.Key) {
	t := &o.tabs[kindOf(k.Family)]
	if i, ok := t.findOrig(k); ok && !t.at(i).has(ownOwner) && !o.n.active {
		o.entryGone(slotOf(t.kind, i))
	}
}

// certain says whether a death is the flow's own: it ran out, packets closed
// it, or somebody asked for it. Others may come from a lost link or address.
func certain(d *conntrack.Death, state uint8) bool {
	return d.PortID != 0 || d.TimeLeft <= 1 ||
		closing(d.Flow.Proto, d.Flow.TCP.State) || closing(d.Flow.Proto, conntrack.TCPState(state))
}

func closing(proto uint8, s conntrack.TCPState) bool {
	return proto == unix.IPPROTO_TCP && s >= conntrack.TCPFinWait && s <= conntrack.TCPClose
}

func (o *own) tick(now int64) {
	for len(o.held) > 0 && o.held[0].deadline <= now {
		h := o.held[0]
		o.held = o.held[1:]
		b := o.body(h.slot)
		if b.has(flagUsed) && b.link == h.use && b.has(ownHeld) {
			o.remove(h.slot, b.has(ownOwner))
		}
	}
	if len(o.held) == 0 {
		o.held = nil
	}
	o.unpark()
	o.dropSlice(now)
}

func (o *own) deadline() int64 {
	d := forever
	if len(o.held) > 0 {
		d = o.held[0].deadline
	}
	if o.drop.running {
		d = min(d, o.drop.next)
	}
	return d
}

// OwnLen is the number of own flows.
func (n *Node) OwnLen() int {
	return int(n.own.tabs[kind4].n) + int(n.own.tabs[kind6].n)
}

// Owned is the number of own flows that this node owns.
func (n *Node) Owned() int { return n.own.owned }

// OwnKeys calls fn for the names of own flows, looking at no more than max
// places from position from on (first 0), and gives the next position, 0 after
// the last. A flow that comes or goes between two calls may be missed.
func (n *Node) OwnKeys(from uint32, max int, fn func(k *conntrack.Key)) (next uint32) {
	return keysOf(&n.own.tabs, from, max, flagUsed, 0, fn)
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// newer says whether a record of sequence seq may be applied to a slot: older
// never overwrites newer, and nothing is applied twice.
func (v *View) newer(w, seq uint64) bool {
	return seq > w&slotSeqMask || v.n.mutant == mutantOlderApplied
}

// hash computes what full needs of a full record's tuples, and looks at where
// the index has them.
func (v *View) hash(rec *flowRecord) (seen uint8) {
	if rec.class != classFull {
		return 0
	}
	t, k, rk := &v.tabs[rec.slot&1], rec.flow.Key(), rec.flow.ReplyKey()
	rec.orig, rec.reply = t.hash(&k), t.hash(&rk)
	return t.tuples.touch(rec.orig) + t.tuples.touch(rec.reply)
}

// warm hashes the tuples of all records before any is applied: where they are
// looked up is all over the memory, and a processor waits for many of these
// places at once, if nothing in between needs the first.
func (v *View) warm(recs []flowRecord) {
	var seen uint8
	for i := range recs {
		seen += v.hash(&recs[i])
	}
	v.warmed = seen // or the compiler would not look
}

// full applies a full record, hashed: it replaces whatever the slot held.
//
// Within a view a tuple is one flow's, as it is within the peer's kernel table.
// The newest record has it: an older flow whose tuple is claimed loses its
// entry, and its slot waits, lost, for the record of its end.
func (v *View) full(rec *flowRecord, seq uint64, now int64) {
	w := v.word(rec.slot)
	if !v.newer(*w, seq) {
		return
	}
	t, f := &v.tabs[rec.slot&1], &rec.flow
	k, rk := f.Key(), f.ReplyKey()
	h, rh := rec.orig, rec.reply
	old, held := v.entryOf(rec.slot, *w)
	admitted, ripe := v.admit(f)
	if admitted && !held && !v.taken(t, &k, h) && !v.taken(t, &rk, rh) { // the way of nearly all
		*w = slotWord(slotLost, seq)
		v.create(t, w, rec, ripe, now)
		return
	}
	take := admitted
	if take && (v.claimed(t, &k, rec.slot, seq) || v.claimed(t, &rk, rec.slot, seq)) {
		v.stats.Displaced++ // by a younger flow whose record overtook this one
		take = false
	}
	same, ok := t.findOrig(&k)
	if held && !(take && ok && same == old) {
		// It ended before any RELEASE: else its slot would not be used again
		// before we knew (own.park). So its record's word on the owner counts.
		v.drop(t, old, t.at(old).has(viewOwner))
	}
	*w = slotWord(slotLost, seq)
	if !admitted {
		*w = slotWord(slotRefused, seq)
	}
	if !take {
		return
	}
	v.displace(t, &k, &k)
	v.displace(t, &rk, &k)
	if i, ok := t.findOrig(&k); ok {
		v.put(t, w, i, rec, v.renew(t, i, f), ripe, now)
	} else {
		v.create(t, w, rec, ripe, now)
	}
}

func (v *View) taken(t *table, k *conntrack.Key, h uint64) bool {
	_, _, ok := t.findHash(k, h)
	return ok
}

// claimed says whether a newer record of another slot gave k to an entry.
func (v *View) claimed(t *table, k *conntrack.Key, slot uint32, seq uint64) bool {
	i, _, ok := t.find(k)
	return ok && t.at(i).link != slot && v.seqOf(t, i) > seq
}

// displace takes k from an entry whose original tuple is not keep.
func (v *View) displace(t *table, k, keep *conntrack.Key) {
	i, _, ok := t.find(k)
	if !ok {
		return
	}
	var orig conntrack.Key
	if t.key(i<<1, &orig); orig == *keep {
		return
	}
	b := t.at(i)
	if !b.has(viewDead) {
		v.stats.Displaced++
		owned := v.owned(t, i)
		v.loseSlot(b)
		v.drop(t, i, owned)
	}
	if b = t.at(i); b.has(flagUsed) {
		t.hide(i)
	}
}

// loseSlot parts an entry from its slot, which keeps its sequence.
func (v *View) loseSlot(b *body) {
	if !b.has(viewFormer | viewDead) {
		w := v.word(b.link)
		*w = slotWord(slotLost, *w&slotSeqMask)
	}
}

// create makes an entry for the flow of a full record; nobody has its tuples.
func (v *View) create(t *table, w *uint64, rec *flowRecord, ripe bool, now int64) {
	i, ok := t.alloc()
	if !ok {
		v.stats.RefusedFull++
		*w = slotWord(slotRefused, *w&slotSeqMask)
		return
	}
	t.store(i, &rec.flow, rec.orig, rec.reply)
	t.at(i).link = nobody
	v.live++
	v.late = true
	v.put(t, w, i, rec, false, ripe, now)
}

// put makes an entry that has the flow of a full record the slot's. stale: the
// kernel table, if it has the entry, has it wrong.
func (v *View) put(t *table, w *uint64, i uint32, rec *flowRecord, stale, ripe bool, now int64) {
	b := t.at(i)
	fresh := b.link != rec.slot
	b.link = rec.slot
	*w = slotWord(i+1, *w&slotSeqMask)
	if at := now - heatAge[rec.heat]; fresh || b.age(now) > b.ageAt(now, at) {
		b.touch(at)
	}
	b.put(viewOwner, rec.owner)
	if rec.owner {
		stale = v.inherit(t, i, &rec.flow, stale)
	}
	if fresh && !v.n.active && !b.has(viewBusy) {
		if r := v.n.own.left(&rec.flow); r.there {
			b.set(viewKernel)
			stale = stale || r.stale(b.proto, mutableOf(&rec.flow))
		}
	}
	v.settle(t, i, &rec.flow, stale, ripe)
	if fresh {
		v.renewLeft(t, i)
	}
}

func (b *body) ageAt(now, at int64) uint32 { return (ticks(now) - ticks(at)) & tickMask }

// renew writes f over an entry with the same original tuple: of the same slot,
// of another that lost it, of a former session, or one that waits for its
// deletion. It says whether the kernel table, if it has the entry, has it wrong.
func (v *View) renew(t *table, i uint32, f *conntrack.Flow) (stale bool) {
	v.catchUp(t, i)
	b := t.at(i)
	switch {
	case b.has(viewDead):
		stale = b.has(viewAgain)
		if !b.has(viewBusy) {
			b.clear(viewAgain)
		}
		b.clear(viewDead)
		v.ends[t.kind].clear(i)
		v.live++
	case b.has(viewFormer):
		v.former--
		b.clear(viewFormer)
	default:
		v.loseSlot(b)
	}
	if !t.sameName(i, f) {
		t.unindex(i)
		k, rk := f.Key(), f.ReplyKey()
		t.store(i, f, t.hash(&k), t.hash(&rk))
		return true
	}
	m := mutableOf(f)
	stale = stale || significant(b.proto, t.mutable(i), m)
	t.setMutable(i, &m)
	return stale
}

// significant says whether the kernel table's entry must be written again when
// is becomes m. A write costs as much as a new entry and forgets the windows, so
// only what packets cannot set right by themselves counts: not timeout and
// heat, not the way from ESTABLISHED to the end.
func significant(proto uint8, is, m mutable) bool {
	const status = uint16(conntrack.SeenReply | conntrack.Assured | conntrack.SrcNAT | conntrack.DstNAT |
		conntrack.FixedTimeout | conntrack.Helper)
	if is.mark != m.mark || (is.status^m.status)&status != 0 {
		return true
	}
	switch proto {
	case unix.IPPROTO_TCP:
		const flags = (conntrack.TCPFlagWindowScale | conntrack.TCPFlagSackPerm) * 0x11
		return phase(is.state) != phase(m.state) || (is.flags^m.flags)&flags != 0 || is.scale != m.scale
	case unix.IPPROTO_SCTP:
		const established = 4 // SCTP_CONNTRACK_ESTABLISHED
		return is.vtag != m.vtag || min(is.state, established) != min(m.state, established)
	}
	return false
}

func phase(state uint8) uint8 {
	switch conntrack.TCPState(state) {
	case conntrack.TCPFinWait, conntrack.TCPCloseWait, conntrack.TCPLastAck:
		return uint8(conntrack.TCPEstablished)
	}
	return state
}

// short applies a short record to the flow of its slot. It says false when the
// slot is empty: the peer thinks that we have a full record, which must not be.
func (v *View) short(rec *flowRecord, seq uint64, now int64) bool {
	w := v.word(rec.slot)
	if !v.newer(*w, seq) {
		return true
	}
	i, ok := v.entryOf(rec.slot, *w)
	if !ok {
		if *w>>slotSeqBits == slotEmpty {
			return false
		}
		*w = slotWord(uint32(*w>>slotSeqBits), seq)
		return true
	}
	*w = slotWord(i+1, seq)
	t, f := &v.tabs[rec.slot&1], &v.scratch
	v.catchUp(t, i)
	t.load(i, f)
	rec.resolve(f)
	b := t.at(i)
	m := mutableOf(f)
	stale := significant(b.proto, t.mutable(i), m)
	t.setMutable(i, &m)
	if rec.owner && !b.has(viewOwner) {
		stale = v.inherit(t, i, f, stale)
	}
	b.put(viewOwner, rec.owner)
	if at := now - heatAge[rec.heat]; !v.want[t.kind].has(i) && b.age(now) > b.ageAt(now, at) {
		b.touch(at) // not while it waits for its age: it would wait for ever
	}
	v.settle(t, i, f, stale, false)
	return true
}

// del applies a deletion. owner: it is the word of the flow's owner.
func (v *View) del(rec *flowRecord, seq uint64) {
	w := v.word(rec.slot)
	if !v.newer(*w, seq) {
		return
	}
	i, ok := v.entryOf(rec.slot, *w)
	if ok {
		v.drop(&v.tabs[rec.slot&1], i, rec.owner)
	}
	*w = slotWord(slotEmpty, seq)
}

// ended takes a flow that packets ended here out of the view. The peer may have
// it for long: a digest that says so must not bring it back.
func (v *View) ended(k *conntrack.Key) {
	if i, ok := v.find(k); ok {
		t := v.table(k.Family)
		if b := t.at(i); !b.has(viewFormer) {
			w := v.word(b.link)
			*w = slotWord(slotRefused, *w&slotSeqMask)
		}
		v.drop(t, i, false)
	}
}

// settle decides what an entry that was written needs in the kernel table.
// ripe: the policy was asked already.
func (v *View) settle(t *table, i uint32, f *conntrack.Flow, stale, ripe bool) {
	b := t.at(i)
	switch {
	case b.has(viewBusy):
		if stale {
			b.set(viewAgain)
		}
	case b.has(viewKernel):
		if stale && !v.n.active {
			v.want[t.kind].set(i)
		}
	case !v.want[t.kind].has(i) && (ripe || v.n.cfg.Policy.Match(f) == conntrack.Replicate):
		if v.n.active {
			b.set(viewLate)
			if !b.has(viewOwner) {
				return
			}
		}
		v.want[t.kind].set(i)
	}
}

// admit says whether a flow may be kept at all: copied state is a way around a
// firewall. Its age is not asked here but before it is committed: a flow may
// still grow up, and then only a short record comes. ripe: it has.
func (v *View) admit(f *conntrack.Flow) (admitted, ripe bool) {
	if len(v.n.local) > 0 && (v.isLocal(f, &f.Orig.Src) || v.isLocal(f, &f.Orig.Dst) || v.isLocal(f, &f.Reply.Src)) {
		v.stats.RefusedLocal++
		return false, false
	}
	if v.n.cfg.Policy.Match(f) == conntrack.Replicate {
		return true, true
	}
	grown := &v.scratch
	*grown = *f
	grown.Status |= conntrack.SeenReply | conntrack.Assured
	grown.TCP.State = conntrack.TCPEstablished
	if v.n.cfg.Policy.Match(grown) != conntrack.Replicate {
		v.stats.RefusedPolicy++
		return false, false
	}
	return true, false
}

// isLocal looks into the map only for the few addresses that end like a local
// one.
func (v *View) isLocal(f *conntrack.Flow, a *conntrack.Addr) bool {
	last := a[3]
	if f.Family == conntrack.IPv6 {
		last = a[15]
	}
	if !v.n.localEnds[last] {
		return false
	}
	_, ok := v.n.local[a.IP(f.Family)]
	return ok
}

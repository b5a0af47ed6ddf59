// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"
)

// A digest is the sum of 64 bits for each flow of a range of slots: two copies
// that differ have the same one by a chance of 2^-64. It is keyed by the
// sender's session, so a chance that happened is over with the session, and
// nobody who chooses his ports well can make it happen.

// rangeSlots is how many slots one digest of the rotation covers.
const rangeSlots = 256

// slotRange is count slots of one family from first on.
type slotRange struct {
	first uint32
	count int // 1 to rangeSlots
}

// digestRecord is DIGEST as a value.
type digestRecord struct {
	round uint32 // 0: of the rotation; else whoever compares wants a VERDICT
	slotRange
	flows int // in the range
	sum   uint64
}

// verdict is what the receiver of a digest says of its copy of the range.
type verdict uint8

const (
	verdictSame    verdict = iota
	verdictDiffers         // the copy is another
	verdictNewer           // something newer than the digest was applied: ask again
	verdictRefused         // slots of the range were refused here: they cannot be compared
)

// verdictRecord is VERDICT as a value.
type verdictRecord struct {
	round   uint32
	first   uint32
	verdict verdict
	flows   int // that the receiver holds in the range
}

// What RESYNC asks for.
const (
	resyncAll     = 0 // everything again
	resyncRanges  = 1 // the slots of these ranges again
	resyncDigests = 2 // digests of these ranges

	maxResync = 64 // ranges in one record
)

func (r *reader) slotRange() (s slotRange) {
	first := r.uvarint()
	s.count = int(r.byte()) + 1
	if first>>1 >= maxEntries || int(first>>1)+s.count > maxEntries {
		r.bad = true
		return slotRange{}
	}
	s.first = uint32(first)
	return s
}

func (s slotRange) append(b []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(s.first)), byte(s.count-1))
}

// maxDigest is more than the longest DIGEST or VERDICT, its head included.
const maxDigest = 32

func appendDigest(b []byte, d *digestRecord) []byte {
	var body [maxDigest]byte
	out := binary.AppendUvarint(body[:0], uint64(d.round))
	out = d.slotRange.append(out)
	out = binary.AppendUvarint(out, uint64(d.flows))
	return appendControl(b, recDigest, binary.BigEndian.AppendUint64(out, d.sum))
}

func parseDigest(b []byte, d *digestRecord) bool {
	r := reader{b: b}
	round := r.uvarint()
	d.round, d.slotRange = uint32(round), r.slotRange()
	flows := r.uvarint()
	d.flows = int(min(flows, rangeSlots+1))
	d.sum = uint64(r.u32())<<32 | uint64(r.u32())
	return !r.bad && len(r.b) == 0 && round <= 1<<32-1 && d.flows <= d.count
}

func appendVerdict(b []byte, v *verdictRecord) []byte {
	var body [maxDigest]byte
	out := binary.AppendUvarint(body[:0], uint64(v.round))
	out = binary.AppendUvarint(out, uint64(v.first))
	out = append(out, byte(v.verdict))
	return appendControl(b, recVerdict, binary.AppendUvarint(out, uint64(v.flows)))
}

func parseVerdict(b []byte, v *verdictRecord) bool {
	r := reader{b: b}
	round, first := r.uvarint(), r.uvarint()
	v.round, v.first, v.verdict = uint32(round), uint32(first), verdict(r.byte())
	flows := r.uvarint()
	v.flows = int(min(flows, rangeSlots+1))
	return !r.bad && len(r.b) == 0 && round <= 1<<32-1 && first>>1 < maxEntries &&
		v.verdict <= verdictRefused && v.flows <= rangeSlots
}

func appendResync(b []byte, what byte, ranges []slotRange) []byte {
	var body [1 + maxResync*(binary.MaxVarintLen32+1)]byte
	out := append(body[:0], what)
	for _, s := range ranges {
		out = s.append(out)
	}
	return appendControl(b, recResync, out)
}

// parseResync calls fn, if there is one, for each range of a RESYNC.
func parseResync(b []byte, fn func(slotRange)) (what byte, ok bool) {
	r := reader{b: b}
	what = r.byte()
	n := 0
	for ; len(r.b) > 0 && !r.bad; n++ {
		if s := r.slotRange(); !r.bad && fn != nil {
			fn(s)
		}
	}
	ok = !r.bad && (what == resyncAll && n == 0 || (what == resyncRanges || what == resyncDigests) && n > 0 && n <= maxResync)
	return what, ok
}

// digestKey is what the sums of a sender are keyed with.
func digestKey(sender Session) uint64 { return binary.BigEndian.Uint64(sender[:8]) }

// digest gives the 64 bits of entry i as the flow of a slot: all that peers
// must have alike, so neither its timeout nor when packets told it.
func (t *table) digest(i, slot uint32, owner bool, key uint64) uint64 {
	b := t.at(i)
	vtag := uint64(0)
	if b.proto == unix.IPPROTO_SCTP {
		v := t.vtags[i]
		vtag = uint64(v[0])<<32 | uint64(v[1])
	}
	h := fold(key,
		uint64(slot)<<35|uint64(b.state)<<27|uint64(b.zone)<<11|uint64(b.proto)<<3|uint64(b.zoneDir())<<1|uint64(bit(owner)),
		uint64(b.mark)<<32|uint64(b.status&statusMask)<<16|uint64(b.flags)<<8|uint64(b.scale))
	if t.kind == kind4 {
		e := &t.c4[i>>chunkBits][i&chunkMask]
		h = fold(h, ports(e.orig.srcPort, e.orig.dstPort, e.reply.srcPort, e.reply.dstPort), vtag)
		return fold(h, e.orig.addresses(), e.reply.addresses())
	}
	e := &t.c6[i>>chunkBits][i&chunkMask]
	h = fold(h, ports(e.orig.srcPort, e.orig.dstPort, e.reply.srcPort, e.reply.dstPort), vtag)
	for _, a := range [...]*[16]byte{&e.orig.src, &e.orig.dst, &e.reply.src, &e.reply.dst} {
		h = fold(h, binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]))
	}
	return h
}

func ports(a, b, c, d uint16) uint64 {
	return uint64(a)<<48 | uint64(b)<<32 | uint64(c)<<16 | uint64(d)
}

func (t *tuple4) addresses() uint64 {
	return uint64(binary.BigEndian.Uint32(t.src[:]))<<32 | uint64(binary.BigEndian.Uint32(t.dst[:]))
}

// fold mixes two words into h: both halves of one product of 128 bits.
func fold(h, a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^h^0xa0761d6478bd642f, b^0xe7037ed1a0b428db)
	return hi ^ lo ^ bits.RotateLeft64(h, 23)
}

// digest gives the sum of own flows in a range.
func (o *own) digest(s slotRange, key uint64) (sum uint64, flows int) {
	t := &o.tabs[s.first&1]
	first := s.first >> 1
	for i := first; i < min(t.size, first+uint32(s.count)); i++ {
		if b := t.at(i); b.has(flagUsed) {
			sum += t.digest(i, slotOf(t.kind, i), b.has(ownOwner), key)
			flows++
		}
	}
	return sum, flows
}

// digest gives the sum of what the view holds in the slots of a range, if a
// digest of sequence seq speaks of just that; gaps are the parts of the range
// around slots that were refused.
func (v *View) digest(s slotRange, seq, key uint64, gaps []slotRange) (sum uint64, flows int, say verdict, around []slotRange) {
	t := &v.tabs[s.first&1]
	gap := slotRange{first: s.first}
	for n := range uint32(s.count) {
		slot := s.first + n<<1
		w := v.peek(slot)
		if w&slotSeqMask >= seq {
			return 0, 0, verdictNewer, nil
		}
		e := w >> slotSeqBits
		if e == slotRefused {
			say = verdictRefused
			if gap.count > 0 {
				gaps = append(gaps, gap)
			}
			gap = slotRange{first: slot + 2}
			continue
		}
		gap.count++
		if e == slotEmpty || e == slotLost {
			continue
		}
		flows++
		i, ok := v.entryOf(slot, w)
		if !ok {
			sum++ // differs, by all chance
			continue
		}
		sum += t.digest(i, slot, v.owned(t, i), key)
	}
	if say == verdictRefused && gap.count > 0 {
		gaps = append(gaps, gap)
	}
	return sum, flows, say, gaps
}

// peek gives the word of a slot, 0 where there is none.
func (v *View) peek(slot uint32) uint64 {
	k, i := slot&1, slot>>1
	if c := int(i >> chunkBits); c < len(v.slots[k]) && v.slots[k][c] != nil {
		return v.slots[k][c][i&chunkMask]
	}
	return 0
}

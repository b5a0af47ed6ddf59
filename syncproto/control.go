// SPDX-License-Identifier: Apache-2.0

package syncproto

import "encoding/binary"

// Control records: type, length (varint), body. What has no name here is
// skipped, so a later version may add to it.
const (
	recHello    = 1
	recAck      = 2
	recState    = 3
	recComplete = 4
	recRelease  = 5
	recDigest   = 6
	recResync   = 7
	recOffer    = 8 // reserved: orphans offered back after a reboot
	recDetail   = 9 // reserved: labels, helper, master, SCTP tags of a slot
	recPath     = 10
	recVerdict  = 11
)

const (
	maxBlob  = 64
	maxName  = 64
	helloMin = 2 + 1 + 8 + 16 + 8

	helloPaired = 1 << 0 // flags: the sender holds the pair of this header
	helloAsks   = 1 << 1 // of a call: the sender does not hear the receiver
)

// hello is what a node says of itself before data count.
type hello struct {
	minVersion, maxVersion uint8
	flags                  uint8
	features               uint64
	bootID                 [16]byte
	netns                  uint64
	name                   string
}

func appendControl(b []byte, typ byte, body []byte) []byte {
	b = append(b, classControl|typ)
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

func appendHello(b []byte, h *hello) []byte {
	b = append(b, classControl|recHello)
	b = binary.AppendUvarint(b, uint64(helloMin+len(h.name)))
	b = append(b, h.minVersion, h.maxVersion, h.flags)
	b = binary.BigEndian.AppendUint64(b, h.features)
	b = append(b, h.bootID[:]...)
	b = binary.BigEndian.AppendUint64(b, h.netns)
	return append(b, h.name...)
}

func parseHello(b []byte, h *hello) bool {
	if len(b) < helloMin || len(b) > helloMin+maxName {
		return false
	}
	r := reader{b: b}
	h.minVersion, h.maxVersion, h.flags = r.byte(), r.byte(), r.byte()
	h.features = uint64(r.u32())<<32 | uint64(r.u32())
	copy(h.bootID[:], r.take(16))
	h.netns = uint64(r.u32())<<32 | uint64(r.u32())
	h.name = string(r.b)
	return true
}

// ack says which datagrams are stored: run of them up to highest, and below
// those what bitmap says; its first bit (the highest of the first byte) is
// the datagram highest-run, which is always missing.
type ack struct {
	highest uint64
	run     uint64
	bitmap  []byte
}

// maxAckBitmap bounds what one ack says of gaps: 512 datagrams. What it no
// longer covers is sent again after a timeout, which costs but harms nothing.
const maxAckBitmap = 64

func (a *ack) has(seq uint64) bool {
	if seq > a.highest {
		return false
	}
	d := a.highest - seq
	if d < a.run {
		return true
	}
	d -= a.run
	return d>>3 < uint64(len(a.bitmap)) && a.bitmap[d>>3]<<(d&7)&0x80 != 0
}

// covers says whether the ack speaks of seq at all.
func (a *ack) covers(seq uint64) bool {
	return seq <= a.highest && a.highest-seq < a.run+uint64(len(a.bitmap))*8
}

func parseAck(b []byte, a *ack) bool {
	r := reader{b: b}
	a.highest, a.run = r.uvarint(), r.uvarint()
	a.bitmap = r.b
	return !r.bad && a.run <= a.highest && len(a.bitmap) <= maxAckBitmap
}

// window is how far behind the highest sequence a datagram may be: the
// receiver's memory of what it stored. Senders keep less than that in flight.
const window = 4096

// received is that memory.
type received struct {
	highest uint64
	first   uint64 // received in this session: nobody asks for what was before
	bits    [window / 64]uint64
}

func (w *received) bit(seq uint64) (*uint64, uint64) {
	return &w.bits[seq/64%(window/64)], 1 << (seq % 64)
}

// fresh says whether seq may be accepted.
func (w *received) fresh(seq uint64) bool {
	switch {
	case seq == 0:
		return false
	case seq > w.highest:
		return true
	case w.highest-seq >= window:
		return false
	}
	word, m := w.bit(seq)
	return *word&m == 0
}

func (w *received) mark(seq uint64) {
	if seq > w.highest {
		if seq-w.highest >= window {
			w.bits = [window / 64]uint64{}
		} else {
			w.advance(seq)
		}
		w.highest = seq
	}
	if w.first == 0 || seq < w.first {
		w.first = seq
	}
	word, m := w.bit(seq)
	*word |= m
}

// advance forgets what seqs between highest and seq stood for a window ago.
func (w *received) advance(seq uint64) {
	for s := w.highest + 1; s <= seq; {
		if s%64 == 0 && seq-s >= 64 {
			w.bits[s/64%(window/64)] = 0
			s += 64
			continue
		}
		word, m := w.bit(s)
		*word &^= m
		s++
	}
}

func (w *received) has(seq uint64) bool {
	word, m := w.bit(seq)
	return *word&m != 0
}

// appendAck writes the ack record of what was received.
func (w *received) appendAck(b []byte) []byte {
	run := uint64(0)
	for run < w.highest && run < window && w.has(w.highest-run) {
		run++
	}
	var body [2*binary.MaxVarintLen64 + maxAckBitmap]byte
	out := binary.AppendUvarint(body[:0], w.highest)
	out = binary.AppendUvarint(out, run)
	low := max(w.highest-min(w.highest, window-1), w.first, 1)
	fixed := len(out)
	for next := w.highest - run; next >= low && len(out)-fixed < maxAckBitmap; {
		var by byte
		for i := 0; i < 8 && next >= low; i++ {
			by |= byte(bit(w.has(next))) << (7 - i)
			next--
		}
		out = append(out, by)
	}
	return appendControl(b, recAck, out)
}

// appendState: version of our state, version of the peer's that we have, blob.
func appendState(b []byte, version, echo uint32, blob []byte) []byte {
	var body [2*binary.MaxVarintLen32 + maxBlob]byte
	out := binary.AppendUvarint(body[:0], uint64(version))
	out = binary.AppendUvarint(out, uint64(echo))
	return appendControl(b, recState, append(out, blob...))
}

func parseState(b []byte) (version, echo uint32, blob []byte, ok bool) {
	r := reader{b: b}
	v, e := r.uvarint(), r.uvarint()
	ok = !r.bad && v <= 1<<32-1 && e <= 1<<32-1 && len(r.b) <= maxBlob
	return uint32(v), uint32(e), r.b, ok
}

// pathRecord is what a heartbeat says of paths, see Path.
type pathRecord struct {
	number  uint8  // the sender's, of the path by which this goes
	heard   uint16 // bit n-1: the receiver's path n was heard lately
	payload int    // largest datagram that the sender's end takes
}

func appendPath(b []byte, m *pathRecord) []byte {
	var body [3 + binary.MaxVarintLen32]byte
	out := binary.BigEndian.AppendUint16(append(body[:0], m.number), m.heard)
	return appendControl(b, recPath, binary.AppendUvarint(out, uint64(m.payload)))
}

// parsePath: what follows the record is of a later version.
func parsePath(b []byte, m *pathRecord) bool {
	r := reader{b: b}
	m.number, m.heard = r.byte(), r.u16()
	payload := r.uvarint()
	m.payload = int(min(payload, 1<<16-1))
	return !r.bad && m.number >= 1 && m.number <= maxPaths
}

// appendNumber writes a control record whose body is one varint: COMPLETE
// (how many flows there are, to be shown only), RELEASE (a sequence).
func appendNumber(b []byte, typ byte, v uint64) []byte {
	var body [binary.MaxVarintLen64]byte
	return appendControl(b, typ, binary.AppendUvarint(body[:0], v))
}

// parseControl takes the control record at the start of b apart.
func parseControl(b []byte) (typ byte, body, rest []byte, ok bool) {
	r := reader{b: b}
	typ = r.byte() &^ classMask
	size := r.uvarint()
	if r.bad || size > uint64(len(r.b)) {
		return 0, nil, nil, false
	}
	return typ, r.b[:size], r.b[size:], true
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// The first byte of a record (docs/protocol.md, Records):
//
//	0 0 t t t t t t                     control: type, then length, then body
//	0 1 o h h p p d   full              o owner, h heat, p protocol, d TCP detail
//	1 0 o h h d m 0   short             m mask follows
//	1 1 o 0 0 0 0 0   deletion
const (
	classMask    = 0xc0
	classControl = 0x00
	classFull    = 0x40
	classShort   = 0x80
	classDelete  = 0xc0

	headOwner     = 0x20
	headHeatShift = 3
	headHeatMask  = 0x18

	fullProtoShift = 1
	fullProtoMask  = 0x06
	fullDetail     = 0x01

	shortDetail   = 0x04
	shortMask     = 0x02
	shortReserved = 0x01

	deleteReserved = 0x1f
)

// Protocols that need no byte in a full record.
const (
	protoTCP = iota
	protoUDP
	protoICMP // ICMPv6 in an IPv6 slot
	protoOther
)

// Field masks. What is absent has its default, never what it was.
const (
	fullReplyDst     = 1 << 0 // the original source is translated
	fullReplyDstPort = 1 << 1
	fullReplySrc     = 1 << 2 // the original destination is translated
	fullReplySrcPort = 1 << 3
	fullMark         = 1 << 4
	fullZone         = 1 << 5
	fullStatus       = 1 << 6
	fullTimeout      = 1 << 7

	shortMark    = 1 << 0
	shortStatus  = 1 << 1
	shortTimeout = 1 << 2
	shortKnown   = shortMark | shortStatus | shortTimeout
)

// The TCP detail: the state in the low four bits, then what follows it.
const (
	detailState    = 0x0f
	detailFlags    = 0x10
	detailScale    = 0x20
	detailReserved = 0xc0
)

// maxRecord is more than the longest flow record.
const maxRecord = 128

var errRecord = errors.New("parse record: malformed")

// flowRecord is a full or short record or a deletion as a value.
type flowRecord struct {
	class byte
	slot  uint32 // kind in the lowest bit
	owner bool
	heat  uint8 // 0 to 3

	flow conntrack.Flow // full only
	// short only: what was present; resolve gives the rest its defaults.
	mut                   mutable
	hasStatus, hasTimeout bool
}

// zigzag gives small numbers to slots that are near.
func zigzag(slot, prev uint32) uint64 {
	d := int64(slot) - int64(prev)
	return uint64(d<<1) ^ uint64(d>>63)
}

func unzigzag(v uint64, prev uint32) int64 {
	return int64(prev) + (int64(v>>1) ^ -int64(v&1))
}

func head(class byte, owner bool, heat uint8) byte {
	return class | byte(bit(owner))*headOwner | heat&3<<headHeatShift
}

// appendFull writes f, which is in normal form. prev is the slot of the flow
// record before it in the datagram, 0 in the first.
func appendFull(b []byte, slot, prev uint32, f *conntrack.Flow, owner bool, heat uint8) []byte {
	at := len(b)
	b = append(b, head(classFull, owner, heat))
	b = binary.AppendUvarint(b, zigzag(slot, prev))
	switch p := f.Proto; {
	case p == unix.IPPROTO_TCP:
	case p == unix.IPPROTO_UDP:
		b[at] |= protoUDP << fullProtoShift
	case p == icmpOf(slot):
		b[at] |= protoICMP << fullProtoShift
	default:
		b[at] |= protoOther << fullProtoShift
		b = append(b, p)
	}
	maskAt := len(b)
	b = append(b, 0)
	size := addrLen(slot)
	b = append(b, f.Orig.Src[:size]...)
	b = append(b, f.Orig.Dst[:size]...)
	b = binary.BigEndian.AppendUint16(b, f.Orig.SrcPort)
	b = binary.BigEndian.AppendUint16(b, f.Orig.DstPort)
	b, mask := appendReply(b, f, size)
	if f.Mark != 0 {
		mask |= fullMark
		b = binary.BigEndian.AppendUint32(b, f.Mark)
	}
	if f.Zone != 0 {
		mask |= fullZone
		b = binary.BigEndian.AppendUint16(b, f.Zone)
	}
	if uint16(f.Status) != defaultStatus(f) {
		mask |= fullStatus
		b = binary.BigEndian.AppendUint16(b, uint16(f.Status))
	}
	if f.Timeout != defaultTimeout(f.Proto, uint8(f.TCP.State), uint16(f.Status)) {
		mask |= fullTimeout
		b = binary.AppendUvarint(b, uint64(f.Timeout))
	}
	b[maskAt] = mask
	b, detail := appendDetail(b, f)
	if detail {
		b[at] |= fullDetail
	}
	return b
}

// appendReply writes what of the reply tuple is not the inverse of the
// original one.
func appendReply(b []byte, f *conntrack.Flow, size int) ([]byte, byte) {
	var mask byte
	src, dst := inversePorts(f)
	if f.Reply.Dst != f.Orig.Src {
		mask |= fullReplyDst
		b = append(b, f.Reply.Dst[:size]...)
	}
	if f.Reply.DstPort != dst {
		mask |= fullReplyDstPort
		b = binary.BigEndian.AppendUint16(b, f.Reply.DstPort)
	}
	if f.Reply.Src != f.Orig.Dst {
		mask |= fullReplySrc
		b = append(b, f.Reply.Src[:size]...)
	}
	if f.Reply.SrcPort != src {
		mask |= fullReplySrcPort
		b = binary.BigEndian.AppendUint16(b, f.Reply.SrcPort)
	}
	return b, mask
}

func appendDetail(b []byte, f *conntrack.Flow) ([]byte, bool) {
	if f.Proto != unix.IPPROTO_TCP {
		return b, false
	}
	flags := f.TCP.Flags[0]&15 | f.TCP.Flags[1]<<4
	scale := f.TCP.Scale[0]&15 | f.TCP.Scale[1]<<4
	if uint8(f.TCP.State) == defaultState && flags == defaultFlags && scale == defaultScale {
		return b, false
	}
	at := len(b)
	b = append(b, uint8(f.TCP.State)&detailState)
	if flags != defaultFlags {
		b[at] |= detailFlags
		b = append(b, flags)
	}
	if scale != defaultScale {
		b[at] |= detailScale
		b = append(b, scale)
	}
	return b, true
}

// appendShort writes the mutable fields of f, all of them.
func appendShort(b []byte, slot, prev uint32, f *conntrack.Flow, owner bool, heat uint8) []byte {
	at := len(b)
	b = append(b, head(classShort, owner, heat))
	b = binary.AppendUvarint(b, zigzag(slot, prev))
	maskAt := len(b)
	b = append(b, 0)
	var mask byte
	if f.Mark != 0 {
		mask |= shortMark
		b = binary.BigEndian.AppendUint32(b, f.Mark)
	}
	if uint16(f.Status) != defaultStatus(f) {
		mask |= shortStatus
		b = binary.BigEndian.AppendUint16(b, uint16(f.Status))
	}
	if f.Timeout != defaultTimeout(f.Proto, uint8(f.TCP.State), uint16(f.Status)) {
		mask |= shortTimeout
		b = binary.AppendUvarint(b, uint64(f.Timeout))
	}
	if mask != 0 {
		b[at] |= shortMask
		b[maskAt] = mask
	} else {
		b = b[:maskAt]
	}
	b, detail := appendDetail(b, f)
	if detail {
		b[at] |= shortDetail
	}
	return b
}

func appendDelete(b []byte, slot, prev uint32, owner bool) []byte {
	b = append(b, head(classDelete, owner, 0))
	return binary.AppendUvarint(b, zigzag(slot, prev))
}

func icmpOf(slot uint32) uint8 {
	if kind(slot&1) == kind6 {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

func addrLen(slot uint32) int {
	if kind(slot&1) == kind6 {
		return 16
	}
	return 4
}

// reader takes values off a slice; after the first that is missing all are
// zero and bad stays set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make16[:n]
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

var make16 [16]byte

func (r *reader) byte() byte  { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || r.bad {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) addr(size int) (a conntrack.Addr) {
	copy(a[:], r.take(size))
	return a
}

// parseFlow reads the flow record at the start of b, whose class is not
// control, and gives what follows it.
func parseFlow(b []byte, prev uint32, rec *flowRecord) ([]byte, error) {
	r := reader{b: b}
	h := r.byte()
	slot := unzigzag(r.uvarint(), prev)
	if r.bad || slot < 0 || slot>>1 >= maxEntries {
		return nil, errRecord
	}
	rec.class, rec.slot = h&classMask, uint32(slot)
	rec.owner, rec.heat = h&headOwner != 0, h&headHeatMask>>headHeatShift
	ok := false
	switch rec.class {
	case classFull:
		ok = r.full(h, rec)
	case classShort:
		ok = r.short(h, rec)
	case classDelete:
		ok = h&deleteReserved == 0
	}
	if !ok || r.bad {
		return nil, errRecord
	}
	return r.b, nil
}

func (r *reader) full(h byte, rec *flowRecord) bool {
	f := &rec.flow
	*f = conntrack.Flow{Family: kind(rec.slot & 1).family()}
	switch h & fullProtoMask >> fullProtoShift {
	case protoTCP:
		f.Proto = unix.IPPROTO_TCP
	case protoUDP:
		f.Proto = unix.IPPROTO_UDP
	case protoICMP:
		f.Proto = icmpOf(rec.slot)
	case protoOther:
		f.Proto = r.byte()
	}
	mask := r.byte()
	size := addrLen(rec.slot)
	f.Orig.Src, f.Orig.Dst = r.addr(size), r.addr(size)
	f.Orig.SrcPort, f.Orig.DstPort = r.u16(), r.u16()
	r.reply(f, mask, size)
	if mask&fullMark != 0 {
		f.Mark = r.u32()
	}
	if mask&fullZone != 0 {
		f.Zone = r.u16()
	}
	f.Status = conntrack.Status(defaultStatus(f))
	if mask&fullStatus != 0 {
		f.Status = conntrack.Status(r.u16())&statusKept | conntrack.Confirmed
	}
	var m mutable
	if mask&fullTimeout != 0 {
		m.timeout = r.timeout()
	}
	ok := r.detail(&m, h&fullDetail != 0)
	if f.Proto == unix.IPPROTO_TCP {
		f.TCP.State = conntrack.TCPState(m.state)
		f.TCP.Flags = [2]uint8{m.flags & 15, m.flags >> 4}
		f.TCP.Scale = [2]uint8{m.scale & 15, m.scale >> 4}
	} else if h&fullDetail != 0 {
		return false
	}
	f.Timeout = m.timeout
	if mask&fullTimeout == 0 {
		f.Timeout = defaultTimeout(f.Proto, m.state, uint16(f.Status))
	}
	return ok
}

func (r *reader) reply(f *conntrack.Flow, mask byte, size int) {
	f.Reply = conntrack.Tuple{Src: f.Orig.Dst, Dst: f.Orig.Src}
	f.Reply.SrcPort, f.Reply.DstPort = inversePorts(f)
	if mask&fullReplyDst != 0 {
		f.Reply.Dst = r.addr(size)
	}
	if mask&fullReplyDstPort != 0 {
		f.Reply.DstPort = r.u16()
	}
	if mask&fullReplySrc != 0 {
		f.Reply.Src = r.addr(size)
	}
	if mask&fullReplySrcPort != 0 {
		f.Reply.SrcPort = r.u16()
	}
}

// timeout reads seconds; more than 32 bits of them are malformed.
func (r *reader) timeout() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.bad = true
	}
	return uint32(v)
}

func (r *reader) detail(m *mutable, present bool) bool {
	m.state, m.flags, m.scale = defaultState, defaultFlags, defaultScale
	if !present {
		return true
	}
	d := r.byte()
	m.state = d & detailState
	if d&detailFlags != 0 {
		m.flags = r.byte()
	}
	if d&detailScale != 0 {
		m.scale = r.byte()
	}
	return d&detailReserved == 0 && m.state <= uint8(conntrack.TCPSynSent2)
}

func (r *reader) short(h byte, rec *flowRecord) bool {
	if h&shortReserved != 0 {
		return false
	}
	var mask byte
	if h&shortMask != 0 {
		mask = r.byte()
	}
	m := &rec.mut
	*m = mutable{}
	if mask&shortMark != 0 {
		m.mark = r.u32()
	}
	if rec.hasStatus = mask&shortStatus != 0; rec.hasStatus {
		m.status = uint16(conntrack.Status(r.u16())&statusKept | conntrack.Confirmed)
	}
	if rec.hasTimeout = mask&shortTimeout != 0; rec.hasTimeout {
		m.timeout = r.timeout()
	}
	return r.detail(m, h&shortDetail != 0) && mask&^byte(shortKnown) == 0
}

// resolve lays a short record over f, the flow of its slot.
func (rec *flowRecord) resolve(f *conntrack.Flow) {
	m := &rec.mut
	f.Mark = m.mark
	f.Status = conntrack.Status(defaultStatus(f))
	if rec.hasStatus {
		f.Status = conntrack.Status(m.status)
	}
	f.TCP = conntrack.TCP{}
	if f.Proto == unix.IPPROTO_TCP {
		f.TCP.State = conntrack.TCPState(m.state)
		f.TCP.Flags = [2]uint8{m.flags & 15, m.flags >> 4}
		f.TCP.Scale = [2]uint8{m.scale & 15, m.scale >> 4}
	}
	f.Timeout = m.timeout
	if !rec.hasTimeout {
		f.Timeout = defaultTimeout(f.Proto, uint8(f.TCP.State), uint16(f.Status))
	}
}

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
//	0 1 o h h p p d   full              o owner, h heat, p protocol, d detail
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

// The detail of TCP and SCTP: the state in the low four bits, then what follows
// it. Without a detail TCP has its defaults and SCTP has zeros.
const (
	detailState    = 0x0f
	detailFlags    = 0x10 // TCP flags, a byte
	detailScale    = 0x20 // window scales, a byte
	detailVTags    = 0x40 // SCTP verification tags, eight bytes
	detailReserved = 0x80
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

	size        uint16         // bytes; set by valid
	flow        conntrack.Flow // full only
	orig, reply uint64         // full only: hashes of its tuples, set by View.hash
	// short only: what was present; resolve gives the rest its defaults.
	mark, timeout         uint32
	status                uint16
	hasStatus, hasTimeout bool
	detail                detail
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
		b = binary.AppendUvarint(b, uint64(f.Zone)<<2|uint64(f.ZoneDir))
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
	m := mutableOf(f)
	switch f.Proto {
	case unix.IPPROTO_SCTP:
		if f.SCTP == (conntrack.SCTP{}) {
			return b, false
		}
		b = append(b, m.state|detailVTags)
		b = binary.BigEndian.AppendUint32(b, m.vtag[0])
		return binary.BigEndian.AppendUint32(b, m.vtag[1]), true
	case unix.IPPROTO_TCP:
		if m.state == defaultState && m.flags == defaultFlags && m.scale == defaultScale {
			return b, false
		}
	default:
		return b, false
	}
	at := len(b)
	b = append(b, m.state&detailState)
	if m.flags != defaultFlags {
		b[at] |= detailFlags
		b = append(b, m.flags)
	}
	if m.scale != defaultScale {
		b[at] |= detailScale
		b = append(b, m.scale)
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

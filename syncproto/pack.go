// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// What own flows and views keep of a flow: entry4 is 48 bytes, entry6 96.
// There are no pointers in them, so the garbage collector never looks.

type tuple4 struct {
	src, dst         [4]byte
	srcPort, dstPort uint16
}

type tuple6 struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
}

type entry4 struct {
	body
	orig, reply tuple4
}

type entry6 struct {
	body
	orig, reply tuple6
}

// body is what both families have. link and at belong to the store: in own
// flows link is the next free slot, and at is when a packet last told the
// flow; in a view link is the slot and at is when its record was applied.
type body struct {
	mark, timeout uint32
	link          uint32
	at            uint32 // low 22 bits: ticks; high 10: the store's flags
	status, zone  uint16
	proto, state  uint8
	flags, scale  uint8 // original direction in the low nibble
}

// A tick is 2^27 ns (0.13 s); 22 bits of them turn over in 6.5 days, after
// which a flow that was never touched looks recent once.
const (
	tickShift = 27
	tickMask  = 1<<22 - 1
	flagShift = 22
)

func ticks(now int64) uint32 { return uint32(now>>tickShift) & tickMask }

// flag is one of the ten flags that a store keeps of an entry.
type flag uint32

func (b *body) age(now int64) uint32 { return (ticks(now) - b.at) & tickMask }
func (b *body) touch(now int64)      { b.at = b.at&^tickMask | ticks(now) }
func (b *body) has(f flag) bool      { return flag(b.at)&f != 0 }
func (b *body) set(f flag)           { b.at |= uint32(f) }
func (b *body) clear(f flag)         { b.at &^= uint32(f) }

func (b *body) put(f flag, set bool) {
	b.clear(f)
	if set {
		b.set(f)
	}
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// mutable is what a short record carries: everything but the tuples, the
// protocol and the zone, which name the flow.
type mutable struct {
	mark, timeout       uint32
	status              uint16
	state, flags, scale uint8
	vtag                [2]uint32 // SCTP; a table keeps it apart
}

// mutableOf takes it from a flow in normal form.
func mutableOf(f *conntrack.Flow) mutable {
	m := mutable{mark: f.Mark, timeout: f.Timeout, status: uint16(f.Status)}
	switch f.Proto {
	case unix.IPPROTO_TCP:
		m.state = uint8(f.TCP.State)
		m.flags = f.TCP.Flags[0]&15 | f.TCP.Flags[1]<<4
		m.scale = f.TCP.Scale[0]&15 | f.TCP.Scale[1]<<4
	case unix.IPPROTO_SCTP:
		m.state, m.vtag = f.SCTP.State&detailState, f.SCTP.VTag
	}
	return m
}

// put writes it into a flow whose protocol is known.
func (m *mutable) put(f *conntrack.Flow) {
	f.Mark, f.Timeout, f.Status = m.mark, m.timeout, conntrack.Status(m.status)
	f.TCP, f.SCTP = conntrack.TCP{}, conntrack.SCTP{}
	switch f.Proto {
	case unix.IPPROTO_TCP:
		f.TCP.State = conntrack.TCPState(m.state)
		f.TCP.Flags = [2]uint8{m.flags & 15, m.flags >> 4}
		f.TCP.Scale = [2]uint8{m.scale & 15, m.scale >> 4}
	case unix.IPPROTO_SCTP:
		f.SCTP = conntrack.SCTP{State: m.state, VTag: m.vtag}
	}
}

// A body's status has the direction of the zone in its two highest bits, which
// no status that is copied uses.
const (
	zoneDirShift = 14
	statusMask   = 1<<zoneDirShift - 1
)

func (b *body) mutable() mutable {
	return mutable{mark: b.mark, timeout: b.timeout, status: b.status & statusMask, state: b.state, flags: b.flags, scale: b.scale}
}

func (b *body) setMutable(m *mutable) {
	b.mark, b.timeout, b.status = m.mark, m.timeout, b.status&^statusMask|m.status
	b.state, b.flags, b.scale = m.state, m.flags, m.scale
}

// Status bits that are copied. CONFIRMED goes without saying; the others are
// the sending kernel's own business (DYING, OFFLOAD, ...).
const statusKept = conntrack.Expected | conntrack.SeenReply | conntrack.Assured | conntrack.SrcNAT |
	conntrack.DstNAT | conntrack.SeqAdjust | conntrack.FixedTimeout | conntrack.Helper

// Flags that mean something at another node: not MAXACK_SET, and not what the
// kernel keeps above it (facts of ctnetlink: never restore them).
const tcpFlagsKept = 0x0f

// normal brings f into the form that records and stores carry, in place: two
// flows with the same normal form are the same to a peer.
func normal(f *conntrack.Flow) {
	f.Status = f.Status&statusKept | conntrack.Confirmed
	if f.Proto != unix.IPPROTO_TCP {
		f.TCP = conntrack.TCP{}
	}
	if f.Proto != unix.IPPROTO_SCTP {
		f.SCTP = conntrack.SCTP{}
	}
	if f.Zone == 0 {
		f.ZoneDir = conntrack.ZoneBoth
	}
	for i := range f.TCP.Flags {
		f.TCP.Flags[i] &= tcpFlagsKept
		f.TCP.Scale[i] &= 0x0f
	}
	if d := defaultTimeout(f.Proto, uint8(f.TCP.State), uint16(f.Status)); nearly(f.Timeout, d) {
		f.Timeout = d
	}
}

// nearly says whether t is d but for rounding and the way to here: within 2 s
// or 1/64. Such a timeout is sent as the default, in no byte at all.
func nearly(t, d uint32) bool {
	diff := max(t, d) - min(t, d)
	return diff <= 2 || diff <= d/64
}

// packBody writes f but its tuples.
func (b *body) packBody(f *conntrack.Flow) {
	b.zone, b.proto = f.Zone, f.Proto
	b.status = uint16(f.ZoneDir) << zoneDirShift
	m := mutableOf(f)
	b.setMutable(&m)
}

func (b *body) zoneDir() conntrack.ZoneDir { return conntrack.ZoneDir(b.status >> zoneDirShift) }

// zoneOf is the zone that counts for a direction of the flow.
func (b *body) zoneOf(reply bool) uint16 {
	if d := b.zoneDir(); d == conntrack.ZoneReply && !reply || d == conntrack.ZoneOrig && reply {
		return 0
	}
	return b.zone
}

func pack4(t *conntrack.Tuple) tuple4 {
	return tuple4{[4]byte(t.Src[:4]), [4]byte(t.Dst[:4]), t.SrcPort, t.DstPort}
}

func (t *tuple4) unpack(out *conntrack.Tuple) {
	*out = conntrack.Tuple{SrcPort: t.srcPort, DstPort: t.dstPort}
	copy(out.Src[:4], t.src[:])
	copy(out.Dst[:4], t.dst[:])
}

func pack6(t *conntrack.Tuple) tuple6 {
	return tuple6{t.Src, t.Dst, t.SrcPort, t.DstPort}
}

func (t *tuple6) unpack(out *conntrack.Tuple) {
	*out = conntrack.Tuple{Src: t.src, Dst: t.dst, SrcPort: t.srcPort, DstPort: t.dstPort}
}

// Timeouts that need no byte (version 1 of the format, for ever): what the
// kernel gives by default (nf_conntrack_proto_*.c). Index is the TCP state.
var tcpTimeout = [10]uint32{600, 120, 60, 432000, 120, 60, 30, 120, 10, 120}

func defaultTimeout(proto, state uint8, status uint16) uint32 {
	switch proto {
	case unix.IPPROTO_TCP:
		return tcpTimeout[min(state, 9)]
	case unix.IPPROTO_UDP:
		if status&uint16(conntrack.Assured) != 0 {
			return 120
		}
		return 30
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return 30
	case unix.IPPROTO_SCTP:
		return 210
	}
	return 600
}

// defaultStatus is the status that needs no byte: TCP ASSURED, the rest
// replied, and the NAT bits that the tuples show.
func defaultStatus(f *conntrack.Flow) uint16 {
	s := conntrack.Confirmed | conntrack.SeenReply
	if f.Proto == unix.IPPROTO_TCP {
		s |= conntrack.Assured
	}
	if f.SNAT() {
		s |= conntrack.SrcNAT
	}
	if f.DNAT() {
		s |= conntrack.DstNAT
	}
	return uint16(s)
}

// TCP details that need no byte: ESTABLISHED, window scaling and SACK, scale 7
// in both directions.
const (
	defaultState = uint8(conntrack.TCPEstablished)
	defaultFlags = 0x33
	defaultScale = 0x77
)

// inversePorts are the ports of the plain inverse of an original tuple
// (nf_ct_invert_tuple): what the reply has when nothing is translated.
func inversePorts(f *conntrack.Flow) (src, dst uint16) {
	switch f.Proto {
	case unix.IPPROTO_ICMP:
		return f.Orig.SrcPort, inverseICMP[uint8(f.Orig.DstPort>>8)&31]<<8 | f.Orig.DstPort&0xff
	case unix.IPPROTO_ICMPV6:
		t := f.Orig.DstPort >> 8
		switch t {
		case 128, 129:
			t ^= 1
		case 139, 140:
			t = 279 - t
		}
		return f.Orig.SrcPort, t<<8 | f.Orig.DstPort&0xff
	}
	return f.Orig.DstPort, f.Orig.SrcPort
}

// inverseICMP is the kernel's invmap of nf_conntrack_proto_icmp.c; types that
// are not in it have no reply and stand for themselves.
var inverseICMP = func() (m [32]uint16) {
	for i := range m {
		m[i] = uint16(i)
	}
	m[8], m[0] = 0, 8
	m[13], m[14] = 14, 13
	m[15], m[16] = 16, 15
	m[17], m[18] = 18, 17
	return m
}()

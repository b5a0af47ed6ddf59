// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// errMalformed is for a message that no kernel sends: lengths that do not
// fit, a family that is neither, a tuple that is missing.
var errMalformed = errors.New("malformed ctnetlink message")

// message is one netlink message of a datagram.
type message struct {
	Type, Flags uint16
	Seq, PortID uint32
	Payload     []byte // after struct nlmsghdr
}

// nextMessage cuts the first message off b.
func nextMessage(b []byte) (m message, rest []byte, err error) {
	if len(b) < sizeofHeader {
		return m, nil, errMalformed
	}
	n := binary.NativeEndian.Uint32(b)
	if n < sizeofHeader || uint64(n) > uint64(len(b)) {
		return m, nil, errMalformed
	}
	m = message{
		Type:    binary.NativeEndian.Uint16(b[4:]),
		Flags:   binary.NativeEndian.Uint16(b[6:]),
		Seq:     binary.NativeEndian.Uint32(b[8:]),
		PortID:  binary.NativeEndian.Uint32(b[12:]),
		Payload: b[sizeofHeader:n],
	}
	return m, b[min(align(int(n)), len(b)):], nil
}

// errno is what an NLMSG_ERROR or NLMSG_DONE carries, 0 for an
// acknowledgement.
func (m *message) errno() (unix.Errno, error) {
	if len(m.Payload) < sizeofErrno {
		return 0, errMalformed
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(m.Payload))), nil
}

// attrs walks over attributes without copying. After the loop ok says whether
// all of them were well-formed.
type attrs struct {
	rest []byte
	typ  uint16 // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
	v    []byte
	bad  bool
}

func (a *attrs) next() bool {
	if len(a.rest) == 0 {
		return false
	}
	if len(a.rest) < sizeofAttr {
		a.bad = true
		return false
	}
	n := int(binary.NativeEndian.Uint16(a.rest))
	if n < sizeofAttr || n > len(a.rest) {
		a.bad = true
		return false
	}
	a.typ = binary.NativeEndian.Uint16(a.rest[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	a.v = a.rest[sizeofAttr:n]
	a.rest = a.rest[min(align(n), len(a.rest)):]
	return true
}

// The get functions read a value in network order and mark a wrong length.

func (a *attrs) get8() (v uint8) {
	if a.sized(1) {
		v = a.v[0]
	}
	return v
}

func (a *attrs) get16() (v uint16) {
	if a.sized(2) {
		v = binary.BigEndian.Uint16(a.v)
	}
	return v
}

func (a *attrs) get32() (v uint32) {
	if a.sized(4) {
		v = binary.BigEndian.Uint32(a.v)
	}
	return v
}

func (a *attrs) getAddr(size int, to *Addr) {
	if a.sized(size) {
		copy(to[:], a.v)
	}
}

func (a *attrs) sized(n int) bool {
	a.bad = a.bad || len(a.v) != n
	return len(a.v) == n
}

func align(n int) int { return (n + alignTo - 1) &^ (alignTo - 1) }

// decode parses the payload of a NEW or DELETE message (dump, answer to GET,
// event) into f. It does not allocate; after an error f is as it was.
func (f *Flow) decode(payload []byte) error {
	if len(payload) < sizeofGenmsg {
		return errMalformed
	}
	d := Flow{Family: payload[0]}
	if d.Family != IPv4 && d.Family != IPv6 {
		return errMalformed
	}
	if !d.decodeAttrs(payload[sizeofGenmsg:]) {
		return errMalformed
	}
	*f = d
	return nil
}

func (f *Flow) decodeAttrs(b []byte) bool {
	var orig, reply bool
	a := attrs{rest: b}
	for a.next() {
		switch a.typ {
		case ctaTupleOrig:
			orig = true
			a.bad = a.bad || !f.decodeTuple(a.v, &f.Orig, ZoneOrig)
		case ctaTupleReply:
			reply = true
			a.bad = a.bad || !f.decodeTuple(a.v, &f.Reply, ZoneReply)
		case ctaStatus:
			f.Status = Status(a.get32())
		case ctaTimeout:
			f.Timeout = a.get32()
		case ctaMark:
			f.Mark = a.get32()
		case ctaZone:
			f.Zone, f.ZoneDir = a.get16(), ZoneBoth
		case ctaProtoinfo:
			a.bad = a.bad || !f.decodeProtoinfo(a.v)
		}
	}
	return !a.bad && orig && reply
}

func (f *Flow) decodeTuple(b []byte, t *Tuple, dir ZoneDir) bool {
	var ip, proto bool
	a := attrs{rest: b}
	for a.next() {
		switch a.typ {
		case ctaTupleIP:
			ip = decodeIP(a.v, t, f.Family)
			a.bad = a.bad || !ip
		case ctaTupleProto:
			proto = f.decodeTupleProto(a.v, t)
			a.bad = a.bad || !proto
		case ctaTupleZone:
			f.Zone, f.ZoneDir = a.get16(), dir
		}
	}
	return !a.bad && ip && proto
}

func decodeIP(b []byte, t *Tuple, family uint8) bool {
	src, dst, size := uint16(ctaIPv4Src), uint16(ctaIPv4Dst), 4
	if family == IPv6 {
		src, dst, size = ctaIPv6Src, ctaIPv6Dst, 16
	}
	var found uint8
	a := attrs{rest: b}
	for a.next() {
		switch a.typ {
		case src:
			found |= 1
			a.getAddr(size, &t.Src)
		case dst:
			found |= 2
			a.getAddr(size, &t.Dst)
		}
	}
	return !a.bad && found == 3
}

func (f *Flow) decodeTupleProto(b []byte, t *Tuple) bool {
	a := attrs{rest: b}
	for a.next() {
		switch a.typ {
		case ctaProtoNum:
			f.Proto = a.get8()
		case ctaProtoSrcPort, ctaProtoICMPID, ctaProtoICMPv6ID:
			t.SrcPort = a.get16()
		case ctaProtoDstPort:
			t.DstPort = a.get16()
		case ctaProtoICMPType, ctaProtoICMPv6Type:
			t.DstPort = t.DstPort&0x00ff | uint16(a.get8())<<8
		case ctaProtoICMPCode, ctaProtoICMPv6Code:
			t.DstPort = t.DstPort&0xff00 | uint16(a.get8())
		}
	}
	return !a.bad
}

func (f *Flow) decodeProtoinfo(b []byte) bool {
	a := attrs{rest: b}
	for a.next() {
		switch a.typ {
		case ctaProtoinfoTCP:
			a.bad = a.bad || !f.TCP.decode(a.v)
		case ctaProtoinfoSCTP:
			a.bad = a.bad || !f.SCTP.decode(a.v)
		}
	}
	return !a.bad
}

func (t *TCP) decode(b []byte) bool {
	a := attrs{rest: b}
	for a.next() {
		switch a.typ {
		case ctaTCPState:
			t.State = TCPState(a.get8())
		case ctaTCPScaleOrig:
			t.Scale[0] = a.get8()
		case ctaTCPScaleReply:
			t.Scale[1] = a.get8()
		case ctaTCPFlagsOrig:
			t.Flags[0] = uint8(a.get16() >> 8) // {value, mask}
		case ctaTCPFlagsReply:
			t.Flags[1] = uint8(a.get16() >> 8)
		}
	}
	return !a.bad
}

func (s *SCTP) decode(b []byte) bool {
	a := attrs{rest: b}
	for a.next() {
		switch a.typ {
		case ctaSCTPState:
			s.State = a.get8()
		case ctaSCTPVTagOrig:
			s.VTag[0] = a.get32()
		case ctaSCTPVTagReply:
			s.VTag[1] = a.get32()
		}
	}
	return !a.bad
}

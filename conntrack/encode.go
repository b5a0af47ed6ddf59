// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// What a created entry is given, whatever the flow carries. docs/ctnetlink.md
// says which test shows each.
const (
	// statusRestored are the bits that ctnetlink takes from us and that hold
	// on another node. HELPER would stop the kernel from finding a helper.
	statusRestored = SeenReply | Assured | FixedTimeout
	// tcpFlagsRestored leaves out DATA_UNACKNOWLEDGED (next packet sets it),
	// and MAXACK_SET, CHALLENGE_ACK, SIMULTANEOUS_OPEN: they speak of sequence
	// numbers that cannot be restored, and with them the peer's RST is dropped.
	tcpFlagsRestored = TCPFlagWindowScale | TCPFlagSackPerm | TCPFlagCloseInit | TCPFlagBeLiberal
)

// The append functions below extend a request in a reusable buffer. Header
// fields are in host order, payloads in network order.

// appendHeader starts a message: struct nlmsghdr, whose length endMessage
// fills in, and struct nfgenmsg.
//
//	 0               1               2               3
//	+---------------+---------------+---------------+---------------+
//	|                            length                             |
//	+---------------+---------------+---------------+---------------+
//	|  type (subsystem << 8 | msg)  |             flags             |
//	+---------------+---------------+---------------+---------------+
//	|                           sequence                            |
//	+---------------+---------------+---------------+---------------+
//	|                       port id (0: kernel)                     |
//	+---------------+---------------+---------------+---------------+
//	|    family     |  version (0)  |      resource id (0)          |
//	+---------------+---------------+---------------+---------------+
func appendHeader(b []byte, typ, flags uint16, seq uint32, family uint8) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	return append(b, 0, 0, 0, 0, family, unix.NFNETLINK_V0, 0, 0)
}

// endMessage fills in the length of the message that starts at start.
func endMessage(b []byte, start int) []byte {
	binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// appendCreate appends CREATE|EXCL for a flow. The kernel rewrites the reply
// tuple itself from CTA_NAT_*, so the plain inverse is sent: a translated
// reply would be accepted and would silently translate nothing.
func appendCreate(b []byte, f *Flow, seq uint32) []byte {
	start := len(b)
	b = appendHeader(b, msgNew, unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_EXCL, seq, f.Family)
	inverse := f.plainInverse()
	b = appendTuple(b, ctaTupleOrig, &f.Orig, f.Family, f.Proto, f.ZoneDir == ZoneOrig, f.Zone)
	b = appendTuple(b, ctaTupleReply, &inverse, f.Family, f.Proto, f.ZoneDir == ZoneReply, f.Zone)
	b = append32(b, ctaStatus, uint32(f.createStatus()))
	b = append32(b, ctaTimeout, f.Timeout)
	if f.Mark != 0 {
		b = append32(b, ctaMark, f.Mark)
	}
	if f.Zone != 0 && f.ZoneDir == ZoneBoth {
		b = append16(b, ctaZone, f.Zone)
	}
	b = appendProtoinfo(b, f)
	if f.DNAT() {
		b = appendNAT(b, ctaNATDst, f.Family, &f.Reply.Src, f.hasNATPort(), f.dnatPort())
	}
	if f.SNAT() {
		b = appendNAT(b, ctaNATSrc, f.Family, &f.Reply.Dst, f.hasNATPort(), f.snatPort())
	}
	return endMessage(b, start)
}

// appendKeyed appends a request that names one entry: msgGet or msgDelete. It
// always carries a tuple: a DELETE without one would flush the kernel table.
// The zone stands for both directions, which finds an entry whose zone is for
// the original direction only as well.
func appendKeyed(b []byte, typ uint16, k *Key, seq uint32, flags uint16) []byte {
	start := len(b)
	b = appendHeader(b, typ, unix.NLM_F_REQUEST|flags, seq, k.Family)
	b = appendTuple(b, ctaTupleOrig, &k.Tuple, k.Family, k.Proto, false, 0)
	if k.Zone != 0 {
		b = append16(b, ctaZone, k.Zone)
	}
	return endMessage(b, start)
}

func appendTuple(b []byte, typ uint16, t *Tuple, family, proto uint8, zoned bool, zone uint16) []byte {
	tuple := len(b)
	b = appendNest(b, typ)
	ip := len(b)
	b = appendNest(b, ctaTupleIP)
	if family == IPv4 {
		b = appendBytes(b, ctaIPv4Src, t.Src[:4])
		b = appendBytes(b, ctaIPv4Dst, t.Dst[:4])
	} else {
		b = appendBytes(b, ctaIPv6Src, t.Src[:])
		b = appendBytes(b, ctaIPv6Dst, t.Dst[:])
	}
	b = endNest(b, ip)
	b = appendTupleProto(b, t, proto)
	if zoned {
		b = append16(b, ctaTupleZone, zone)
	}
	return endNest(b, tuple)
}

func appendTupleProto(b []byte, t *Tuple, proto uint8) []byte {
	start := len(b)
	b = appendNest(b, ctaTupleProto)
	b = append8(b, ctaProtoNum, proto)
	switch {
	case proto == unix.IPPROTO_ICMP:
		b = append16(b, ctaProtoICMPID, t.SrcPort)
		b = append8(b, ctaProtoICMPType, uint8(t.DstPort>>8))
		b = append8(b, ctaProtoICMPCode, uint8(t.DstPort))
	case proto == unix.IPPROTO_ICMPV6:
		b = append16(b, ctaProtoICMPv6ID, t.SrcPort)
		b = append8(b, ctaProtoICMPv6Type, uint8(t.DstPort>>8))
		b = append8(b, ctaProtoICMPv6Code, uint8(t.DstPort))
	case protoHasPorts(proto):
		b = append16(b, ctaProtoSrcPort, t.SrcPort)
		b = append16(b, ctaProtoDstPort, t.DstPort)
	}
	return endNest(b, start)
}

// appendProtoinfo appends the state of TCP, always (an entry in state NONE is
// a black hole if the server speaks first), and of SCTP once it has one: the
// kernel wants all three of its attributes or none.
func appendProtoinfo(b []byte, f *Flow) []byte {
	outer := len(b)
	switch {
	case f.Proto == unix.IPPROTO_TCP:
		b = appendNest(b, ctaProtoinfo)
		inner := len(b)
		b = appendNest(b, ctaProtoinfoTCP)
		b = append8(b, ctaTCPState, uint8(f.TCP.State))
		b = append8(b, ctaTCPScaleOrig, f.TCP.Scale[0])
		b = append8(b, ctaTCPScaleReply, f.TCP.Scale[1])
		b = appendTCPFlags(b, ctaTCPFlagsOrig, f.TCP.Flags[0], tcpFlagsRestored)
		b = appendTCPFlags(b, ctaTCPFlagsReply, f.TCP.Flags[1], tcpFlagsRestored)
		return endNest(endNest(b, inner), outer)
	case f.Proto == unix.IPPROTO_SCTP && f.SCTP != SCTP{}:
		b = appendNest(b, ctaProtoinfo)
		inner := len(b)
		b = appendNest(b, ctaProtoinfoSCTP)
		b = append8(b, ctaSCTPState, f.SCTP.State)
		b = append32(b, ctaSCTPVTagOrig, f.SCTP.VTag[0])
		b = append32(b, ctaSCTPVTagReply, f.SCTP.VTag[1])
		return endNest(endNest(b, inner), outer)
	}
	return b
}

// appendTCPFlags appends struct nf_ct_tcp_flags {value, mask}. A dump shows
// mask 0, so the mask is always ours.
func appendTCPFlags(b []byte, typ uint16, flags, mask uint8) []byte {
	b = appendAttr(b, typ, 2)
	return append(b, flags&mask, mask, 0, 0)
}

// appendLiberal appends an update of these flags and of nothing else.
func appendLiberal(b []byte, k *Key, seq uint32) []byte {
	start := len(b)
	b = appendKeyed(b, msgNew, k, seq, 0)
	outer := len(b)
	b = appendNest(b, ctaProtoinfo)
	inner := len(b)
	b = appendNest(b, ctaProtoinfoTCP)
	b = appendTCPFlags(b, ctaTCPFlagsOrig, TCPFlagBeLiberal, TCPFlagBeLiberal)
	b = appendTCPFlags(b, ctaTCPFlagsReply, TCPFlagBeLiberal, TCPFlagBeLiberal)
	return endMessage(endNest(endNest(b, inner), outer), start)
}

// appendRenew appends an update of the timeout, in seconds, and of nothing else.
func appendRenew(b []byte, k *Key, timeout, seq uint32) []byte {
	start := len(b)
	b = appendKeyed(b, msgNew, k, seq, 0)
	return endMessage(append32(b, ctaTimeout, timeout), start)
}

// appendNAT appends one translation with an exact address and, where the
// protocol has one, an exact port: a range without a port lets the kernel
// choose another.
func appendNAT(b []byte, typ uint16, family uint8, a *Addr, hasPort bool, port uint16) []byte {
	start := len(b)
	b = appendNest(b, typ)
	if family == IPv4 {
		b = appendBytes(b, ctaNATv4MinIP, a[:4])
		b = appendBytes(b, ctaNATv4MaxIP, a[:4])
	} else {
		b = appendBytes(b, ctaNATv6MinIP, a[:])
		b = appendBytes(b, ctaNATv6MaxIP, a[:])
	}
	if hasPort {
		proto := len(b)
		b = appendNest(b, ctaNATProto)
		b = append16(b, ctaProtoNATPortMin, port)
		b = append16(b, ctaProtoNATPortMax, port)
		b = endNest(b, proto)
	}
	return endNest(b, start)
}

func appendAttr(b []byte, typ uint16, size int) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(sizeofAttr+size))
	return binary.NativeEndian.AppendUint16(b, typ)
}

func appendNest(b []byte, typ uint16) []byte { return appendAttr(b, typ|unix.NLA_F_NESTED, 0) }

func endNest(b []byte, start int) []byte {
	binary.NativeEndian.PutUint16(b[start:], uint16(len(b)-start))
	return b
}

func append8(b []byte, typ uint16, v uint8) []byte {
	return append(appendAttr(b, typ, 1), v, 0, 0, 0)
}

func append16(b []byte, typ uint16, v uint16) []byte {
	return append(appendAttr(b, typ, 2), uint8(v>>8), uint8(v), 0, 0)
}

func append32(b []byte, typ uint16, v uint32) []byte {
	return binary.BigEndian.AppendUint32(appendAttr(b, typ, 4), v)
}

// appendBytes appends an attribute whose size is a multiple of four.
func appendBytes(b []byte, typ uint16, v []byte) []byte {
	return append(appendAttr(b, typ, len(v)), v...)
}

// setFlags adds flags to the message at the start of b.
func setFlags(b []byte, flags uint16) {
	binary.NativeEndian.PutUint16(b[6:], binary.NativeEndian.Uint16(b[6:])|flags)
}

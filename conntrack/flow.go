// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Families a Flow may have: the kernel's l3num (nf_conntrack_tuple.src.l3num).
const (
	IPv4 = uint8(unix.AF_INET)
	IPv6 = uint8(unix.AF_INET6)
)

// Addr is an address as the kernel keeps it in a tuple: 16 bytes in network
// order, an IPv4 address in the first four, the rest zero.
type Addr [16]byte

// AddrFrom converts a netip.Addr; an IPv4-mapped IPv6 address becomes IPv4.
func AddrFrom(a netip.Addr) (out Addr) {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		copy(out[:], b[:])
		return out
	}
	return a.As16()
}

// IP gives the address as net/netip has it; family is IPv4 or IPv6.
func (a Addr) IP(family uint8) netip.Addr {
	if family == IPv4 {
		return netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrFrom16(a)
}

// Tuple is one direction of a flow (struct nf_conntrack_tuple). Ports are in
// host byte order. For ICMP SrcPort is the identifier and DstPort is
// type<<8|code; for GRE both are the call keys.
type Tuple struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
}

// Key names a flow within one kernel table: its original tuple, protocol and
// zone. It is comparable and holds no pointers.
type Key struct {
	Tuple
	Zone          uint16
	Family, Proto uint8
}

// Status is the kernel's enum ip_conntrack_status.
type Status uint32

// Bits of Status that tandem reads or writes.
const (
	Expected     Status = 1 << 0
	SeenReply    Status = 1 << 1
	Assured      Status = 1 << 2
	Confirmed    Status = 1 << 3
	SrcNAT       Status = 1 << 4
	DstNAT       Status = 1 << 5
	SeqAdjust    Status = 1 << 6
	Dying        Status = 1 << 9
	FixedTimeout Status = 1 << 10
	Template     Status = 1 << 11
	Helper       Status = 1 << 13
	Offload      Status = 1 << 14
)

// TCPState is the kernel's enum tcp_conntrack; names as in RFC 9293 where it
// has them.
type TCPState uint8

// The states that a restored entry may have (0 to 9, others are ERANGE).
const (
	TCPNone TCPState = iota
	TCPSynSent
	TCPSynRecv
	TCPEstablished
	TCPFinWait
	TCPCloseWait
	TCPLastAck
	TCPTimeWait
	TCPClose
	TCPSynSent2
)

// TCP is what can be restored of struct ip_ct_tcp. Index 0 is the original
// direction, 1 the reply. Flags are IP_CT_TCP_FLAG_*, Scale is 0 to 14.
type TCP struct {
	State TCPState
	Flags [2]uint8
	Scale [2]uint8
}

// Flags of one direction (IP_CT_TCP_FLAG_*).
const (
	TCPFlagWindowScale uint8 = 0x01
	TCPFlagSackPerm    uint8 = 0x02
	TCPFlagCloseInit   uint8 = 0x04
	TCPFlagBeLiberal   uint8 = 0x08
	TCPFlagMaxAckSet   uint8 = 0x20
)

// SCTP is what can be restored of struct ip_ct_sctp: State is the kernel's enum
// sctp_conntrack, VTag the verification tags of the original direction and of
// the reply. Without the tags every packet but INIT is INVALID.
type SCTP struct {
	VTag  [2]uint32
	State uint8
}

// ZoneDir says for which direction of a flow its zone counts; the other one is
// in zone 0 then.
type ZoneDir uint8

// Directions of a zone. ZoneBoth is the usual one (nft `ct zone set`).
const (
	ZoneBoth  ZoneDir = iota
	ZoneOrig          // `ct original zone set`
	ZoneReply         // `ct reply zone set`
)

// Flow is one entry of the kernel table as a value. It is what rooms exchange;
// stores keep something smaller.
type Flow struct {
	Orig, Reply   Tuple // both as the kernel shows them, the reply translated
	Status        Status
	Mark          uint32
	Timeout       uint32 // seconds left
	Zone          uint16
	Family, Proto uint8
	TCP           TCP
	ZoneDir       ZoneDir
	SCTP          SCTP
}

// Key names the flow.
func (f *Flow) Key() Key {
	k := Key{Tuple: f.Orig, Zone: f.Zone, Family: f.Family, Proto: f.Proto}
	if f.ZoneDir == ZoneReply {
		k.Zone = 0
	}
	return k
}

// ReplyKey names the flow by its reply tuple.
func (f *Flow) ReplyKey() Key {
	k := Key{Tuple: f.Reply, Zone: f.Zone, Family: f.Family, Proto: f.Proto}
	if f.ZoneDir == ZoneOrig {
		k.Zone = 0
	}
	return k
}

// SNAT says whether the source is translated: the reply does not go to where
// the original came from (address or port).
func (f *Flow) SNAT() bool {
	return f.Reply.Dst != f.Orig.Src || (f.hasPorts() && f.Reply.DstPort != f.Orig.SrcPort) ||
		(f.isICMP() && f.Reply.SrcPort != f.Orig.SrcPort)
}

// DNAT says whether the destination is translated: the reply does not come
// from where the original went to (address or port).
func (f *Flow) DNAT() bool {
	return f.Reply.Src != f.Orig.Dst || (f.hasPorts() && f.Reply.SrcPort != f.Orig.DstPort)
}

func (f *Flow) isICMP() bool {
	return f.Proto == unix.IPPROTO_ICMP || f.Proto == unix.IPPROTO_ICMPV6
}

func (f *Flow) hasPorts() bool { return protoHasPorts(f.Proto) }

func protoHasPorts(proto uint8) bool {
	switch proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_GRE:
		return true
	}
	return false
}

// Hash mixes a key into 64 bits with the given seed. It is stable within one
// process only; nothing on the wire depends on it.
func (k *Key) Hash(seed uint64) uint64 {
	const m = 0x9E3779B97F4A7C15
	h := seed ^ m
	mix := func(v uint64) {
		h ^= v
		h *= 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	mix(binary.LittleEndian.Uint64(k.Src[:8]))
	if k.Family == IPv6 {
		mix(binary.LittleEndian.Uint64(k.Src[8:]))
		mix(binary.LittleEndian.Uint64(k.Dst[8:]))
	}
	mix(binary.LittleEndian.Uint64(k.Dst[:8]))
	mix(uint64(k.SrcPort) | uint64(k.DstPort)<<16 | uint64(k.Zone)<<32 | uint64(k.Proto)<<48 | uint64(k.Family)<<56)
	h *= m
	return h ^ h>>29
}

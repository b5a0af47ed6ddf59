// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// frame is a datagram to the sync port in its Ethernet frame. What is zero is
// as the peer sends it.
type frame struct {
	src, dst     netip.Addr
	sport, dport uint16
	hops         byte
	proto        byte
	payload      []byte
	tags         []uint16 // 802.1Q
	extensions   []byte   // types of IPv6 extension headers, 8 bytes each
	options      int      // words of IPv4 options
	fragment     uint16   // flags and offset of IPv4, offset and flags of IPv6
	cut          int      // bytes taken off its end
}

const gatePort = 3781

func (f frame) bytes() []byte {
	for _, def := range []struct{ to, v *netip.Addr }{{&f.src, &peer4}, {&f.dst, &own4}} {
		if !def.to.IsValid() {
			*def.to = *def.v
		}
	}
	f.sport, f.dport = or(f.sport, gatePort), or(f.dport, gatePort)
	f.hops, f.proto = or(f.hops, 255), or(f.proto, unix.IPPROTO_UDP)
	udp := binary.BigEndian.AppendUint16(nil, f.sport)
	udp = binary.BigEndian.AppendUint16(udp, f.dport)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(f.payload)))
	udp = append(append(udp, 0, 0), f.payload...)
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for _, tci := range f.tags {
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 0), tci)
	}
	if f.src.Is4() {
		b = f.ipv4(append(b, 8, 0), udp)
	} else {
		b = f.ipv6(append(b, 0x86, 0xdd), udp)
	}
	return b[:len(b)-f.cut]
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (f *frame) ipv4(b, udp []byte) []byte {
	words := 5 + f.options
	b = append(b, byte(0x40|words), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(4*words+len(udp)))
	b = binary.BigEndian.AppendUint16(append(b, 0, 1), f.fragment)
	b = append(b, f.hops, f.proto, 0, 0)
	b = append(append(b, f.src.AsSlice()...), f.dst.AsSlice()...)
	sum := uint32(0)
	for i := len(b) - 20; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	// Options are of ones, NOP: 0x0101 twice a word.
	sum += uint32(f.options) * 0x0202
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[len(b)-10:], ^uint16(sum))
	return append(append(b, slices.Repeat([]byte{1}, 4*f.options)...), udp...)
}

func (f *frame) ipv6(b, udp []byte) []byte {
	chain := append(slices.Clone(f.extensions), f.proto)
	var ext []byte
	for i, typ := range f.extensions {
		h := []byte{chain[i+1], 0, 0, 0, 0, 0, 0, 0}
		switch typ {
		case unix.IPPROTO_FRAGMENT:
			binary.BigEndian.PutUint16(h[2:], f.fragment)
		case unix.IPPROTO_AH: // twelve bytes, the shortest without a value
			h = append(h, 0, 0, 0, 0)
			h[1] = 1
		default:
			h[2], h[3] = 1, 4 // PadN
		}
		ext = append(ext, h...)
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(ext)+len(udp)))
	b = append(b, chain[0], f.hops)
	b = append(append(b, f.src.AsSlice()...), f.dst.AsSlice()...)
	return append(append(b, ext...), udp...)
}

// dgram is a datagram of docs/protocol.md.
type dgram struct {
	kind             byte
	sequence         uint64
	sender, receiver [16]byte
	sealed           bool
	edit             func(b []byte) []byte
}

func (d dgram) bytes() []byte {
	b := []byte{0x74, 0x44, 1, d.kind, 0, 0, 4, 0}
	if d.sealed {
		b[4], b[5], b[6] = 1, 77, 16
	}
	b = binary.BigEndian.AppendUint64(b, d.sequence)
	b = append(append(b, d.sender[:]...), d.receiver[:]...)
	b = append(b, make([]byte, 8+int(b[6]))...)
	if d.sealed {
		b[7] = byte(sipHash(stampKey[:], b[:48]))
	}
	if d.edit != nil {
		b = d.edit(b)
	}
	return b
}

var stampKey = value(33)

// sipHash is SipHash-2-4 as its paper has it: the oracle of stamps.
func sipHash(key, in []byte) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:])
	v0, v1, v2, v3 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d, k0^0x6c7967656e657261, k1^0x7465646279746573
	rounds := func(n int) {
		for range n {
			v0 += v1
			v1 = bits.RotateLeft64(v1, 13)
			v1 ^= v0
			v0 = bits.RotateLeft64(v0, 32)
			v2 += v3
			v3 = bits.RotateLeft64(v3, 16)
			v3 ^= v2
			v0 += v3
			v3 = bits.RotateLeft64(v3, 21)
			v3 ^= v0
			v2 += v1
			v1 = bits.RotateLeft64(v1, 17)
			v1 ^= v2
			v2 = bits.RotateLeft64(v2, 32)
		}
	}
	padded := append(slices.Clone(in), make([]byte, 8-len(in)%8)...)
	padded[len(padded)-1] = byte(len(in))
	for ; len(padded) > 0; padded = padded[8:] {
		m := binary.LittleEndian.Uint64(padded)
		v3 ^= m
		rounds(2)
		v0 ^= m
	}
	v2 ^= 0xff
	rounds(4)
	return v0 ^ v1 ^ v2 ^ v3
}

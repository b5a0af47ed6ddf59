// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"encoding/binary"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

const etherHeader = 14

// udpOf gives the places of the IP payload and its pseudo header's addresses
// in a frame that carries a whole UDP datagram; ok is false for others.
func udpOf(b []byte) (l4, addrs, addrsEnd int, ok bool) {
	if len(b) < etherHeader+20 {
		return 0, 0, 0, false
	}
	switch binary.BigEndian.Uint16(b[12:]) {
	case unix.ETH_P_IP:
		l4 = etherHeader + int(b[etherHeader]&15)*4
		addrs, addrsEnd = etherHeader+12, etherHeader+20
		fragment := binary.BigEndian.Uint16(b[etherHeader+6:]) & 0x3fff // more fragments, or an offset
		ok = b[etherHeader+9] == unix.IPPROTO_UDP && fragment == 0
	case unix.ETH_P_IPV6:
		l4 = etherHeader + 40
		addrs, addrsEnd = etherHeader+8, etherHeader+40
		ok = b[etherHeader+6] == unix.IPPROTO_UDP
	}
	ok = ok && len(b) >= l4+8 && int(binary.BigEndian.Uint16(b[l4+4:])) >= 8 && l4+int(binary.BigEndian.Uint16(b[l4+4:])) <= len(b)
	return l4, addrs, addrsEnd, ok
}

func isUDP(b []byte) bool {
	_, _, _, ok := udpOf(b)
	return ok
}

// fixChecksum puts the UDP checksum of a frame right (RFC 768).
func fixChecksum(b []byte) {
	l4, addrs, addrsEnd, ok := udpOf(b)
	if !ok {
		return
	}
	size := int(binary.BigEndian.Uint16(b[l4+4:]))
	b[l4+6], b[l4+7] = 0, 0
	sum := uint32(unix.IPPROTO_UDP + size)
	for _, part := range [][]byte{b[addrs:addrsEnd], b[l4 : l4+size]} {
		for i, v := range part {
			sum += uint32(v) << (8 * (1 - i&1))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	c := ^uint16(sum)
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[l4+6:], c)
}

// corrupt damages the payload of a UDP frame: one to three bits, or some bytes
// in a row. In half of the cases the checksum is put right, so that only what
// stands in the payload itself can show the damage.
func corrupt(b []byte, rng *rand.Rand) {
	l4, _, _, ok := udpOf(b)
	if !ok {
		return
	}
	payload := b[l4+8 : l4+int(binary.BigEndian.Uint16(b[l4+4:]))]
	if len(payload) == 0 {
		return
	}
	if rng.IntN(2) == 0 {
		for range 1 + rng.IntN(3) {
			payload[rng.IntN(len(payload))] ^= 1 << rng.IntN(8)
		}
	} else {
		at := rng.IntN(len(payload))
		for i := at; i < min(at+1+rng.IntN(16), len(payload)); i++ {
			payload[i] ^= byte(1 + rng.IntN(255))
		}
	}
	if rng.IntN(2) == 0 {
		fixChecksum(b)
	}
}

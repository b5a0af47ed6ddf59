// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Flags of a neighbour advertisement that announces a virtual address: its
// holder is a router, nobody asked, caches are to be overwritten (R=1 S=0 O=1).
const announceFlags = 0b101 << 5

var allNodes = netip.MustParseAddr("ff02::1")

// NA builds the unsolicited neighbour advertisement of ip at mac, RFC 4861
// sections 4.4 and 7.2.6, as an IPv6 packet to all nodes of the link:
//
//	version, class, label (4) | length 32 | next header 58 | hop limit 255
//	source: ip (16) | destination: ff02::1 (16)
//	type 136 | code 0 | checksum (2) | R S O, reserved (4) | target: ip (16)
//	option 2, target link-layer address | length 1 | mac (6)
func NA(ip netip.Addr, mac [6]byte) ([]byte, error) {
	if !ip.Is6() || ip.Is4In6() {
		return nil, fmt.Errorf("build neighbour advertisement for %s: not an IPv6 address", ip)
	}
	src, dst := ip.As16(), allNodes.As16()
	b := append(make([]byte, 0, 72), 0x6c, 0, 0, 0, 0, 32, 58, 255) // class CS6, as adverts
	b = append(append(b, src[:]...), dst[:]...)
	b = append(b, 136, 0, 0, 0, announceFlags, 0, 0, 0)
	b = append(b, src[:]...)
	b = append(append(b, 2, 1), mac[:]...)
	binary.BigEndian.PutUint16(b[42:], icmpSum(b))
	return b, nil
}

// icmpSum is the ICMPv6 checksum of a packet without extension headers: RFC
// 4443 section 2.3, over the pseudo-header of RFC 8200 section 8.1 too.
func icmpSum(p []byte) uint16 {
	sum := uint32(len(p)-40) + 58
	for b := p[8:]; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"encoding/binary"
	"net/netip"
)

// Constants of RFC 9568 and RFC 3768.
const (
	Protocol      = 112 // IP protocol, RFC 9568 section 5.1.1.4
	TTL           = 255 // section 5.1.1.3
	PriorityOwner = 255
	typeAdvert    = 1
	maxInterval   = 4095 // centiseconds, 12 bits, section 5.2.7
	headerSize    = 8
	authSize      = 8 // v2: authentication data, always there
)

// Authentication types of version 2. RFC 3768 keeps none; the text of RFC 2338
// section 5.3.6 is what routers still have.
const (
	AuthNone uint8 = iota
	AuthText
)

// Groups are the multicast destinations, RFC 9568 sections 5.1.1.2 and 5.1.2.2.
var (
	Group4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	Group6 = netip.MustParseAddr("ff02::12")
)

// Checksum says what an advert's checksum covers. RFC 9568 section 5.2.8 has
// the message alone for IPv4; keepalived and FRR add a pseudo-header.
type Checksum uint8

// Checksums. Auto is a setting, never what a packet carries: as the peer
// does, the pseudo-header until one was heard.
const (
	ChecksumAuto Checksum = iota
	ChecksumPseudoHeader
	ChecksumMessage
)

// Advert is one advertisement. The drawing is RFC 9568 section 5.2; version 2
// has auth type and interval in seconds in place of the 16 bits with the
// interval, and 8 bytes of authentication data behind the addresses.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Version| Type  | Virtual Rtr ID|   Priority    |IPvX Addr Count|
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Reserve| Max Advertise Interval|           Checksum            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                     IPvX addresses (n * 4 or 16)              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type Advert struct {
	Version  uint8 // 2 or 3
	VRID     uint8
	Priority uint8
	AuthType uint8    // v2
	Interval int64    // ns; on the wire centiseconds (v3, 1-4095) or seconds (v2)
	Checksum Checksum // what the checksum of a received advert covered

	Addresses []byte         // as on the wire, 4 or 16 bytes each
	Auth      [authSize]byte // v2: the password, padded with zeroes
}

// Meta is what the IP header said of an advert.
type Meta struct {
	Src, Dst netip.Addr
	TTL      uint8
	MinTTL   uint8 // the least that passes: 0 is 255, what both RFCs want; less only for a peer by unicast
}

func (m *Meta) fresh() bool { return m.TTL == TTL || (m.MinTTL != 0 && m.TTL >= m.MinTTL) }

// Drop says which receive check an advert failed, in the order of the checks.
type Drop uint8

// Drops. DropNone: the advert passed.
const (
	DropNone Drop = iota
	DropTruncated
	DropVersion
	DropType
	DropVRID    // counted by whoever looks the virtual router up
	DropGroup   // another version than the group's
	DropSum     // checksum
	DropTTL     // TTL or hop limit
	DropCount   // address count 0
	DropLength  // neither exact nor padded to Ethernet's minimum
	DropAuth    // v2: authentication type other than the group's
	DropSecret  // v2: another password
	DropZero    // interval 0
	DropDiffers // v2: interval other than ours
	DropLocal   // IPv6: first address not link-local
)

// Peek makes the checks that come before the virtual router is known and
// returns its VRID.
func Peek(pdu []byte) (vrid uint8, d Drop) {
	if len(pdu) < headerSize {
		return 0, DropTruncated
	}
	if v := pdu[0] >> 4; v != 2 && v != 3 {
		return 0, DropVersion
	}
	if pdu[0]&15 != typeAdvert {
		return pdu[1], DropType
	}
	return pdu[1], DropNone
}

// Decode makes the checks from the version on, for the virtual router c, and
// reads the advert into a, whose Addresses then point into pdu. The caller has
// been through Peek. Nothing is assigned when it drops.
func Decode(pdu []byte, m Meta, c *Config, a *Advert) Drop {
	v6 := m.Src.Is6()
	if pdu[0]>>4 != c.Version || (c.Version == 2 && v6) {
		return DropGroup
	}
	size := messageSize(pdu[0]>>4, pdu[3], v6)
	sum, ok := verify(pdu[:min(size, len(pdu))], m)
	switch {
	case !ok:
		return DropSum
	case !m.fresh():
		return DropTTL
	case pdu[3] == 0:
		return DropCount
	case !lengthFits(len(pdu), size, v6):
		return DropLength
	}
	n := Advert{Version: c.Version, VRID: pdu[1], Priority: pdu[2], Checksum: sum}
	if c.Version == 2 {
		return decodeV2(pdu[:size], n, c, a)
	}
	return decodeV3(pdu[:size], n, v6, a)
}

// decodeV2: without authentication the data mean nothing (RFC 3768 section
// 5.3.10); another interval than ours ends the advert here (section 7.1).
func decodeV2(pdu []byte, n Advert, c *Config, a *Advert) Drop {
	n.AuthType, n.Interval = pdu[4], int64(pdu[5])*second
	n.Addresses = pdu[headerSize : len(pdu)-authSize]
	n.Auth = [authSize]byte(pdu[len(pdu)-authSize:])
	switch {
	case n.AuthType != c.AuthType:
		return DropAuth
	case n.AuthType == AuthText && n.Auth != c.Auth:
		return DropSecret
	case n.Interval == 0:
		return DropZero
	case n.Interval != c.Interval:
		return DropDiffers
	}
	*a = n
	return DropNone
}

func decodeV3(pdu []byte, n Advert, v6 bool, a *Advert) Drop {
	cs := binary.BigEndian.Uint16(pdu[4:]) & maxInterval // 4 bits reserved, ignored
	if cs == 0 {
		return DropZero
	}
	n.Interval = int64(cs) * centisecond
	n.Addresses = pdu[headerSize:]
	if v6 && (n.Addresses[0] != 0xfe || n.Addresses[1]&0xc0 != 0x80) {
		return DropLocal
	}
	*a = n
	return DropNone
}

// messageSize is the exact length of an advert with count addresses.
func messageSize(version, count uint8, v6 bool) int {
	switch {
	case version == 2:
		return headerSize + 4*int(count) + authSize
	case v6:
		return headerSize + 16*int(count)
	default:
		return headerSize + 4*int(count)
	}
}

// lengthFits accepts the exact length, or one padded to Ethernet's 60 bytes
// (some switches and stacks count the padding into the IP length).
func lengthFits(n, size int, v6 bool) bool {
	const minFrame = 60 - 14
	padded := minFrame - 20
	if v6 {
		padded = minFrame - 40
	}
	return n == size || (n > size && n <= padded)
}

// Append writes a behind b, with the checksum that sum names; Auto means the
// pseudo-header. Version 2 and IPv6 leave no choice. It does not allocate
// when b has room.
func (a *Advert) Append(b []byte, sum Checksum, m Meta) []byte {
	at := len(b)
	size := 4
	if m.Src.Is6() {
		size = 16
	}
	b = append(b, a.Version<<4|typeAdvert, a.VRID, a.Priority, byte(len(a.Addresses)/size))
	if a.Version == 2 {
		b = append(b, a.AuthType, byte(a.Interval/second), 0, 0)
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(a.Interval/centisecond)&maxInterval)
		b = append(b, 0, 0)
	}
	b = append(b, a.Addresses...)
	if a.Version == 2 {
		b = append(b, a.Auth[:]...)
	}
	pdu := b[at:]
	binary.BigEndian.PutUint16(pdu[6:], ^fold(add(seed(a.Version, sum, len(pdu), m), pdu)))
	return b
}

// seed is the sum of the pseudo-header where one is wanted.
func seed(version uint8, sum Checksum, length int, m Meta) uint32 {
	if version == 2 || (sum == ChecksumMessage && !m.Src.Is6()) {
		return 0
	}
	return pseudo(length, m)
}

// verify tries the forms of checksum that the version and family allow; over
// a valid message each form sums to all ones.
func verify(pdu []byte, m Meta) (Checksum, bool) {
	plain := add(0, pdu)
	message := fold(plain) == 0xffff
	if pdu[0]>>4 == 2 {
		// The sum of v2 covers the authentication data too (RFC 3768, 5.3.8).
		return ChecksumMessage, message
	}
	if fold(plain+pseudo(len(pdu), m)) == 0xffff {
		return ChecksumPseudoHeader, true
	}
	return ChecksumMessage, message && !m.Src.Is6()
}

// pseudo sums the pseudo-header: RFC 9568 section 5.2.8, RFC 8200 section 8.1.
func pseudo(length int, m Meta) uint32 {
	sum := uint32(Protocol) + uint32(length)
	if m.Src.Is4() && m.Dst.Is4() {
		s, d := m.Src.As4(), m.Dst.As4()
		return add(add(sum, s[:]), d[:])
	}
	s, d := m.Src.As16(), m.Dst.As16()
	return add(add(sum, s[:]), d[:])
}

func add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

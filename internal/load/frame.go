// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"errors"
)

// Frames of a crowd: Ethernet, IPv4 without options, then UDP or TCP.
//
//	0        14       34        42            UDP: payload
//	| ether  | IPv4   | UDP     |
//	| ether  | IPv4   | TCP          |        TCP: payload from 54, or 66 with the SYN's options
const (
	etherLen = 14
	ipLen    = 20
	udpLen   = 8
	tcpLen   = 20
)

// Numbers on the wire.
const (
	protoTCP = 6
	protoUDP = 17

	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpPSH = 0x08
	tcpACK = 0x10
)

// segment is what a crowd needs of a packet. It refers to the frame it came from.
type segment struct {
	src, dst         [4]byte
	proto            byte
	srcPort, dstPort uint16
	seq, ack         uint32
	flags            byte
	payload          []byte
}

var (
	errShort    = errors.New("frame is cut short")
	errOther    = errors.New("frame is neither UDP nor TCP over IPv4")
	errChecksum = errors.New("checksum is wrong")
)

// parse reads a frame and checks both checksums.
func parse(b []byte, s *segment) error {
	if len(b) < etherLen+ipLen+udpLen {
		return errShort
	}
	if b[12] != 0x08 || b[13] != 0x00 || b[14] != 0x45 {
		return errOther
	}
	total := int(binary.BigEndian.Uint16(b[16:]))
	if total < ipLen+udpLen || len(b) < etherLen+total {
		return errShort
	}
	ip, l4 := b[etherLen:etherLen+ipLen], b[etherLen+ipLen:etherLen+total]
	s.proto = ip[9]
	s.src, s.dst = [4]byte(ip[12:16]), [4]byte(ip[16:20])
	if fold(sum(0, ip)) != 0xffff {
		return errChecksum
	}
	s.srcPort, s.dstPort = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	switch s.proto {
	case protoUDP:
		s.payload = l4[udpLen:]
	case protoTCP:
		if len(l4) < tcpLen || len(l4) < int(l4[12]>>4)*4 {
			return errShort
		}
		s.seq, s.ack, s.flags = binary.BigEndian.Uint32(l4[4:]), binary.BigEndian.Uint32(l4[8:]), l4[13]
		s.payload = l4[int(l4[12]>>4)*4:]
	default:
		return errOther
	}
	if fold(pseudo(s, len(l4))+sum(0, l4)) != 0xffff {
		return errChecksum
	}
	return nil
}

// synOptions are what every common stack says: MSS 1460, SACK permitted, window
// scale 7 (RFC 9293 3.2, RFC 2018, RFC 7323).
var synOptions = []byte{2, 4, 5, 180, 4, 2, 1, 1, 1, 3, 3, 7}

// build appends a frame to b. The payload is copied.
func build(b []byte, dstMAC, srcMAC [6]byte, s *segment) []byte {
	start := len(b)
	b = append(append(append(b, dstMAC[:]...), srcMAC[:]...), 0x08, 0x00)
	l4len := udpLen + len(s.payload)
	var options []byte
	if s.proto == protoTCP {
		if s.flags&tcpSYN != 0 {
			options = synOptions
		}
		l4len = tcpLen + len(options) + len(s.payload)
	}
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(ipLen+l4len))
	b = append(b, 0, 0, 0x40, 0, 64, s.proto, 0, 0) // do not fragment, TTL 64
	b = append(append(b, s.src[:]...), s.dst[:]...)
	ip := b[start+etherLen:]
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip)))
	b = binary.BigEndian.AppendUint16(b, s.srcPort)
	b = binary.BigEndian.AppendUint16(b, s.dstPort)
	at := 6 // of the checksum
	if s.proto == protoTCP {
		at = 16
		b = binary.BigEndian.AppendUint32(b, s.seq)
		b = binary.BigEndian.AppendUint32(b, s.ack)
		b = append(b, byte((tcpLen+len(options))/4)<<4, s.flags, 0xff, 0xff, 0, 0, 0, 0)
		b = append(b, options...)
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(l4len))
		b = append(b, 0, 0)
	}
	b = append(b, s.payload...)
	l4 := b[start+etherLen+ipLen:]
	check := ^fold(pseudo(s, l4len) + sum(0, l4))
	if check == 0 && s.proto == protoUDP {
		check = 0xffff // RFC 768: zero means none
	}
	binary.BigEndian.PutUint16(l4[at:], check)
	return b
}

func pseudo(s *segment, l4len int) uint64 {
	return sum(sum(0, s.src[:]), s.dst[:]) + uint64(s.proto) + uint64(l4len)
}

func sum(acc uint64, b []byte) uint64 {
	for ; len(b) >= 4; b = b[4:] {
		acc += uint64(binary.BigEndian.Uint32(b))
	}
	if len(b) >= 2 {
		acc += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		acc += uint64(b[0]) << 8
	}
	return acc
}

func fold(v uint64) uint16 {
	for v > 0xffff {
		v = v>>16 + v&0xffff
	}
	return uint16(v)
}

// ARP (RFC 826) for Ethernet and IPv4.
const (
	arpRequest = 1
	arpReply   = 2
)

type arpPacket struct {
	op         uint16
	srcMAC     [6]byte
	srcIP, dst [4]byte
}

func parseARP(b []byte) (p arpPacket, ok bool) {
	if len(b) < etherLen+28 || b[12] != 0x08 || b[13] != 0x06 {
		return p, false
	}
	a := b[etherLen:]
	return arpPacket{op: binary.BigEndian.Uint16(a[6:]), srcMAC: [6]byte(a[8:14]), srcIP: [4]byte(a[14:18]), dst: [4]byte(a[24:28])}, true
}

func buildARP(op uint16, dstMAC, srcMAC [6]byte, src, dst [4]byte) []byte {
	b := append(append(append(make([]byte, 0, 60), dstMAC[:]...), srcMAC[:]...), 0x08, 0x06, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, srcMAC[:]...), src[:]...)
	target := dstMAC
	if op == arpRequest {
		target = [6]byte{}
	}
	b = append(append(b, target[:]...), dst[:]...)
	return b[:60]
}

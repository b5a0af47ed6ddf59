// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/arp"
	"golang.org/x/sys/unix"
)

// WhoHas asks on a switch, as a host with an empty cache would, who has an
// address of either family, and returns every hardware address that answers
// within the time.
func (l *Lab) WhoHas(sw string, ip netip.Addr, wait time.Duration) (answers []net.HardwareAddr, err error) {
	s, err := l.Station(sw, fmt.Sprintf("q%d", labCount.Add(1)))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	fd, err := s.NS.PacketSocket(s.Iface, nil)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	ask, answer := arpRequest, arpReply
	if ip.Is6() {
		ask, answer = solicitation, advertisement
	}
	if _, err := unix.Write(fd, ask(s.MAC, ip)); err != nil {
		return nil, fmt.Errorf("ask who has %s: %w", ip, err)
	}
	seen := map[string]bool{}
	buf := make([]byte, 2048)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		tv := unix.NsecToTimeval(max(int64(time.Until(end)), 1000))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return nil, err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue
		}
		if hw := answer(buf[:n], ip); hw != nil && !seen[hw.String()] {
			seen[hw.String()] = true
			answers = append(answers, hw)
		}
	}
	return answers, nil
}

// arpRequest is a probe (RFC 5227): without a sender address it teaches nobody
// anything.
func arpRequest(from net.HardwareAddr, ip netip.Addr) []byte {
	broadcast := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	p, err := arp.NewPacket(arp.OperationRequest, from, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), ip)
	if err != nil {
		panic("netlab: " + err.Error()) // its addresses are of the right length
	}
	b, err := p.MarshalBinary()
	if err != nil {
		panic("netlab: " + err.Error())
	}
	return append(append(append(append(make([]byte, 0, 64), broadcast...), from...), 0x08, 0x06), b...)
}

// arpReply gives who says in a frame that it has an address, nil if none does.
func arpReply(frame []byte, ip netip.Addr) net.HardwareAddr {
	var p arp.Packet
	if len(frame) < etherHeader+28 || frame[12] != 0x08 || frame[13] != 0x06 || p.UnmarshalBinary(frame[etherHeader:]) != nil ||
		p.Operation != arp.OperationReply || p.SenderIP != ip {
		return nil
	}
	return append(net.HardwareAddr(nil), p.SenderHardwareAddr...)
}

// ICMPv6 types of RFC 4861, and the size of their fixed part with IPv6's header.
const (
	icmpSolicitation  = 135
	icmpAdvertisement = 136
	neighbourSize     = 40 + 24
)

// solicitation asks as duplicate address detection does (RFC 4862 section 5.4.2):
// without a source address it teaches nobody anything, and is answered to all.
func solicitation(from net.HardwareAddr, ip netip.Addr) []byte {
	a := ip.As16()
	group := [16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}
	b := append(append(append(make([]byte, 0, 96), 0x33, 0x33), group[12:]...), from...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, unix.IPPROTO_ICMPV6, 255)
	b = append(append(b, make([]byte, 16)...), group[:]...)
	b = append(append(b, icmpSolicitation, 0, 0, 0, 0, 0, 0, 0), a[:]...)
	sum := uint32(24 + unix.IPPROTO_ICMPV6)
	for i, v := range b[etherHeader+8:] {
		sum += uint32(v) << (8 * (1 - i&1))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[etherHeader+42:], ^uint16(sum))
	return b
}

// advertisement gives the target link-layer address of a neighbour advertisement
// (RFC 4861 section 4.4, option 2) for an address, nil of anything else.
func advertisement(frame []byte, ip netip.Addr) net.HardwareAddr {
	const option = etherHeader + neighbourSize
	if len(frame) < option+8 || frame[12] != 0x86 || frame[13] != 0xdd || frame[etherHeader+6] != unix.IPPROTO_ICMPV6 ||
		frame[etherHeader+40] != icmpAdvertisement || netip.AddrFrom16([16]byte(frame[option-16:option])) != ip || frame[option] != 2 {
		return nil
	}
	return append(net.HardwareAddr(nil), frame[option+2:option+8]...)
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/vrrp"
)

const (
	ipv4Header = 20
	classCS6   = 48 << 2 // DSCP CS6, network control (RFC 2474)
	// priorityControl is TC_PRIO_CONTROL: the first band of pfifo_fast.
	priorityControl = 7
)

// openSender opens the socket that adverts leave by. A packet socket: what
// the routing table and the OUTPUT chain hold does not silence an Active, and
// the kernel makes no conntrack entry of its adverts. It receives nothing.
func openSender() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priorityControl)
	return fd, nil
}

// destination is 224.0.0.18 as a link-layer address (RFC 1112 section 6.4).
func destination(ifindex int32) unix.SockaddrLinklayer {
	return unix.SockaddrLinklayer{
		Protocol: htons(unix.ETH_P_IP), Ifindex: int(ifindex), Halen: 6,
		Addr: [8]byte{0x01, 0x00, 0x5e, 0x00, 0x00, 0x12},
	}
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// appendPacket writes the IPv4 packet of an advert behind b: RFC 9568 section
// 5.1.1, TTL 255, source the primary address. It does not allocate when b has
// room.
func appendPacket(b []byte, a *vrrp.Advert, sum vrrp.Checksum, src netip.Addr, id uint16) []byte {
	at := len(b)
	s, d := src.As4(), vrrp.Group4.As4()
	b = append(b, 0x45, classCS6, 0, 0)
	b = binary.BigEndian.AppendUint16(b, id)
	b = append(b, 0, 0, vrrp.TTL, vrrp.Protocol, 0, 0)
	b = append(append(b, s[:]...), d[:]...)
	b = a.Append(b, sum, vrrp.Meta{Src: src, Dst: vrrp.Group4, TTL: vrrp.TTL})
	h := b[at : at+ipv4Header]
	binary.BigEndian.PutUint16(h[2:], uint16(len(b)-at))
	binary.BigEndian.PutUint16(h[10:], headerSum(h))
	return b
}

// headerSum is the IPv4 header checksum, RFC 1071.
func headerSum(h []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(h); i += 2 {
		sum += uint32(h[i])<<8 | uint32(h[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

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
	ipv6Header = 40
	classCS6   = 48 << 2 // DSCP CS6, network control (RFC 2474)
	// priorityControl is TC_PRIO_CONTROL: the first band of pfifo_fast.
	priorityControl = 7
)

// openSender opens the socket that multicast adverts leave by. A packet
// socket: what the routing table and the OUTPUT chain hold does not silence an
// Active, and the kernel makes no conntrack entry of its adverts. It receives
// nothing.
func openSender() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priorityControl)
	return fd, nil
}

// to is where adverts of a port go: all by multicast, or one peer.
type to struct {
	link unix.SockaddrLinklayer
	ip4  unix.SockaddrInet4
	ip6  unix.SockaddrInet6
}

// destination is 224.0.0.18 or ff02::12 as a link-layer address (RFC 1112
// section 6.4, RFC 2464 section 7); peers are filled in one after the other.
func destination(ifindex int32, v6 bool) to {
	d := to{link: unix.SockaddrLinklayer{
		Protocol: htons(unix.ETH_P_IP), Ifindex: int(ifindex), Halen: 6,
		Addr: [8]byte{0x01, 0x00, 0x5e, 0x00, 0x00, 0x12},
	}}
	if v6 {
		d.link.Protocol, d.link.Addr = htons(unix.ETH_P_IPV6), [8]byte{0x33, 0x33, 0x00, 0x00, 0x00, 0x12}
		d.ip6.ZoneId = uint32(ifindex) // of a link-local peer
	}
	return d
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// transmit puts l.advert of group g on the wire, to each peer or to all. The error is the
// first; the other peers get theirs.
func (l *loop) transmit(g *member, src netip.Addr, sum vrrp.Checksum) (first error) {
	p, peers := g.port, g.cfg.Wire.Peers
	p.id++
	if len(peers) == 0 {
		l.packet = appendPacket(l.packet[:0], &l.advert, sum, src, multicast(p.v6), p.id)
		return l.cast(g, &p.to.link)
	}
	for _, peer := range peers {
		l.packet = appendPacket(l.packet[:0], &l.advert, sum, src, peer.Addr, p.id)
		if err := l.unicast(p, peer.Addr); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// unicast sends l.packet by the port's raw socket: a peer needs a route and a
// neighbour, which are the kernel's.
func (l *loop) unicast(p *port, peer netip.Addr) error {
	if p.v6 {
		p.to.ip6.Addr = peer.As16()
		return unix.Sendto(p.rx, l.packet, unix.MSG_DONTWAIT, &p.to.ip6)
	}
	p.to.ip4.Addr = peer.As4()
	return unix.Sendto(p.rx, l.packet, unix.MSG_DONTWAIT, &p.to.ip4)
}

// appendPacket writes the IP packet of an advert behind b: RFC 9568 sections
// 5.1.1 and 5.1.2, TTL or hop limit 255, source the primary or the link-local
// address. It does not allocate when b has room.
func appendPacket(b []byte, a *vrrp.Advert, sum vrrp.Checksum, src, dst netip.Addr, id uint16) []byte {
	m := vrrp.Meta{Src: src, Dst: dst, TTL: vrrp.TTL}
	if src.Is6() {
		return appendPacket6(b, a, sum, m)
	}
	at := len(b)
	s, d := src.As4(), dst.As4()
	b = append(b, 0x45, classCS6, 0, 0)
	b = binary.BigEndian.AppendUint16(b, id)
	b = append(b, 0, 0, vrrp.TTL, vrrp.Protocol, 0, 0)
	b = append(append(b, s[:]...), d[:]...)
	b = a.Append(b, sum, m)
	h := b[at : at+ipv4Header]
	binary.BigEndian.PutUint16(h[2:], uint16(len(b)-at))
	binary.BigEndian.PutUint16(h[10:], headerSum(h))
	return b
}

// appendPacket6: RFC 8200 section 3; without a flow label.
func appendPacket6(b []byte, a *vrrp.Advert, sum vrrp.Checksum, m vrrp.Meta) []byte {
	at := len(b)
	s, d := m.Src.As16(), m.Dst.As16()
	b = append(b, 6<<4|classCS6>>4, classCS6&15<<4, 0, 0, 0, 0, vrrp.Protocol, vrrp.TTL)
	b = append(append(b, s[:]...), d[:]...)
	b = a.Append(b, sum, m)
	binary.BigEndian.PutUint16(b[at+4:], uint16(len(b)-at-ipv6Header))
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

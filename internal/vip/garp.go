// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"golang.org/x/sys/unix"
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Announcer sends gratuitous ARP and unsolicited neighbour advertisements on
// any interface of its namespace.
type Announcer struct{ fd int }

// OpenAnnouncer opens a packet socket that receives nothing.
func OpenAnnouncer() (*Announcer, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket for announcements: %w", err)
	}
	return &Announcer{fd: fd}, nil
}

// Close closes the socket.
func (a *Announcer) Close() error { return unix.Close(a.fd) }

// GARP builds a gratuitous ARP message for ip at mac: RFC 5227 section 3, an
// ARP request whose sender and target are both ip; a reply has the same
// meaning and is understood by a few stacks that ignore the other.
func GARP(ip netip.Addr, mac [6]byte, reply bool) ([]byte, error) {
	op := arp.OperationRequest
	if reply {
		op = arp.OperationReply
	}
	p, err := arp.NewPacket(op, mac[:], ip, broadcast, ip)
	if err != nil {
		return nil, fmt.Errorf("build gratuitous ARP for %s: %w", ip, err)
	}
	return p.MarshalBinary()
}

// Send sends a message of GARP to all, or of NA to all nodes, on an interface,
// without waiting. The frame's source is the interface's own address.
func (a *Announcer) Send(ifindex int32, msg []byte) error {
	sa := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: int(ifindex), Halen: 6}
	copy(sa.Addr[:], broadcast)
	if msg[0]>>4 == 6 { // ARP begins with its hardware type, 0x0001
		sa.Protocol = htons(unix.ETH_P_IPV6)
		copy(sa.Addr[:], []byte{0x33, 0x33, 0, 0, 0, 1}) // RFC 2464 section 7
	}
	if err := unix.Sendto(a.fd, msg, 0, &sa); err != nil {
		return fmt.Errorf("send announcement: %w", err)
	}
	return nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

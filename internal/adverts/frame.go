// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Adverts of a group with a virtual MAC leave its interface with that MAC as
// their source: a frame of ours by a packet socket, so that neither the state
// of the virtual MAC's own device nor the rtnl lock stands in their way (RFC
// 9568 section 7.2; no receiver looks at it, the switches do).

// openFramer opens the socket; it receives nothing.
func openFramer() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket for frames: %w", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priorityControl)
	return fd, nil
}

// appendHeader writes an Ethernet header (RFC 894, RFC 2464) to dst behind b.
func appendHeader(b []byte, dst *unix.SockaddrLinklayer, src [6]byte) []byte {
	b = append(append(b, dst.Addr[:6]...), src[:]...)
	return binary.NativeEndian.AppendUint16(b, dst.Protocol) // in network order already
}

// cast sends l.packet to dst, which is all routers, for group g. Until the
// addresses are in, a new Active's adverts come from the interface's own MAC:
// one from the virtual MAC would teach the switches to send here what the
// router that hands over still forwards, and this one cannot take yet.
func (l *loop) cast(g *member, dst *unix.SockaddrLinklayer) error {
	if g.device == nil || !g.set.raised {
		return unix.Sendto(l.sender, l.packet, unix.MSG_DONTWAIT, dst)
	}
	l.frame = append(appendHeader(l.frame[:0], dst, g.device.Addr()), l.packet...)
	return unix.Sendto(l.framer, l.frame, unix.MSG_DONTWAIT, dst)
}

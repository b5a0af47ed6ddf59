// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/vrrp"
)

const (
	recvBatch = 32
	recvSize  = 2048 // an advert of 255 addresses is 1088 bytes with IP options; one of IPv6 fits an MTU of 1500
	ctrlSize  = 128  // kernel time, and for IPv6 packet info and hop limit
)

// openReceiver opens the raw socket of one interface and family: it holds the
// multicast membership, keeps the kernel from answering unicast adverts with
// ICMP, receives with the kernel's time, and sends unicast adverts whose IP
// header is ours.
func openReceiver(name string, ifindex int32, v6 bool) (int, error) {
	domain := unix.AF_INET
	if v6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, vrrp.Protocol)
	if err != nil {
		return -1, fmt.Errorf("open raw socket: %w", err)
	}
	steps := []step{
		{"bind to interface " + name, unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name)},
		{"ask for kernel time", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)},
	}
	if v6 {
		steps = append(steps, prepare6(fd, name, ifindex)...)
	} else {
		steps = append(steps, prepare4(fd, name, ifindex)...)
	}
	for _, s := range steps {
		if s.err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("%s: %w", s.what, s.err)
		}
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priorityControl)
	return fd, nil
}

// step is one thing that was tried on a new socket.
type step struct {
	what string
	err  error
}

func prepare4(fd int, name string, ifindex int32) []step {
	join := &unix.IPMreqn{Multiaddr: vrrp.Group4.As4(), Ifindex: ifindex}
	return []step{
		{"write IPv4 headers", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_HDRINCL, 1)},
		{"limit to joined groups", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)},
		{"join 224.0.0.18 on " + name, unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, join)},
	}
}

// prepare6: a raw IPv6 socket gives no header, so what the checks need of it
// comes beside the message (RFC 3542 section 4).
func prepare6(fd int, name string, ifindex int32) []step {
	join := &unix.IPv6Mreq{Multiaddr: vrrp.Group6.As16(), Interface: uint32(ifindex)}
	return []step{
		{"write IPv6 headers", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_HDRINCL, 1)},
		{"ask for destinations", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)},
		{"ask for hop limits", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)},
		{"limit to joined groups", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)},
		{"join ff02::12 on " + name, unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, join)},
	}
}

// receiver reads raw sockets in batches into memory of its own.
type receiver struct {
	clock *clock
	hdr   [recvBatch]mmsghdr
	iov   [recvBatch]unix.Iovec
	buf   [recvBatch][recvSize]byte
	ctrl  [recvBatch][ctrlSize]byte
	name  [recvBatch]unix.RawSockaddrInet6
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

// arrival is one packet of a raw socket; pdu is valid during the call.
type arrival struct {
	meta vrrp.Meta
	pdu  []byte
	at   int64 // kernel time, CLOCK_MONOTONIC
	ok   bool  // the IP header was well formed
}

func newReceiver(c *clock) *receiver {
	r := &receiver{clock: c}
	for i := range r.hdr {
		r.iov[i].Base = &r.buf[i][0]
		r.iov[i].SetLen(recvSize)
		r.hdr[i].Iov = &r.iov[i]
		r.hdr[i].SetIovlen(1)
		r.hdr[i].Control = &r.ctrl[i][0]
		r.hdr[i].Name = (*byte)(unsafe.Pointer(&r.name[i]))
	}
	return r
}

// drain reads fd until it is empty, or until limit packets, and hands each
// over with its kernel time in CLOCK_MONOTONIC. seen is when fd was last found
// empty; no packet is older, whatever was done to the wall clock since.
func (r *receiver) drain(fd int, v6 bool, seen int64, limit int, fn func(arrival)) (empty bool) {
	for limit > 0 {
		for i := range r.hdr {
			r.hdr[i].SetControllen(ctrlSize)
			r.hdr[i].Namelen = unix.SizeofSockaddrInet6
		}
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.hdr[0])), recvBatch, unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			// EAGAIN: empty. ENETDOWN and the like: the link's state says more.
			return true
		}
		now, wall := r.clock.now(), kernelClock(unix.CLOCK_REALTIME)
		for i := range int(n) {
			told := readControl(r.ctrl[i][:r.hdr[i].Controllen])
			a := arrival{at: now}
			if told.stamp != 0 {
				a.at = min(max(now-(wall-told.stamp), seen), now)
			}
			if packet := r.buf[i][:r.hdr[i].n]; v6 {
				a.pdu, a.meta = packet, vrrp.Meta{Src: netip.AddrFrom16(r.name[i].Addr), Dst: told.dst, TTL: told.hops}
				a.ok = told.dst.IsValid() && r.hdr[i].Flags&unix.MSG_TRUNC == 0
			} else {
				a.meta, a.pdu, a.ok = parseIPv4(packet)
			}
			fn(a)
		}
		limit -= int(n)
		if n < recvBatch {
			return true
		}
	}
	return false
}

// told is what comes beside a packet.
type told struct {
	stamp int64 // the wall clock, in nanoseconds, when the packet entered the stack; 0 not told
	dst   netip.Addr
	hops  uint8
}

// readControl reads SCM_TIMESTAMPNS, IPV6_PKTINFO and IPV6_HOPLIMIT.
func readControl(c []byte) (t told) {
	const header = 16 // struct cmsghdr on 64 bit
	for len(c) >= header {
		n := binary.NativeEndian.Uint64(c)
		if n < header || n > uint64(len(c)) {
			return t
		}
		data := c[header:n]
		switch level, typ := binary.NativeEndian.Uint32(c[8:]), binary.NativeEndian.Uint32(c[12:]); {
		case level == unix.SOL_SOCKET && typ == unix.SO_TIMESTAMPNS && len(data) >= 16:
			t.stamp = int64(binary.NativeEndian.Uint64(data))*1e9 + int64(binary.NativeEndian.Uint64(data[8:]))
		case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_PKTINFO && len(data) >= 16:
			t.dst = netip.AddrFrom16([16]byte(data))
		case level == unix.IPPROTO_IPV6 && typ == unix.IPV6_HOPLIMIT && len(data) >= 4:
			t.hops = uint8(binary.NativeEndian.Uint32(data))
		}
		c = c[min((n+7)&^7, uint64(len(c))):]
	}
	return t
}

// parseIPv4 takes an IPv4 packet apart. The IP total length decides, since
// Ethernet pads and headers may have options.
func parseIPv4(p []byte) (m vrrp.Meta, pdu []byte, ok bool) {
	if len(p) < ipv4Header || p[0]>>4 != 4 {
		return m, nil, false
	}
	header, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	if header < ipv4Header || total < header || total > len(p) || p[9] != vrrp.Protocol {
		return m, nil, false
	}
	m.Src, m.Dst = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	m.TTL = p[8]
	return m, p[header:total], true
}

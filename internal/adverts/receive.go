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
	recvSize  = 2048 // an advert of 255 addresses is 1088 bytes with IP options
	ctrlSize  = 64
)

// openReceiver opens the raw socket of one interface: it holds the multicast
// membership, keeps the kernel from answering unicast adverts with ICMP, and
// receives with the kernel's time.
func openReceiver(name string, ifindex int32) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, vrrp.Protocol)
	if err != nil {
		return -1, fmt.Errorf("open raw socket: %w", err)
	}
	join := &unix.IPMreqn{Multiaddr: vrrp.Group4.As4(), Ifindex: ifindex}
	for _, step := range []struct {
		what string
		err  error
	}{
		{"bind to interface " + name, unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name)},
		{"ask for kernel time", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)},
		{"limit to joined groups", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)},
		{"join 224.0.0.18 on " + name, unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, join)},
	} {
		if step.err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("%s: %w", step.what, step.err)
		}
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	return fd, nil
}

// receiver reads raw sockets in batches into memory of its own.
type receiver struct {
	clock *clock
	hdr   [recvBatch]mmsghdr
	iov   [recvBatch]unix.Iovec
	buf   [recvBatch][recvSize]byte
	ctrl  [recvBatch][ctrlSize]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

func newReceiver(c *clock) *receiver {
	r := &receiver{clock: c}
	for i := range r.hdr {
		r.iov[i].Base = &r.buf[i][0]
		r.iov[i].SetLen(recvSize)
		r.hdr[i].Iov = &r.iov[i]
		r.hdr[i].SetIovlen(1)
		r.hdr[i].Control = &r.ctrl[i][0]
	}
	return r
}

// drain reads fd until it is empty, or until limit packets, and hands each
// over with its kernel time in CLOCK_MONOTONIC. seen is when fd was last found
// empty; no packet is older, whatever was done to the wall clock since.
func (r *receiver) drain(fd int, seen int64, limit int, fn func(packet []byte, at int64)) (empty bool) {
	for limit > 0 {
		for i := range r.hdr {
			r.hdr[i].SetControllen(ctrlSize)
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
			at := now
			if stamp, ok := kernelStamp(r.ctrl[i][:r.hdr[i].Controllen]); ok {
				at = min(max(now-(wall-stamp), seen), now)
			}
			fn(r.buf[i][:r.hdr[i].n], at)
		}
		limit -= int(n)
		if n < recvBatch {
			return true
		}
	}
	return false
}

// kernelStamp reads SCM_TIMESTAMPNS: the wall clock, in nanoseconds, when the
// packet entered the stack.
func kernelStamp(c []byte) (int64, bool) {
	const header = 16 // struct cmsghdr on 64 bit
	if len(c) < header+16 {
		return 0, false
	}
	level, typ := binary.NativeEndian.Uint32(c[8:]), binary.NativeEndian.Uint32(c[12:])
	if level != unix.SOL_SOCKET || typ != unix.SO_TIMESTAMPNS {
		return 0, false
	}
	sec, nsec := binary.NativeEndian.Uint64(c[16:]), binary.NativeEndian.Uint64(c[24:])
	return int64(sec)*1e9 + int64(nsec), true
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

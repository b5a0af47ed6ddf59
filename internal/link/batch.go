// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

const (
	batchSize = 32
	oobSize   = 128
)

// batch is memory for that many datagrams, addressed once and used for ever.
type batch struct {
	msgs  [batchSize]mmsghdr
	iovs  [batchSize]unix.Iovec
	names [batchSize]unix.RawSockaddrInet6 // the larger of the two
	oobs  [batchSize][oobSize]byte
	bufs  [batchSize][]byte
	n     int
}

func newBatch(size int) *batch {
	b := &batch{}
	for i := range b.msgs {
		b.bufs[i] = make([]byte, size)
		b.iovs[i].Base = &b.bufs[i][0]
		h := &b.msgs[i].hdr
		h.Iov, h.Iovlen = &b.iovs[i], 1
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Control = &b.oobs[i][0]
	}
	return b
}

// mmsg is recvmmsg or sendmmsg. It does not block, so the scheduler need not
// hear of it: each call it hears of wakes the runtime's watchdog, if that sleeps.
func (s *socket) mmsg(trap uintptr, b *batch, from, n int) (int, error) {
	for {
		r, _, errno := unix.RawSyscall6(trap, uintptr(s.fd), uintptr(unsafe.Pointer(&b.msgs[from])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// recv takes what is there, which may be nothing.
func (s *socket) recv(b *batch) (err error) {
	for i := range b.msgs {
		h := &b.msgs[i].hdr
		h.Namelen, h.Flags = unix.SizeofSockaddrInet6, 0
		h.SetControllen(oobSize)
		b.iovs[i].SetLen(len(b.bufs[i]))
	}
	b.n, err = s.mmsg(unix.SYS_RECVMMSG, b, 0, batchSize)
	if err == unix.EAGAIN {
		err = nil
	}
	return err
}

// received is one datagram as recv found it.
type received struct {
	payload   []byte
	src       netip.AddrPort
	hops      int
	index     int
	truncated bool
}

func (b *batch) at(i int) received {
	m := &b.msgs[i]
	r := received{payload: b.bufs[i][:m.len], truncated: m.hdr.Flags&unix.MSG_TRUNC != 0, src: b.source(i)}
	r.hops, r.index = ancillary(b.oobs[i][:m.hdr.Controllen])
	return r
}

func (b *batch) source(i int) netip.AddrPort {
	sa := &b.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	if sa.Family == unix.AF_INET {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port)
}

// ancillary reads hop limit and interface. Without them they are zero, which
// no datagram passes.
func ancillary(oob []byte) (hops, index int) {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		if h.Len < unix.SizeofCmsghdr || h.Len > uint64(len(oob)) {
			return 0, 0
		}
		data := oob[unix.SizeofCmsghdr:h.Len]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL && len(data) >= 4,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			hops = int(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			index = int(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			index = int(binary.NativeEndian.Uint32(data[16:]))
		}
		oob = oob[min(len(oob), unix.CmsgSpace(len(data))):]
	}
	return hops, index
}

// put addresses the next datagram of a batch to be sent, n bytes of its buffer.
func (b *batch) put(s *socket, to netip.Addr, n int) {
	i := b.n
	b.n++
	b.iovs[i].SetLen(n)
	h := &b.msgs[i].hdr
	sa := &b.names[i]
	port := (*[2]byte)(unsafe.Pointer(&sa.Port))
	binary.BigEndian.PutUint16(port[:], s.port)
	if s.v6 {
		sa.Family, sa.Addr, sa.Scope_id = unix.AF_INET6, to.As16(), uint32(s.index)
		h.Namelen = unix.SizeofSockaddrInet6
	} else {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		sa4.Family, sa4.Addr = unix.AF_INET, to.As4()
		h.Namelen = unix.SizeofSockaddrInet4
	}
	h.SetControllen(s.pktinfo(b.oobs[i][:]))
}

// pktinfo writes the control message that sets the source address, since the
// socket is bound to none (it receives the group's datagrams, too).
func (s *socket) pktinfo(oob []byte) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	data := oob[unix.SizeofCmsghdr:]
	if s.v6 {
		h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
		a := s.local.As16()
		copy(data, a[:])
		binary.NativeEndian.PutUint32(data[16:], uint32(s.index))
		return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	binary.NativeEndian.PutUint32(data, uint32(s.index))
	a := s.local.As4()
	copy(data[4:8], a[:]) // ipi_spec_dst
	copy(data[8:12], []byte{0, 0, 0, 0})
	return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
}

// seal seals what was put; nil: nothing is sealed.
func (b *batch) seal(with *sealer) error {
	for i := 0; i < b.n && with != nil; i++ {
		sealed, err := with.seal(b.bufs[i][:b.iovs[i].Len])
		if err != nil {
			return err
		}
		b.iovs[i].SetLen(len(sealed))
	}
	return nil
}

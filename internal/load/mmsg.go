// SPDX-License-Identifier: Apache-2.0

package load

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is struct mmsghdr of recvmmsg(2), which x/sys/unix does not have.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// batchSize is how many frames cross the kernel's border at once; frameMax
// holds any frame of a crowd and any ARP packet.
const (
	batchSize = 64
	frameMax  = 256
)

// batch reads or writes many frames with one system call.
type batch struct {
	hdrs [batchSize]mmsghdr
	iovs [batchSize]unix.Iovec
	buf  [batchSize][frameMax]byte
}

func newBatch() *batch {
	b := &batch{}
	for i := range b.hdrs {
		b.iovs[i].Base = &b.buf[i][0]
		b.hdrs[i].hdr.Iov = &b.iovs[i]
		b.hdrs[i].hdr.SetIovlen(1)
	}
	return b
}

// read fills the batch with what waits on fd and never blocks. Longer frames
// are cut.
func (b *batch) read(fd int) int {
	for i := range b.iovs {
		b.iovs[i].SetLen(frameMax)
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0 // nothing there, or interrupted: the caller polls again
	}
	return int(n)
}

func (b *batch) frame(i int) []byte { return b.buf[i][:b.hdrs[i].n] }

// write sends the first n frames, whose lengths put has set; what the kernel
// does not take is lost, as on a wire.
func (b *batch) write(fd, n int) {
	for done := 0; done < n; {
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs[done])), uintptr(n-done), 0, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			done++
		default:
			done += int(sent)
		}
	}
}

// slot is the i-th frame's buffer, empty, to append to; put sets its length.
func (b *batch) slot(i int) []byte { return b.buf[i][:0] }

func (b *batch) put(i, length int) { b.iovs[i].SetLen(length) }

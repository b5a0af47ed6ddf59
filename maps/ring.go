// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bits of a record's length and its header's size (uapi/linux/bpf.h,
// BPF_RINGBUF_*).
const (
	ringBusy    = 1 << 31
	ringDiscard = 1 << 30
	ringHeader  = 8
)

// Ring reads a BPF ring buffer (5.8) through shared memory: a drain is no
// system call and copies nothing. One goroutine at a time may drain.
//
//	page 0             consumer position, ours to write
//	page 1             producer position
//	then size twice    the data, mapped twice in a row so that no record wraps
type Ring struct {
	fd       int
	consumer []byte
	producer []byte
	data     []byte
	mask     uint64
}

// OpenRing maps the ring behind fd, which stays the caller's: it may be closed
// afterwards only if FD is not used.
func OpenRing(fd int) (*Ring, error) {
	size, err := ringSize(fd)
	if err != nil {
		return nil, err
	}
	page := os.Getpagesize()
	consumer, err := unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map ring's consumer page: %w", err)
	}
	producer, err := unix.Mmap(fd, int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		unix.Munmap(consumer)
		return nil, fmt.Errorf("map ring's data: %w", err)
	}
	return &Ring{fd: fd, consumer: consumer, producer: producer, data: producer[page:], mask: uint64(size - 1)}, nil
}

// ringSize reads the map's size from /proc, so that a process which was handed
// the descriptor needs no bpf(2).
func ringSize(fd int) (int, error) {
	f, err := os.Open("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, fmt.Errorf("open ring: %w", err)
	}
	defer f.Close()
	typ, size := 0, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		n, _ := strconv.Atoi(strings.TrimSpace(value))
		switch name {
		case "map_type":
			typ = n
		case "max_entries":
			size = n
		}
	}
	if typ != unix.BPF_MAP_TYPE_RINGBUF || size <= 0 || size&(size-1) != 0 {
		return 0, fmt.Errorf("open ring: descriptor %d is no BPF ring buffer", fd)
	}
	return size, nil
}

// FD is what epoll waits for.
func (r *Ring) FD() int { return r.fd }

// Close unmaps the ring; the descriptor stays open.
func (r *Ring) Close() error {
	return errors.Join(unix.Munmap(r.consumer), unix.Munmap(r.producer))
}

func position(page []byte) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&page[0]))
}

// Pending says whether a record is in the ring, be it still being written.
func (r *Ring) Pending() bool {
	return position(r.producer).Load() != position(r.consumer).Load()
}

// Drain calls fn for each record that was written when it began, oldest first,
// and gives their number. rec lies in the ring and is valid during the call
// only. It stops at a record that is still being written.
func (r *Ring) Drain(fn func(rec []byte)) (n int) {
	at := position(r.consumer).Load()
	end := position(r.producer).Load()
	for at < end {
		head := at & r.mask
		length := (*atomic.Uint32)(unsafe.Pointer(&r.data[head])).Load()
		if length&ringBusy != 0 {
			return n
		}
		size := uint64(length &^ ringDiscard)
		if length&ringDiscard == 0 {
			fn(r.data[head+ringHeader : head+ringHeader+size : head+ringHeader+size])
			n++
		}
		at += (size + ringHeader + 7) &^ 7
		position(r.consumer).Store(at)
	}
	return n
}

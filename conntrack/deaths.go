// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// deathsBuffer is asked for and doubled by the kernel. A death occupies
	// 1280 B of it (TestDeathsBuffer), so that it holds some 52,000.
	deathsBuffer = 32 << 20
	// deathsBatch messages are read by one recvmmsg, each of at most
	// deathSize bytes: an event without labels and secctx has about 200.
	deathsBatch = 64
	deathSize   = 1 << 10
	// deathsPerRead bounds one Read under a flood.
	deathsPerRead = 1 << 14
)

// Death is the end of one entry. TimeLeft is what its timeout had left, in
// seconds: 0 when it ran out. PortID is the netlink port of who deleted it
// through ctnetlink (conntrack -D, a Table), 0 when the kernel did. Flow has
// tuples, status, zone and mark; of TCP and SCTP the state only.
type Death struct {
	Flow     Flow
	TimeLeft uint32
	PortID   uint32
}

// Deaths is a subscription to DESTROY events of one network namespace. An
// entry made while nobody listened (nf_conntrack_events=2) never reports its
// death. One goroutine may Read or Drain; Close may be called by any.
type Deaths struct {
	fd, wake int // the socket; an eventfd that Close writes
	closed   atomic.Bool
	reading  sync.Mutex // held by Read and Drain
	drained  bool
	death    Death
	polled   [2]unix.PollFd
	bufs     [deathsBatch][deathSize]byte
	iovs     [deathsBatch]unix.Iovec
	msgs     [deathsBatch]mmsghdr
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// ListenDeaths subscribes in the network namespace of the caller's thread. It
// costs the kernel 1 us more per dying flow and a commit 4 to 10 %; events for
// inserts are built only when somebody else listens for those (bench,
// BenchmarkListeners).
func ListenDeaths() (*Deaths, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open death socket: %w", os.NewSyscallError("socket", err))
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open death socket: %w", os.NewSyscallError("eventfd", err))
	}
	d := &Deaths{fd: fd, wake: wake}
	if err := d.setup(); err != nil {
		unix.Close(fd)
		unix.Close(wake)
		return nil, fmt.Errorf("set up death socket: %w", err)
	}
	return d, nil
}

func (d *Deaths) setup() error {
	for i := range d.msgs {
		d.iovs[i].Base = &d.bufs[i][0]
		d.iovs[i].SetLen(deathSize)
		d.msgs[i].hdr.Iov = &d.iovs[i]
		d.msgs[i].hdr.SetIovlen(1)
	}
	if _, err := forceBuffer(d.fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, deathsBuffer); err != nil {
		return err
	}
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Bind(d.fd, kernel); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Connect(d.fd, kernel); err != nil {
		return os.NewSyscallError("connect", err)
	}
	return os.NewSyscallError("setsockopt NETLINK_ADD_MEMBERSHIP",
		unix.SetsockoptInt(d.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, groupDestroy))
}

// Close ends the subscription; a Read under way returns os.ErrClosed.
func (d *Deaths) Close() error {
	if d.closed.Swap(true) {
		return os.ErrClosed
	}
	_, err := unix.Write(d.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	d.reading.Lock()
	defer d.reading.Unlock()
	return errors.Join(os.NewSyscallError("write eventfd", err), unix.Close(d.fd), unix.Close(d.wake))
}

// Filter lets only deaths through whose status has one of the bits in any (0:
// whatever the status) and which none of the netlink ports own caused. It spares
// the socket buffer and this process the deaths of flows that were never
// replicated (a SYN flood) and those by its own Tables (a commit that replaces a
// million entries), not the kernel's work.
func (d *Deaths) Filter(any Status, own ...uint32) error {
	code := append(portFilter(own), statusFilter(any)...)
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER",
		unix.SetsockoptSockFprog(d.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog))
}

// portFilter is classic BPF over one event: nlmsg_pid, in host order, is who
// caused it. Loads are big-endian.
func portFilter(own []uint32) (code []unix.SockFilter) {
	for _, port := range own {
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], port)
		code = append(code,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: binary.BigEndian.Uint32(b[:]), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
	}
	return code
}

// statusFilter goes on where portFilter ends: the extension NLATTR finds the
// attribute of type X from offset A on and gives its offset, or 0.
func statusFilter(any Status) []unix.SockFilter {
	if any == 0 {
		return []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff}}
	}
	const nlattr = 0xfffff000 + 12 // SKF_AD_OFF + SKF_AD_NLATTR, read as u32
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_IMM, K: sizeofHeader + sizeofGenmsg},
		{Code: unix.BPF_LDX | unix.BPF_IMM, K: ctaStatus},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: nlattr},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jt: 3},
		{Code: unix.BPF_MISC | unix.BPF_TAX},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_IND, K: sizeofAttr},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: uint32(any), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff}, // no status, or one of the bits
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

// Read waits until there are deaths or the deadline passes (the zero Time:
// for ever), and drains. That the deadline passed is no error.
func (d *Deaths) Read(deadline time.Time, fn func(*Death)) (lost bool, err error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	for {
		n, lost, err := d.drain(fn)
		if n > 0 || err != nil {
			return lost, err
		}
		if ready, err := d.wait(deadline); err != nil || !ready {
			return false, err
		}
	}
}

// Drain calls fn for each death that is there, and returns; the Death is reused
// between calls. lost says that the kernel dropped events since the last time
// because the socket was full (ENOBUFS), or that one did not fit: the caller
// has to audit.
func (d *Deaths) Drain(fn func(*Death)) (lost bool, err error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	_, lost, err = d.drain(fn)
	return lost, err
}

// drain gives how many messages it took, one for a loss.
func (d *Deaths) drain(fn func(*Death)) (n int, lost bool, err error) {
	d.drained = false
	for n < deathsPerRead {
		if d.closed.Load() { // before the descriptor is touched: Close waits for us
			return n, lost, os.ErrClosed
		}
		got, errno := d.receive()
		switch errno {
		case 0:
			lost = d.parse(got, fn) || lost
			n += got
		case unix.EINTR:
		case unix.ENOBUFS:
			lost = true
			n++ // what is still in the socket comes after it
		case unix.EAGAIN:
			d.drained = true
			return n, lost, nil
		default:
			return n, lost, fmt.Errorf("read deaths: %w", os.NewSyscallError("recvmmsg", errno))
		}
	}
	return n, lost, nil
}

// FD is what a poll waits for.
func (d *Deaths) FD() int { return d.fd }

// Drained says whether the last Read or Drain left the socket empty, so that
// every death before its return has been shown.
func (d *Deaths) Drained() bool { return d.drained }

// receive reads up to deathsBatch messages. It does not block, so the scheduler
// need not hear of it.
func (d *Deaths) receive() (n int, errno unix.Errno) {
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(d.fd), uintptr(unsafe.Pointer(&d.msgs[0])),
		deathsBatch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// parse shows the deaths of the first n messages; lost: one was unreadable.
func (d *Deaths) parse(n int, fn func(*Death)) (lost bool) {
	for i := range d.msgs[:n] {
		m, _, err := nextMessage(d.bufs[i][:min(int(d.msgs[i].len), deathSize)])
		if err != nil || d.msgs[i].hdr.Flags&unix.MSG_TRUNC != 0 {
			lost = true
			continue
		}
		if m.Type != msgDelete {
			continue
		}
		if err := d.death.Flow.decode(m.Payload); err != nil {
			lost = true
			continue
		}
		d.death.TimeLeft, d.death.PortID = d.death.Flow.Timeout, m.PortID
		fn(&d.death)
	}
	return lost
}

// wait waits for a message, Close or the deadline (false).
func (d *Deaths) wait(deadline time.Time) (ready bool, err error) {
	for {
		var timeout *unix.Timespec
		if !deadline.IsZero() {
			ts := unix.NsecToTimespec(max(0, time.Until(deadline).Nanoseconds()))
			timeout = &ts
		}
		d.polled = [2]unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.wake), Events: unix.POLLIN}}
		n, err := unix.Ppoll(d.polled[:], timeout, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("wait for deaths: %w", os.NewSyscallError("ppoll", err))
		}
		return n > 0, nil
	}
}

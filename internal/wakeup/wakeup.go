// SPDX-License-Identifier: Apache-2.0

// Package wakeup waits for descriptors at little cost, however often something
// comes.
//
// A goroutine that Go's poller wakes takes four or five switches of threads with
// it: the thread that polls, another one that looks whether there is more to do,
// the runtime's watchdog. At rest that is nothing. Woken every two milliseconds it
// is most of what a daemon uses. There a thread that blocks in a system call of
// its own costs one switch; at rest it costs more than the poller, since the
// watchdog, once woken by it, looks around fifty times before it sleeps again. So
// a Waiter does the one while things come thick and fast, and else the other.
package wakeup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// dense: what comes at most so long after what came before is waited for by
	// blocking. Acknowledgements of a busy peer come each 16 ms.
	dense = 20 * time.Millisecond
	// longest a thread may block at a time: a goroutine that the scheduler does not
	// see for 10 ms (forcePreemptNS of runtime/proc.go) is taken for stuck, and its
	// processor given away.
	longest = 9 * time.Millisecond
)

// yield lets the scheduler see the goroutine, and others of this processor run.
// runtime.Gosched does so, too, but wakes a second thread to share in what there
// is to do, which is mostly nothing.
//
//go:linkname yield runtime.goyield
func yield()

// Waiter waits for descriptors to be readable. One goroutine may Wait and
// Pause; any may Ring.
type Waiter struct {
	fds   []unix.PollFd // those waited for, and then bell
	all   int           // epoll over them
	gate  int           // epoll over all: passes on what comes while armed
	armed bool
	file  *os.File // gate, for Go's poller
	conn  syscall.RawConn
	rung  atomic.Bool
	mu    sync.Mutex // held while bell is written or closed
	bell  int        // eventfd; -1 once closed
	last  time.Time  // when something came
	dense bool
}

// New makes a Waiter for descriptors, which stay the caller's and have to
// outlive it.
func New(fds ...int) (*Waiter, error) {
	w := &Waiter{all: -1, bell: -1}
	if err := w.open(fds); err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("wait for descriptors: %w", err)
	}
	return w, nil
}

func (w *Waiter) open(fds []int) (err error) {
	if w.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	if w.all, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	for _, fd := range append(slices.Clone(fds), w.bell) {
		w.fds = append(w.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		if err := control(w.all, unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
			return err
		}
	}
	if w.gate, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	// Without O_NONBLOCK os.NewFile would not give it to the poller.
	err = unix.SetNonblock(w.gate, true)
	w.file = os.NewFile(uintptr(w.gate), "epoll")
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if err := control(w.gate, unix.EPOLL_CTL_ADD, w.all, 0); err != nil {
		return err
	}
	w.conn, err = w.file.SyscallConn()
	return err
}

func control(epoll, op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// Close frees what New made. Wait has returned; Ring does nothing from now on.
func (w *Waiter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	if w.file != nil {
		errs = append(errs, w.file.Close())
	}
	for _, fd := range []*int{&w.all, &w.bell} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
		}
		*fd = -1
	}
	return errors.Join(errs...)
}

// Ring ends the Wait or Pause under way, or the next one.
func (w *Waiter) Ring() {
	if w.rung.Swap(true) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bell >= 0 {
		_, _ = unix.Write(w.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // EAGAIN: it rings already
	}
}

// Wait returns when a descriptor is readable or in error, somebody rang, or d
// is over. It may return for nothing.
func (w *Waiter) Wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	until := time.Now().Add(d)
	for left := min(d, dense); w.dense && left > 0; left -= longest {
		if came, err := w.block(w.fds, min(left, longest)); came || err != nil {
			return err
		}
	}
	if w.dense && d <= dense {
		return nil
	}
	w.dense = false
	came, err := w.park(until)
	if came {
		now := time.Now()
		w.dense, w.last = now.Sub(w.last) <= dense, now
	}
	return err
}

// Pause returns when d, a few milliseconds, is over or somebody rang.
func (w *Waiter) Pause(d time.Duration) error {
	_, err := w.block(w.fds[len(w.fds)-1:], d)
	return err
}

// arm lets Go's poller hear of what comes, once; or of nothing. While a thread
// blocks by itself, or its goroutine works, each event would wake the poller's
// thread for nothing.
func (w *Waiter) arm(on bool) error {
	if w.armed == on {
		return nil
	}
	w.armed = on
	events := uint32(0)
	if on {
		events = unix.EPOLLIN | unix.EPOLLONESHOT
	}
	return control(w.gate, unix.EPOLL_CTL_MOD, w.all, events)
}

// block waits in a system call.
func (w *Waiter) block(fds []unix.PollFd, d time.Duration) (came bool, err error) {
	if err := w.arm(false); err != nil {
		return false, fmt.Errorf("wait for descriptors: %w", err)
	}
	timeout := unix.NsecToTimespec(int64(d))
	n, err := unix.Ppoll(fds, &timeout, nil)
	if err != nil && err != unix.EINTR { // EINTR: Go interrupts threads to preempt them
		return false, fmt.Errorf("wait for descriptors: %w", os.NewSyscallError("ppoll", err))
	}
	if n > 0 && fds[len(fds)-1].Revents != 0 {
		w.heard()
	}
	if n > 0 {
		w.last = time.Now()
	}
	yield()
	return n > 0 || err == unix.EINTR, nil
}

// park waits in Go's poller.
func (w *Waiter) park(until time.Time) (came bool, err error) {
	if err := errors.Join(w.arm(true), w.file.SetReadDeadline(until)); err != nil {
		return false, fmt.Errorf("wait for descriptors: %w", err)
	}
	var events [1]unix.EpollEvent
	var errno unix.Errno
	err = w.conn.Read(func(fd uintptr) bool {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&events[0])), 1, 0, 0, 0)
		errno, came = e, e == 0 && n > 0
		return e != 0 || came
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("wait for descriptors: %w", err)
	case errno != 0 && errno != unix.EINTR:
		return false, fmt.Errorf("wait for descriptors: %w", os.NewSyscallError("epoll_pwait", errno))
	}
	w.armed = !came
	w.heard()
	return came, nil
}

// heard silences the bell. Who rings from here on rings anew. As the other calls
// that cannot block it is one of which the scheduler does not hear: that would
// wake the runtime's watchdog, which then looks around fifty times.
func (w *Waiter) heard() {
	w.rung.Store(false)
	var buf [8]byte
	_, _, _ = unix.RawSyscall(unix.SYS_READ, uintptr(w.bell), uintptr(unsafe.Pointer(&buf)), unsafe.Sizeof(buf)) // EAGAIN: it does not ring, or not yet, and then the next Wait returns for nothing
}

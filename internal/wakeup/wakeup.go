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
	"runtime"
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
	// blocking.
	dense = 9 * time.Millisecond
	// yieldEvery is how often a goroutine that blocks lets the scheduler see it:
	// one that it does not see for 10 ms (forcePreemptNS of runtime/proc.go) is
	// taken for stuck, and its processor given away.
	yieldEvery = 6 * time.Millisecond
)

// Waiter waits for descriptors to be readable. One goroutine may Wait and
// Pause; any may Ring.
type Waiter struct {
	fds   []unix.PollFd // those waited for, and then bell
	file  *os.File      // epoll over them all, for Go's poller
	conn  syscall.RawConn
	rung  atomic.Bool
	mu    sync.Mutex // held while bell is written or closed
	bell  int        // eventfd; -1 once closed
	last  time.Time  // when something came
	seen  time.Time  // by the scheduler
	dense bool
}

// New makes a Waiter for descriptors, which stay the caller's and have to
// outlive it.
func New(fds ...int) (*Waiter, error) {
	w := &Waiter{bell: -1}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("wait for descriptors: %w", os.NewSyscallError("epoll_create1", err))
	}
	if err := w.open(epoll, fds); err != nil {
		unix.Close(epoll)
		if w.bell >= 0 {
			unix.Close(w.bell)
		}
		return nil, fmt.Errorf("wait for descriptors: %w", err)
	}
	return w, nil
}

func (w *Waiter) open(epoll int, fds []int) (err error) {
	if w.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	for _, fd := range append(slices.Clone(fds), w.bell) {
		w.fds = append(w.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	// Without O_NONBLOCK os.NewFile would not give it to the poller.
	if err := unix.SetNonblock(epoll, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	w.file = os.NewFile(uintptr(epoll), "epoll")
	w.conn, err = w.file.SyscallConn()
	return err
}

// Close frees what New made. Wait has returned; Ring does nothing from now on.
func (w *Waiter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := errors.Join(w.file.Close(), unix.Close(w.bell))
	w.bell = -1
	return err
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
	began := time.Now()
	if w.dense {
		came, err := w.block(w.fds, min(d, dense))
		if came || err != nil || d <= dense {
			return err
		}
		w.dense, d = false, d-dense
	}
	came, err := w.park(began.Add(d))
	if came {
		now := time.Now()
		w.dense, w.last, w.seen = now.Sub(w.last) <= dense, now, now
	}
	return err
}

// Pause returns when d, a few milliseconds, is over or somebody rang.
func (w *Waiter) Pause(d time.Duration) error {
	_, err := w.block(w.fds[len(w.fds)-1:], d)
	return err
}

// block waits in a system call.
func (w *Waiter) block(fds []unix.PollFd, d time.Duration) (came bool, err error) {
	timeout := unix.NsecToTimespec(int64(d))
	n, err := unix.Ppoll(fds, &timeout, nil)
	if err != nil && err != unix.EINTR { // EINTR: Go interrupts threads to preempt them
		return false, fmt.Errorf("wait for descriptors: %w", os.NewSyscallError("ppoll", err))
	}
	if n > 0 && fds[len(fds)-1].Revents != 0 {
		w.heard()
	}
	now := time.Now()
	if n > 0 {
		w.last = now
	}
	if now.Sub(w.seen) >= yieldEvery {
		w.seen = now
		runtime.Gosched()
	}
	return n > 0 || err == unix.EINTR, nil
}

// park waits in Go's poller.
func (w *Waiter) park(until time.Time) (came bool, err error) {
	if err := w.file.SetReadDeadline(until); err != nil {
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
	w.heard()
	return came, nil
}

// heard silences the bell. Who rings from here on rings anew.
func (w *Waiter) heard() {
	w.rung.Store(false)
	var buf [8]byte
	_, _ = unix.Read(w.bell, buf[:]) // EAGAIN: it does not ring, or not yet, and then the next Wait returns for nothing
}

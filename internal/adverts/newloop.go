// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newLoop builds the election thread's state; it has no set yet.
func newLoop(sock int, h *hello) (*loop, error) {
	l := &loop{clock: newClock(), hello: h, sock: sock, allowed: !h.GatePreempt,
		inbox: make([]byte, maxMessage), out: make([]byte, 0, maxMessage),
		packet: make([]byte, 0, recvSize), frame: make([]byte, 0, recvSize)}
	l.recv = newReceiver(&l.clock)
	l.onPacket = l.takePacket
	f := os.NewFile(uintptr(sock)+1, "tandem-adverts")
	var err error
	if l.shm, err = mapShm(f, int(h.Room)); err != nil {
		return nil, err
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	if l.stage, err = newStage(&l.clock, l.wake); err != nil {
		return nil, err
	}
	l.stage.vouched = l.shm.vouched()
	return l, nil
}

func (l *loop) open() (err error) {
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("open epoll: %w", err)
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("open timer: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("open eventfd: %w", err)
	}
	if l.sender, err = openSender(); err != nil {
		return err
	}
	if l.framer, err = openFramer(); err != nil {
		return err
	}
	for _, w := range []struct {
		fd   int
		what int32
	}{{l.sock, readySocket}, {l.timer, readyTimer}, {l.wake, readyStage}} {
		if err := l.listen(w.fd, w.what, 0); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) listen(fd int, what int32, port int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: what, Pad: int32(port)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("watch file %d: %w", fd, err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/vrrp"
)

// newLoop builds the election thread's state from what the daemon told.
func newLoop(sock int, s *setup) (*loop, error) {
	l := &loop{clock: newClock(), setup: s, sock: sock, inbox: make([]byte, maxMessage), out: make([]byte, 0, maxMessage), packet: make([]byte, 0, recvSize)}
	l.recv = newReceiver(&l.clock)
	l.onPacket = l.takePacket
	l.addPorts()
	l.addDevices()
	l.addSets()
	f := os.NewFile(uintptr(sock)+1, "tandem-adverts")
	var err error
	if l.shm, err = mapShm(f, len(s.groups), len(l.ports)); err != nil {
		return nil, err
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	if l.stage, err = newStage(&l.clock, l.wake, s, l.ports); err != nil {
		return nil, err
	}
	l.stage.vouched = l.shm.vouched()
	for i := range s.early {
		l.track(&s.early[i])
	}
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

// addPorts makes one port per interface and family, in the order of first use:
// the same order as names.interfaces on the daemon's side.
func (l *loop) addPorts() {
	for i, g := range l.setup.groups {
		v6 := g.v6()
		p := slices.IndexFunc(l.ports, func(p port) bool { return p.name == g.Interface && p.v6 == v6 })
		if p < 0 {
			p = len(l.ports)
			l.ports = append(l.ports, port{name: g.Interface, v6: v6, rx: -1, reason: reasonStarting})
		}
		l.ports[p].byVRID[g.VRID] = uint16(i + 1)
		l.portOf = append(l.portOf, p)
	}
}

// addDevices: a group with a virtual MAC waits for its device.
func (l *loop) addDevices() {
	l.frame = make([]byte, 0, recvSize)
	for i := range l.setup.groups {
		m := l.setup.groups[i].device()
		l.devices, l.noMAC = append(l.devices, m), append(l.noMAC, m != nil)
	}
}

func (l *loop) addSets() {
	l.sets = make([]set, l.setup.Sets)
	l.tracked = make([]trackedGroup, len(l.setup.groups))
	for i, s := range l.setup.setOf {
		l.sets[s].groups = append(l.sets[s].groups, i)
	}
	for i := range l.sets {
		st := &l.sets[i]
		var cfg []vrrp.Config
		for _, g := range st.groups {
			cfg = append(cfg, machineConfig(&l.setup.groups[g]))
		}
		st.Set = vrrp.NewSet(cfg, l.setup.GatePreempt)
		if i == int(l.setup.Vouched) {
			st.SetSecondPath(vrrp.SecondPath(l.setup.SecondPath))
		}
		st.gate = gate{gateTimeout: l.setup.GateTimeout, releaseTimeout: l.setup.ReleaseTimeout}
		for m := range st.groups {
			st.SetFault(m, true, 0)
		}
		st.dirty = true
	}
}

func machineConfig(g *group) vrrp.Config {
	c := vrrp.Config{
		Version: g.Version, VRID: g.VRID, Priority: g.Priority, Preempt: g.Preempt,
		Interval: g.Interval, PreemptDelay: g.PreemptDelay,
		Checksum: g.Wire.Checksum, AuthType: g.Wire.AuthType, Auth: g.Wire.Auth,
	}
	for _, a := range g.Addresses {
		c.Addresses = append(c.Addresses, a.Prefix.Addr().AsSlice()...)
	}
	return c
}

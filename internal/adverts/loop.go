// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
	"github.com/tandem-ha/tandem/vrrp"
)

// What epoll says is ready.
const (
	readySocket int32 = iota
	readyTimer
	readyStage
	readyPort // Pad: the port
	readyRing
)

const (
	// heartbeat is the longest sleep of the election thread: the second thread
	// keeps addresses alive only while this one lives.
	heartbeat = int64(250_000_000)
	// farewell is how long a stopping child waits for its addresses to go.
	farewell = int64(1_000_000_000)
	// mailLimit bounds the daemon's messages of one turn: a whole configuration may
	// come at once.
	mailLimit = 16
	// drainLimit bounds one reading, so that a flood cannot hold adverts back.
	drainLimit = 512
)

// loop is the election thread: it receives, decides, sends. All of its state
// belongs to that thread; steady state allocates nothing.
//
//  1. sleep until a packet, a message, a report or a deadline
//  2. tell every set how long that was (Wake)
//  3. read everything that arrived, each advert with its kernel time
//  4. run the timers (Tick), only now
//  5. carry out the actions, publish
type loop struct {
	clock  clock
	hello  *hello
	shm    *shm
	sock   int
	epoll  int
	timer  int
	sender int
	framer int // the same for virtual MACs
	wake   int // eventfd: the stage reported, or interrupt was called
	stage  *stage
	recv   *receiver
	ring   advertRing // nil: raw sockets
	events [64]unix.EpollEvent

	sets   []*set
	ports  []*port
	coming []*member // of the set that begins next
	terms  uint32    // those of ended sets were not above

	ready    bool // the stage has looked at every port
	startAt  int64
	started  bool
	allowed  bool  // to preempt
	aside    bool  // maintenance
	stopping int64 // when it began, 0 not
	orphan   bool  // the daemon is gone
	stopFlag atomic.Bool
	limits   string
	sleeps   sleeps
	frame    []byte

	now    int64 // of this turn
	inbox  []byte
	out    []byte
	packet []byte
	advert vrrp.Advert

	onRecord func([]byte) // takeRecord, bound once
	onPacket func(arrival)
	reading  *port // whose packets onPacket takes
}

// port is one interface that carries groups of one family.
type port struct {
	slot    uint16
	name    string
	v6      bool
	rx      int // raw socket: takes adverts, sends those by unicast; -1: none
	to      to
	addr    netip.Addr
	reason  reason
	members []*member
	byVRID  [256]*member
	seen    int64      // when rx was last found empty
	id      uint16     // IP identification
	index   int32      // interface index
	refused unix.Errno // by the last send
	count   vrrp.InterfaceCounters
}

// set is one vrrp.Set with its gate.
type set struct {
	*vrrp.Set
	slot    uint16
	members []*member
	gate    gate
	given   bool // the role was handed over: see linger
	raised  bool // the devices of virtual MACs are up: see cast
	dirty   bool
	sure    *atomic.Int64 // Sure, for the stage
	vouched bool          // the second path is about it
	ending  bool
	ended   bool // the stage has been told
}

// member is one group of a set.
type member struct {
	slot    uint16
	at      int // in its set, and in that of package vrrp
	cfg     group
	set     *set
	port    *port
	tracked trackedGroup
	device  *vip.MAC // nil: no virtual MAC
	noMAC   bool     // its device is not there
	ringAt  int64    // when the ring last brought an advert
}

// interrupt ends the loop as msgStop does; from any goroutine.
func (l *loop) interrupt() {
	l.stopFlag.Store(true)
	signalFD(l.wake)
}

func (l *loop) close() {
	l.stage.close()
	if l.ring != nil {
		l.ring.Close()
	}
	for _, fd := range []int{l.epoll, l.timer, l.wake, l.sender, l.framer} {
		unix.Close(fd)
	}
	l.shm.close()
}

// run is the election. limits is what becomeRealTime was refused.
func (l *loop) run(limits string) error {
	l.limits = limits
	go l.stage.run()
	for {
		n, err := l.sleep()
		if err != nil {
			return err
		}
		l.now = l.clock.now()
		l.stage.alive.Store(l.now)
		l.wakeUp()
		l.readRing() // before the sockets' copies of the same adverts
		for i := range n {
			l.serve(&l.events[i])
		}
		if err := l.decide(); err != nil || l.finished() {
			return err
		}
		l.publish()
	}
}

// wakeUp tells every set how long the last sleep was.
func (l *loop) wakeUp() {
	if d := l.sleeps.slept(l.now, kernelClock(unix.CLOCK_BOOTTIME)); d > 0 {
		l.each(func(s *set) { s.Resumed(d, l.now); s.dirty = true })
		return
	}
	l.each(func(s *set) { s.Wake(l.now) })
}

// each calls fn for every set and carries out what it asked for.
func (l *loop) each(fn func(*set)) {
	for _, s := range l.sets {
		fn(s)
		l.perform(s)
	}
}

// sleep waits until something is ready or the next deadline.
func (l *loop) sleep() (int, error) {
	next := l.now + heartbeat
	for _, s := range l.sets {
		next = earlier(earlier(next, s.NextDeadline()), s.gate.deadline)
	}
	if !l.started {
		next = earlier(next, l.startAt)
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(next, 1))}
	if err := unix.TimerfdSettime(l.timer, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return 0, fmt.Errorf("arm timer: %w", err)
	}
	n, err := unix.EpollWait(l.epoll, l.events[:], -1)
	if err != nil && err != unix.EINTR {
		return 0, fmt.Errorf("wait: %w", err)
	}
	return max(n, 0), nil
}

func earlier(a, b int64) int64 {
	if b != 0 && b < a {
		return b
	}
	return a
}

func (l *loop) serve(e *unix.EpollEvent) {
	switch e.Fd {
	case readySocket:
		l.readSocket()
	case readyTimer:
		drainFD(l.timer)
	case readyStage:
		drainFD(l.wake)
		if l.stopFlag.Load() {
			l.stop()
		}
		l.readReports()
	case readyPort:
		if p := l.port(uint16(e.Pad)); p != nil {
			l.readPort(p)
		}
	case readyRing:
		l.readRing()
	}
}

// readPort reads a raw socket; false: more is waiting.
func (l *loop) readPort(p *port) bool {
	if p.rx < 0 {
		return true
	}
	before := l.clock.now()
	l.reading = p
	empty := l.recv.drain(p.rx, p.v6, p.seen, drainLimit, l.onPacket)
	if empty {
		p.seen = before
	}
	return empty
}

func (l *loop) takePacket(a arrival) {
	if !a.ok {
		l.reading.count.ReceiveDropped++
		return
	}
	l.receive(l.reading, a.pdu, a.meta, a.at, fromSocket)
}

// receive is the first part of the checks of RFC 9568 section 7.1: up to the
// virtual router that is meant.
func (l *loop) receive(p *port, pdu []byte, m vrrp.Meta, at int64, from origin) {
	vrid, d := vrrp.Peek(pdu)
	g := p.byVRID[vrid]
	if !l.believe(g, from) {
		return
	}
	switch {
	case d == vrrp.DropTruncated:
		p.count.Truncated++
	case d == vrrp.DropVersion:
		p.count.VersionErrors++
	case d == vrrp.DropType:
		p.count.InvalidType++
	case g == nil:
		p.count.VRIDErrors++
	case m.Src == g.source():
		p.count.SourceErrors++
	default:
		if g.cfg.meant(&m) {
			g.set.Vouched(int64(l.shm.vouched().Load()))
			g.set.Receive(g.at, pdu, m, at, l.now)
		} else {
			g.set.RefusePeer(g.at)
		}
		g.set.dirty = true
		l.perform(g.set)
	}
}

// decide runs the timers. A Backup's timer is believed only when every
// receiver was found empty after the deadline.
func (l *loop) decide() error {
	l.now = l.clock.now()
	if !l.started && l.ready && l.now >= l.startAt {
		l.started = true
		l.each(l.start)
	}
	drained := true
	if l.due() {
		drained = l.drainAll()
		l.now = l.clock.now()
	}
	for _, s := range l.sets {
		if t := s.NextDeadline(); t != 0 && l.now >= t {
			s.Vouched(int64(l.shm.vouched().Load()))
			s.Tick(l.now, drained)
			s.dirty = true
			l.perform(s)
		}
		l.do(s, s.gate.tick(l.now))
		l.leave(s)
	}
	return nil
}

// due: a Backup's deadline has passed.
func (l *loop) due() bool {
	for _, s := range l.sets {
		if t := s.NextDeadline(); t != 0 && l.now >= t && s.State() == vrrp.Backup {
			return true
		}
	}
	return false
}

func (l *loop) drainAll() bool {
	drained := true
	l.readRing()
	for _, p := range l.ports {
		drained = l.readPort(p) && drained
	}
	return drained
}

// stop begins the end: every set shuts down.
func (l *loop) stop() {
	if l.stopping == 0 {
		l.stopping = l.now
		l.each(func(s *set) { s.Shutdown(l.now); s.dirty = true })
	}
}

// abandon is stop without a daemon to ask.
func (l *loop) abandon() {
	l.orphan = true
	unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, l.sock, nil)
	l.stop()
	for _, s := range l.sets {
		l.do(s, s.gate.abandon())
	}
}

// finished: every address is out, or it took too long (the lifetimes do the
// rest).
func (l *loop) finished() bool {
	if l.stopping == 0 {
		return false
	}
	idle := true
	for _, s := range l.sets {
		idle = idle && s.gate.idle()
	}
	if idle || l.now > l.stopping+farewell {
		l.publish()
		return true
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package vrrp

import "net/netip"

// holdRefused is how long a set whose promotion was refused waits at least
// before it tries again: its caller is in trouble, and each try costs the
// segment an advert and a priority 0.
const holdRefused = second

// announceEvery limits the announcements that losing adverts cause.
const announceEvery = second

// ActionKind says what an Action asks for.
type ActionKind uint8

// Actions, in the words of RFC 9568 section 6.4.
const (
	ActSend         ActionKind = iota + 1 // send an advert of Member with Priority
	ActPromote                            // install the set's addresses and announce them
	ActDemote                             // remove the set's addresses
	ActAnnounce                           // announce again: a conflict (Peer), a gap
	ActChanged                            // the state went From -> To
	ActWouldPreempt                       // On: only permission keeps the role from us
	ActSilent                             // On: Member alone hears no Active
	ActConflict                           // On: Member hears another Active, Peer
	ActDoubt                              // On: silence, but the second path says that the Active lives
)

// Action is one thing to carry out. Actions are in order.
type Action struct {
	Kind     ActionKind
	Member   int
	Priority uint8 // ActSend
	Cause    Cause // ActPromote, ActDemote
	From, To State
	On       bool
	Peer     netip.Addr
	Due      int64 // ActSend by Adver_Timer, ActPromote by timeout: the deadline; 0: not by a timer
	Silence  int64 // ActPromote: ns since the last advert of another router; 0: never heard
}

// Set is one or more instances that change state together: a sync group, or
// a group on its own. Its state is one value, so members cannot differ. A Set
// is not safe for concurrent use.
type Set struct {
	members []Instance
	state   State
	since   int64
	started bool
	allowed bool // preemption is permitted
	aside   bool // maintenance: it stays Backup

	listen     int64 // Active that overslept: silent until then, 0 not
	sentBefore int64 // while listening: our last advert before the sleep
	guard      int64 // Active by hand-over: adverts of the former Active on their way do not count until then
	hold       int64 // Backup after a refusal: no promotion before
	announced  int64
	wants      bool // what ActWouldPreempt said last
	quiet      int  // 1 + member that ActSilent named, 0 none
	rival      int  // 1 + member that ActConflict named, 0 none
	second     secondPath

	out []Action
}

// NewSet makes a set in Initialize. While gated, no member preempts until
// AllowPreempt(true).
func NewSet(members []Config, gated bool) *Set {
	s := &Set{members: make([]Instance, len(members)), allowed: !gated, out: make([]Action, 0, 64+4*len(members))}
	for i, c := range members {
		s.members[i] = Instance{cfg: c, activeInterval: c.Interval}
	}
	return s
}

// Actions returns what the calls since the last Actions asked for. The slice
// is valid until the next call of any method.
func (s *Set) Actions() []Action {
	out := s.out
	s.out = s.out[:0]
	return out
}

// State is the state of every member.
func (s *Set) State() State { return s.state }

// Start begins the election, as soon as no member is in fault.
func (s *Set) Start(now int64) {
	s.started = true
	s.tryStartup(now)
}

// SetSource tells member i its primary address.
func (s *Set) SetSource(i int, a netip.Addr) { s.members[i].source = a }

// SetFault tells whether member i can work: its interface is up and has an
// address. A fault of one is a fault of all, at once.
func (s *Set) SetFault(i int, fault bool, now int64) {
	if s.members[i].fault == fault {
		return
	}
	s.members[i].fault = fault
	s.faultChanged(fault, CauseInterfaceDown, now)
}

// tryStartup is section 6.4.1.
func (s *Set) tryStartup(now int64) {
	if !s.started || s.state != Initialize {
		return
	}
	owner := true
	for i := range s.members {
		if s.members[i].fault || s.members[i].unwell {
			return
		}
		owner = owner && s.members[i].cfg.Priority == PriorityOwner
	}
	for i := range s.members {
		s.members[i].startup(now)
	}
	if owner && s.allowed && !s.aside {
		s.promote(CauseOwner, 0, now)
		return
	}
	s.enter(Backup, now)
}

// Shutdown ends the election: section 6.4.2 and 6.4.3, Shutdown.
func (s *Set) Shutdown(now int64) {
	s.started = false
	switch s.state {
	case Active:
		s.leave(CauseShutdown, Initialize, now)
	case Backup:
		s.enter(Initialize, now)
	}
}

// TakeOver makes a Backup Active at once; the Active gave the role up beside
// the adverts. It is false in any other state. An advert of the former
// Active that is still on its way does not count for one interval.
func (s *Set) TakeOver(now int64) bool {
	if s.state != Backup || s.aside {
		return false
	}
	s.guard = now + s.members[0].cfg.Interval
	s.promote(CauseHandedOver, 0, now)
	return true
}

// HandOver makes an Active a Backup that gives the peer a full
// Active_Down_Interval. No priority 0: the peer already knows. It is false
// in any other state.
func (s *Set) HandOver(now int64) bool {
	if s.state != Active {
		return false
	}
	s.leave(CauseHandedOver, Backup, now)
	return true
}

// Refuse takes a promotion back that the caller could not carry out.
func (s *Set) Refuse(now int64) {
	if s.state == Active {
		s.leave(CauseRefused, Backup, now)
		s.hold = now + holdRefused
	}
}

// AllowPreempt permits or forbids preemption.
func (s *Set) AllowPreempt(allow bool) { s.allowed = allow }

// Wake is called with the time of each awakening, before anything received
// meanwhile is handed in. An Active that slept past its peers'
// Active_Down_Interval listens before it speaks.
func (s *Set) Wake(now int64) { s.wake(now, now) }

// Resumed is Wake after a suspend of the machine that lasted asleep ns, which
// now, the deadlines and the times of adverts do not count: CLOCK_MONOTONIC stood
// still. A Backup, which missed what was sent meanwhile, gives the Active one
// interval at least.
func (s *Set) Resumed(asleep, now int64) {
	if s.state == Backup {
		for i := range s.members {
			if in := &s.members[i]; in.down != 0 {
				in.down = max(in.down, now+in.activeInterval)
			}
		}
	}
	s.wake(now+asleep, now)
}

// wake: awake is now, or what it would be had the clock not stood still.
func (s *Set) wake(awake, now int64) {
	if s.state != Active || s.listen != 0 {
		return
	}
	for i := range s.members {
		if s.members[i].overslept(awake) {
			s.startListening(now)
			return
		}
	}
}

// Sure is until when an Active may act on its role without another turn here: past
// it Wake has it listen. 0: it is not Active, or listens.
func (s *Set) Sure() (until int64) {
	if s.state != Active || s.listen != 0 {
		return 0
	}
	for i := range s.members {
		if in := &s.members[i]; in.adver != 0 && (until == 0 || in.patience() < until) {
			until = in.patience()
		}
	}
	return until
}

func (s *Set) startListening(now int64) {
	for i := range s.members {
		in := &s.members[i]
		in.count.Oversleeps++
		in.adver = 0
		in.activeInterval = in.cfg.Interval
		s.listen = max(s.listen, now+in.activeDown())
		s.sentBefore = max(s.sentBefore, in.sent)
	}
}

// RefusePeer counts an advert for member i that came by a way, or from a sender,
// that its caller does not allow.
func (s *Set) RefusePeer(i int) { s.members[i].count.PeerErrors++ }

// Receive takes an advert for member i that passed Peek. at is when the
// kernel saw it. The result says which check it failed.
func (s *Set) Receive(i int, pdu []byte, m Meta, at, now int64) Drop {
	in := &s.members[i]
	var a Advert
	if d := Decode(pdu, m, &in.cfg, &a); d != DropNone {
		in.count.drop(d)
		return d
	}
	in.note(&a, m.Src, at)
	switch s.state {
	case Backup:
		s.second.end(s)
		// Without permission a lower Active is followed all the same. Not so one
		// that comes while another is followed: after that one's silence it would
		// keep the role from us for ever. A hand-over between others is vouched for.
		in.heardInBackup(&a, at, !s.aside && (s.allowed || s.second.disowns(in, at)))
		s.settle(now)
	case Active:
		s.receiveActive(i, &a, m.Src, at, now)
	}
	return DropNone
}

func (s *Set) receiveActive(i int, a *Advert, src netip.Addr, at, now int64) {
	in := &s.members[i]
	if s.listen != 0 {
		if a.Priority > 0 && at > s.sentBefore {
			s.leaveTo(i, a, CauseOverslept, at, now)
		}
		return
	}
	switch in.heardInActive(a, src, at) {
	case verdictLost:
		if at < s.guard {
			return
		}
		s.leaveTo(i, a, CauseHigherPriority, at, now)
	case verdictGone:
		s.send(i, in.cfg.Priority, 0, now)
		in.adver = now + in.cfg.Interval
	case verdictRival:
		s.answerRival(i, src, now)
	}
}

// answerRival sends an advert at once (section 6.4.3; the timer stays), but
// not more than four per interval: a flood must not make us one. Version 2
// discards the losing advert (RFC 3768 section 6.4.3). One losing advert may
// have crossed ours on the wire, two are a conflict.
func (s *Set) answerRival(i int, src netip.Addr, now int64) {
	in := &s.members[i]
	if in.cfg.Version == 3 && (in.replied == 0 || now-in.replied >= in.cfg.Interval/4) {
		in.replied = now
		s.send(i, in.cfg.Priority, 0, now)
	}
	if in.rivals >= 2 && s.rival == 0 {
		s.rival = i + 1
		s.out = append(s.out, Action{Kind: ActConflict, Member: i, On: true, Peer: src})
	}
	if s.announced == 0 || now-s.announced >= announceEvery {
		s.announced = now
		s.out = append(s.out, Action{Kind: ActAnnounce, Member: i, Peer: src})
	}
}

// Tick runs the timers. drained says that nothing received before now is
// still unread: only then is silence believed.
func (s *Set) Tick(now int64, drained bool) {
	switch s.state {
	case Active:
		s.tickActive(now)
	case Backup:
		if !drained {
			return
		}
		for i := range s.members {
			s.members[i].tickBackup(now)
		}
		s.settle(now)
	}
}

func (s *Set) tickActive(now int64) {
	if s.second.doubted && !s.second.fresh(s, now) {
		s.second.end(s)
	}
	if s.listen != 0 {
		if now >= s.listen {
			s.stopListening(now)
		}
		return
	}
	for i := range s.members {
		in := &s.members[i]
		if due := in.tickActive(now); due != 0 {
			s.send(i, in.cfg.Priority, due, now)
		}
		if in.rivalUntil != 0 && now >= in.rivalUntil {
			in.rivals, in.rivalUntil = 0, 0
			s.endConflict(i)
		}
	}
}

// stopListening: nobody took over, so the role was never lost.
func (s *Set) stopListening(now int64) {
	s.listen, s.sentBefore = 0, 0
	for i := range s.members {
		in := &s.members[i]
		s.send(i, in.cfg.Priority, 0, now)
		in.adver = now + in.cfg.Interval
	}
	s.announced = now
	s.out = append(s.out, Action{Kind: ActAnnounce})
}

// settle is the one decision of a Backup set: it takes over when every member
// has timed out. Members that wait for others are watched.
func (s *Set) settle(now int64) {
	var last, heard int64
	expired, wants, zero := 0, true, false
	for i := range s.members {
		in := &s.members[i]
		wants = wants && (in.outrank || in.expired != 0)
		if in.expired != 0 {
			expired++
			last = max(last, in.expired)
			zero = zero || in.zero
		}
		heard = max(heard, in.heard)
	}
	if expired == len(s.members) {
		s.takeRole(last, heard, zero, now)
		return
	}
	s.tellWants(wants && !s.aside)
	s.watchSilent(expired, now)
}

func (s *Set) takeRole(due, heard int64, zero bool, now int64) {
	if s.aside {
		s.rearm(now)
		return
	}
	if now < s.hold {
		for i := range s.members {
			s.members[i].expired, s.members[i].down = 0, s.hold
		}
		return
	}
	if !zero && s.second.waits(s, now) {
		return
	}
	cause, silence := CauseTimeout, int64(0)
	if zero {
		cause = CausePriorityZero
	}
	if heard != 0 {
		silence = now - heard
	}
	s.promote(cause, silence, now)
	s.out[len(s.out)-1].Due = due
}

func (s *Set) tellWants(wants bool) {
	if s.wants != wants {
		s.wants = wants
		s.out = append(s.out, Action{Kind: ActWouldPreempt, On: wants})
	}
}

func (s *Set) watchSilent(expired int, now int64) {
	if s.quiet != 0 && !s.members[s.quiet-1].silent(now) {
		s.endSilent()
	}
	if expired == 0 || s.quiet != 0 {
		return
	}
	for i := range s.members {
		if s.members[i].silent(now) {
			s.quiet = i + 1
			s.out = append(s.out, Action{Kind: ActSilent, Member: i, On: true})
			return
		}
	}
}

func (s *Set) endSilent() {
	if s.quiet != 0 {
		s.out = append(s.out, Action{Kind: ActSilent, Member: s.quiet - 1})
		s.quiet = 0
	}
}

func (s *Set) endConflict(i int) {
	if s.rival == i+1 {
		s.out = append(s.out, Action{Kind: ActConflict, Member: i})
		s.rival = 0
	}
}

// NextDeadline is when Tick must run next, 0: not before an event.
func (s *Set) NextDeadline() int64 {
	if s.state == Initialize {
		return 0
	}
	if s.listen != 0 {
		return s.listen
	}
	var next int64
	earliest := func(t int64) {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	for i := range s.members {
		in := &s.members[i]
		earliest(in.adver)
		earliest(in.down)
		earliest(in.delay)
		if s.state == Active {
			earliest(in.rivalUntil)
		}
		if in.expired != 0 && s.quiet == 0 {
			earliest(max(in.silentAt(), in.heard+in.activeDown()))
		}
	}
	return next
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import "golang.org/x/sys/unix"

// This file is what the daemon says to the election thread.

// readSocket reads the daemon's messages; its end is ours. What is left wakes the
// next turn.
func (l *loop) readSocket() {
	for range mailLimit {
		n, err := unix.Read(l.sock, l.inbox)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil || n == 0:
			l.abandon()
			return
		}
		var m message
		if m.parse(l.inbox[:n]) == nil {
			l.obey(&m)
		}
	}
}

func (l *loop) obey(m *message) {
	switch m.Type {
	case msgGroup:
		l.admit(m)
	case msgTrack:
		l.track(m)
	case msgBegin:
		l.begin(m)
	case msgGo:
		l.order(order{kind: orderGo})
	case msgChange:
		l.reconfigure(m)
	case msgAllow:
		l.allowed = m.Flags&flagOn != 0
		l.each(func(s *set) { s.AllowPreempt(l.allowed) })
	case msgAside:
		l.aside = m.Flags&flagOn != 0
		l.each(func(s *set) { s.SetAside(l.aside, l.now); s.dirty = true })
	case msgStop:
		l.stop()
	default:
		if s := l.set(m.Set); s != nil {
			l.obeyFor(s, m)
			l.perform(s)
		}
	}
}

// obeyFor is what concerns one set.
func (l *loop) obeyFor(s *set, m *message) {
	switch m.Type {
	case msgFenced:
		l.do(s, s.gate.fenced(m.Term))
	case msgReleased:
		l.do(s, s.gate.released(m.Term))
	case msgTakeOver:
		l.takeOver(s, m)
	case msgHandOver:
		l.refuseUnless(s.HandOver(l.now), m)
	case msgAnnounce:
		l.announce(s)
	case msgEnd:
		l.end(s)
	}
}

// takeOver is a promotion whose fence stands before it.
func (l *loop) takeOver(s *set, m *message) {
	l.refuseUnless(s.TakeOver(l.now), m)
	l.perform(s)
	if l.now < m.Value {
		l.do(s, s.gate.fenced(s.gate.term))
	}
}

// reconfigure takes over what may change of a group while it runs: all but what
// it is (interface, VRID, version) and its priority, which is the daemon's to say
// (msgTrack).
func (l *loop) reconfigure(m *message) {
	var to group
	g := l.member(m.Group)
	if g == nil || g.set == nil || to.parse(m.Tail) != nil {
		return
	}
	to.Interface, to.VRID, to.Version, to.Priority = g.cfg.Interface, g.cfg.VRID, g.cfg.Version, g.cfg.Priority
	g.cfg = to
	g.set.SetSource(g.at, g.source())
	g.set.Reconfigure(g.at, machineConfig(&g.cfg), l.now)
	l.order(order{kind: orderGroup, set: g.set.slot, seats: []seat{g.seat()}})
	l.faultChanged(g)
}

func (l *loop) refuseUnless(ok bool, m *message) {
	if !ok {
		l.tell(message{Type: msgRefused, Set: m.Set, Kind: uint8(m.Type), At: l.now})
	}
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/vrrp"
)

// perform carries out what a set asked for.
func (l *loop) perform(s *set) {
	for _, a := range s.Actions() {
		m := message{Set: s.slot, Group: s.members[a.Member].slot, At: l.now, Flags: bit(a.On)}
		switch a.Kind {
		case vrrp.ActSend:
			l.send(s, a)
		case vrrp.ActPromote:
			l.promote(s, a)
		case vrrp.ActDemote:
			m.Cause = uint8(a.Cause)
			l.demote(s, m)
		case vrrp.ActAnnounce:
			if a.Peer.IsValid() { // the daemon says when
				m.Type, m.Peer = msgRival, a.Peer
				l.tell(m)
				continue
			}
			l.announce(s)
		case vrrp.ActChanged:
			m.Type, m.Kind = msgChanged, uint8(a.From)<<4|uint8(a.To)
			m.Group, m.Value = s.waitsFor()
			l.tell(m)
		case vrrp.ActWouldPreempt:
			m.Type = msgWouldPreempt
			l.tell(m)
		case vrrp.ActSilent:
			m.Type, m.Kind = msgAlarm, uint8(AlarmSilent)
			l.tell(m)
		case vrrp.ActDoubt:
			m.Type, m.Kind = msgAlarm, uint8(AlarmDoubt)
			l.tell(m)
		case vrrp.ActConflict:
			m.Type, m.Kind, m.Peer = msgAlarm, uint8(AlarmConflict), a.Peer
			l.tell(m)
		}
		s.dirty = true
	}
	if until := s.Sure(); until != s.sure.Load() {
		s.sure.Store(until)
	}
}

// promote tells the daemon; the addresses wait for its word.
func (l *loop) promote(s *set, a vrrp.Action) {
	if a.Due != 0 {
		observe(l.shm.decided(), l.clock.now()-a.Due)
	}
	s.gate.promote(l.now)
	l.tell(message{Type: msgPromoting, Set: s.slot, Term: s.gate.term, Cause: uint8(a.Cause), Value: a.Silence, At: l.now})
}

func (l *loop) demote(s *set, m message) {
	s.raised = false // the next role's first advert goes out before it is told
	s.given = vrrp.Cause(m.Cause) == vrrp.CauseHandedOver
	if s.gate.present {
		l.order(order{kind: orderHush, set: s.slot})
	}
	do := s.gate.demote(l.now)
	m.Type, m.Term, m.Group = msgDemoting, s.gate.term, 0
	l.tell(m)
	l.do(s, do&^doTellDemoting)
	if l.orphan {
		l.do(s, s.gate.abandon())
	}
}

// do carries out what a gate asked for.
func (l *loop) do(s *set, do gateDo) {
	if do == 0 {
		return
	}
	o := order{set: s.slot, term: s.gate.term, linger: s.given}
	m := message{Set: s.slot, Term: s.gate.term, At: l.now}
	if do&doInstall != 0 {
		o.kind = orderInstall
		l.order(o)
	}
	if do&doRemove != 0 {
		o.kind = orderRemove
		l.order(o)
	}
	if do&doTellIn != 0 {
		m.Type = msgAddressesIn
		l.tell(m)
	}
	if do&doTellOut != 0 {
		m.Type = msgAddressesOut
		l.tell(m)
	}
	s.dirty = true
	if do&doRefuse != 0 {
		s.Refuse(l.now)
		l.perform(s)
	}
}

// send puts one advert on the wire.
func (l *loop) send(s *set, a vrrp.Action) {
	g := s.members[a.Member]
	src := g.source()
	st := s.Status(a.Member)
	if !src.IsValid() || g.port.index == 0 {
		st.Counters.SendErrors++
		return
	}
	sum := s.Advert(a.Member, a.Priority, &l.advert)
	err := l.transmit(g, src, sum)
	l.noteSend(g, err)
	if err != nil {
		st.Counters.SendErrors++
		return
	}
	if a.Due != 0 {
		observe(l.shm.sent(), l.clock.now()-a.Due)
	}
}

// noteSend tells when a port begins, or ends, to refuse adverts.
func (l *loop) noteSend(g *member, err error) {
	errno, _ := err.(unix.Errno)
	if errno == g.port.refused {
		return
	}
	g.port.refused = errno
	l.tell(message{Type: msgAlarm, Set: g.set.slot, Group: g.slot, Kind: uint8(AlarmSend),
		Value: int64(errno), Flags: bit(errno != 0), At: l.now})
}

// source is the group's source address: the configured one, or the
// interface's primary address.
func (g *member) source() netip.Addr {
	if src := g.cfg.Source; src.IsValid() {
		return src
	}
	return g.port.addr
}

// waitsFor names the first member that is in fault, and why.
func (s *set) waitsFor() (group uint16, why int64) {
	for _, g := range s.members {
		if r := g.fault(); r != reasonNone {
			return g.slot, int64(r)
		}
	}
	return s.members[0].slot, int64(reasonStopped)
}

// fault is why a group cannot have the role.
func (g *member) fault() reason {
	r := g.portFault()
	if r == reasonNone && g.tracked.fault {
		return reasonTracked
	}
	return r
}

// portFault is why a group cannot work.
func (g *member) portFault() reason {
	p := g.port
	switch {
	case p.reason == reasonNone,
		p.reason == reasonDown && g.tracked.loose,
		p.reason.ofAddress() && g.cfg.Source.IsValid():
		if g.noMAC {
			return reasonNoDevice
		}
		return reasonNone
	}
	return p.reason
}

// tell writes to the daemon without waiting.
func (l *loop) tell(m message) {
	if l.orphan {
		return
	}
	l.out = m.append(l.out[:0])
	if _, err := unix.Write(l.sock, l.out); err != nil {
		l.shm.unsent().Add(1)
	}
}

// order hands work to the stage.
func (l *loop) order(o order) { l.stage.order(o) }

// announce orders the addresses to be announced again, if they are in.
func (l *loop) announce(s *set) {
	if s.gate.present {
		l.order(order{kind: orderAnnounce, set: s.slot, term: s.gate.term})
	}
}

// readReports reads what the stage did and saw.
func (l *loop) readReports() {
	for {
		select {
		case r := <-l.stage.reports:
			l.heed(&r)
		default:
			return
		}
	}
}

func (l *loop) heed(r *report) {
	switch r.kind {
	case reportPort:
		l.changePort(r)
		return
	case reportReady:
		l.ready = true
		l.startAt = l.now + l.hello.StartupDelay
		l.tell(message{Type: msgReady, At: l.now, Flags: bit(l.ring != nil), Tail: []byte(l.limits)})
		return
	}
	s := l.set(r.set)
	if s == nil {
		return
	}
	switch r.kind {
	case reportInstalled:
		s.raised = s.raised || r.term == s.gate.term
		l.do(s, s.gate.installed(r.term))
	case reportRemoved:
		l.do(s, s.gate.removed(r.term))
	case reportMAC:
		if g := l.member(r.group); g != nil {
			g.noMAC = !r.on
			l.faultChanged(g)
		}
	case reportAddress:
		l.tell(message{Type: msgAlarm, Set: r.set, Group: r.group, Kind: uint8(AlarmAddress),
			Term: uint32(r.port), Value: int64(r.errno), Flags: bit(r.on), At: l.now})
	case reportEnded:
		l.forget(s)
	}
}

// changePort takes a port's new state over; the groups on it follow at once.
func (l *loop) changePort(r *report) {
	p := l.port(r.port)
	if p == nil {
		return
	}
	if r.rx != p.rx {
		if p.rx >= 0 {
			unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, p.rx, nil)
			// Leaving a multicast group takes the rtnl lock: not on this thread.
			l.order(order{kind: orderClose, fd: p.rx})
		}
		p.rx, p.seen = r.rx, 0
		if p.rx >= 0 && l.listen(p.rx, readyPort, int(r.port)) != nil {
			p.reason = reasonMissing
		}
	}
	p.reason, p.addr, p.index = r.reason, r.addr, r.index
	p.to = destination(r.index, p.v6)
	for _, g := range p.members {
		if g.set != nil {
			g.set.SetSource(g.at, g.source())
			l.faultChanged(g)
		}
	}
}

// faultChanged tells the set of group g what has become of its fault.
func (l *loop) faultChanged(g *member) {
	g.set.SetFault(g.at, g.portFault() != reasonNone, l.now)
	g.set.dirty = true
	l.perform(g.set)
}

// publish writes the state of every set that changed.
func (l *loop) publish() {
	for _, s := range l.sets {
		if !s.dirty {
			continue
		}
		s.dirty = false
		for _, g := range s.members {
			l.publishGroup(g)
		}
	}
	for _, p := range l.ports {
		l.shm.publishInterface(int(p.slot), &p.count)
	}
}

func (l *loop) publishGroup(g *member) {
	st := g.set.Status(g.at)
	c := groupCell{
		state: st.State, priority: st.Priority, activePriority: st.ActivePriority,
		active: st.Active, activeInterval: st.ActiveInterval, since: st.Since, counters: st.Counters,
		checksum: st.Checksum, peerChecksum: st.PeerChecksum,
		flags: st8(st.WouldPreempt, cellWouldPreempt) | st8(st.Conflict, cellConflict) |
			st8(g.set.gate.state == gateIn, cellAddressesIn),
	}
	if st.State == vrrp.Initialize {
		c.reason = l.initializeReason(g)
	}
	l.shm.publish(int(g.slot), &c)
}

func (l *loop) initializeReason(g *member) reason {
	if r := g.fault(); r != reasonNone {
		return r
	}
	switch {
	case l.stopping != 0, g.set.ending:
		return reasonStopped
	case !l.started:
		return reasonStarting
	}
	return reasonOther
}

func st8(v bool, flag uint8) uint8 {
	if v {
		return flag
	}
	return 0
}

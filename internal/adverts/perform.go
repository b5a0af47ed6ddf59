// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/vrrp"
)

// perform carries out what set i asked for.
func (l *loop) perform(i int) {
	s := &l.sets[i]
	for _, a := range s.Actions() {
		m := message{Set: uint16(i), Group: uint16(s.groups[a.Member]), At: l.now, Flags: bit(a.On)}
		switch a.Kind {
		case vrrp.ActSend:
			l.send(i, a)
		case vrrp.ActPromote:
			l.promote(i, a)
		case vrrp.ActDemote:
			m.Cause = uint8(a.Cause)
			l.demote(i, m)
		case vrrp.ActAnnounce:
			if a.Peer.IsValid() { // the daemon says when
				m.Type, m.Peer = msgRival, a.Peer
				l.tell(m)
				continue
			}
			l.announce(i)
		case vrrp.ActChanged:
			m.Type, m.Kind = msgChanged, uint8(a.From)<<4|uint8(a.To)
			m.Group, m.Value = l.waitsFor(i)
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
}

// promote tells the daemon; the addresses wait for its word.
func (l *loop) promote(i int, a vrrp.Action) {
	if a.Due != 0 {
		observe(l.shm.decided(), l.clock.now()-a.Due)
	}
	g := &l.sets[i].gate
	g.promote(l.now)
	l.tell(message{Type: msgPromoting, Set: uint16(i), Term: g.term, Cause: uint8(a.Cause), Value: a.Silence, At: l.now})
}

func (l *loop) demote(i int, m message) {
	g := &l.sets[i].gate
	l.sets[i].raised = false // the next role's first advert goes out before it is told
	l.sets[i].given = vrrp.Cause(m.Cause) == vrrp.CauseHandedOver
	if g.present {
		l.order(order{kind: orderHush, set: uint16(i)})
	}
	do := g.demote(l.now)
	m.Type, m.Term, m.Group = msgDemoting, g.term, 0
	l.tell(m)
	l.do(i, do&^doTellDemoting)
	if l.orphan {
		l.do(i, g.abandon())
	}
}

// do carries out what a gate asked for.
func (l *loop) do(i int, do gateDo) {
	if do == 0 {
		return
	}
	s := &l.sets[i]
	o := order{set: uint16(i), term: s.gate.term, linger: s.given}
	m := message{Set: uint16(i), Term: s.gate.term, At: l.now}
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
		l.perform(i)
	}
}

// send puts one advert on the wire.
func (l *loop) send(i int, a vrrp.Action) {
	s := &l.sets[i]
	g := s.groups[a.Member]
	p := &l.ports[l.portOf[g]]
	src := l.source(g, p)
	st := s.Status(a.Member)
	if !src.IsValid() || p.index == 0 {
		st.Counters.SendErrors++
		return
	}
	sum := s.Advert(a.Member, a.Priority, &l.advert)
	err := l.transmit(g, p, src, sum)
	l.noteSend(i, g, p, err)
	if err != nil {
		st.Counters.SendErrors++
		return
	}
	if a.Due != 0 {
		observe(l.shm.sent(), l.clock.now()-a.Due)
	}
}

// noteSend tells when a port begins, or ends, to refuse adverts.
func (l *loop) noteSend(i, g int, p *port, err error) {
	errno, _ := err.(unix.Errno)
	if errno == p.refused {
		return
	}
	p.refused = errno
	l.tell(message{Type: msgAlarm, Set: uint16(i), Group: uint16(g), Kind: uint8(AlarmSend),
		Value: int64(errno), Flags: bit(errno != 0), At: l.now})
}

// source is the group's source address: the configured one, or the
// interface's primary address.
func (l *loop) source(g int, p *port) netip.Addr {
	if src := l.setup.groups[g].Source; src.IsValid() {
		return src
	}
	return p.addr
}

// waitsFor names the first member of set i that is in fault, and why.
func (l *loop) waitsFor(i int) (group uint16, why int64) {
	for _, g := range l.sets[i].groups {
		if r := l.fault(g); r != reasonNone {
			return uint16(g), int64(r)
		}
	}
	return uint16(l.sets[i].groups[0]), int64(reasonStopped)
}

// fault is why group g cannot have the role.
func (l *loop) fault(g int) reason {
	r := l.portFault(g)
	if r == reasonNone && l.tracked[g].fault {
		return reasonTracked
	}
	return r
}

// portFault is why group g cannot work.
func (l *loop) portFault(g int) reason {
	p := &l.ports[l.portOf[g]]
	switch {
	case p.reason == reasonNone,
		p.reason == reasonDown && l.tracked[g].loose,
		p.reason.ofAddress() && l.setup.groups[g].Source.IsValid():
		return l.deviceFault(g)
	}
	return p.reason
}

func (l *loop) deviceFault(g int) reason {
	if l.noMAC[g] {
		return reasonNoDevice
	}
	return reasonNone
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

// readSocket reads the daemon's messages; its end is ours.
func (l *loop) readSocket() {
	for {
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
		if m.parse(l.inbox[:n]) == nil && int(m.Set) < len(l.sets) {
			l.obey(&m)
		}
	}
}

func (l *loop) obey(m *message) {
	i := int(m.Set)
	s := &l.sets[i]
	switch m.Type {
	case msgFenced:
		l.do(i, s.gate.fenced(m.Term))
	case msgReleased:
		l.do(i, s.gate.released(m.Term))
	case msgTakeOver:
		l.refuseUnless(s.TakeOver(l.now), m)
	case msgHandOver:
		l.refuseUnless(s.HandOver(l.now), m)
	case msgAnnounce:
		l.announce(i)
	case msgAllow:
		for j := range l.sets {
			l.sets[j].AllowPreempt(m.Flags&flagOn != 0)
		}
	case msgTrack:
		l.track(m)
	case msgGroup:
		l.reconfigure(m)
	case msgAside:
		l.each(func(s *set) { s.SetAside(m.Flags&flagOn != 0, l.now); s.dirty = true })
	case msgStop:
		l.stop()
	}
	l.perform(i)
}

// reconfigure takes over what may change of a group while it runs. Its priority
// is the daemon's to say: msgTrack.
func (l *loop) reconfigure(m *message) {
	var to group
	i := int(m.Group)
	if i >= len(l.setup.groups) || to.parse(m.Tail) != nil {
		return
	}
	g := &l.setup.groups[i]
	g.Preempt, g.PreemptDelay, g.Addresses = to.Preempt, to.PreemptDelay, to.Addresses
	g.Place.Excluded, g.Place.Timing = to.Place.Excluded, to.Place.Timing
	set := l.setup.setOf[i]
	s := &l.sets[set]
	s.Reconfigure(s.member(i), machineConfig(g))
	to = *g // the stage's own
	l.order(order{kind: orderGroup, set: set, group: m.Group, to: &to})
}

// announce orders the addresses to be announced again, if they are in.
func (l *loop) announce(i int) {
	if g := &l.sets[i].gate; g.present {
		l.order(order{kind: orderAnnounce, set: uint16(i), term: g.term})
	}
}

func (l *loop) refuseUnless(ok bool, m *message) {
	if !ok {
		l.tell(message{Type: msgRefused, Set: m.Set, Kind: uint8(m.Type), At: l.now})
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
	i := int(r.set)
	switch r.kind {
	case reportInstalled:
		l.sets[i].raised = l.sets[i].raised || r.term == l.sets[i].gate.term
		l.do(i, l.sets[i].gate.installed(r.term))
	case reportRemoved:
		l.do(i, l.sets[i].gate.removed(r.term))
	case reportPort:
		l.changePort(r)
	case reportMAC:
		l.noMAC[r.group] = !r.on
		l.faultChanged(int(r.group))
	case reportReady:
		l.ready = true
		l.startAt = l.now + l.setup.StartupDelay
		l.tell(message{Type: msgReady, At: l.now, Flags: bit(l.ring != nil), Tail: []byte(l.limits)})
	case reportAddress:
		l.tell(message{Type: msgAlarm, Set: r.set, Group: r.group, Kind: uint8(AlarmAddress),
			Term: uint32(r.port), Value: int64(r.errno), Flags: bit(r.on), At: l.now})
	}
}

// changePort takes a port's new state over; the groups on it follow at once.
func (l *loop) changePort(r *report) {
	p := &l.ports[r.port]
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
	for g := range l.setup.groups {
		if l.portOf[g] != int(r.port) {
			continue
		}
		s := &l.sets[l.setup.setOf[g]]
		s.SetSource(s.member(g), l.source(g, p))
		l.faultChanged(g)
	}
}

// faultChanged tells the set of group g what has become of its fault.
func (l *loop) faultChanged(g int) {
	i := int(l.setup.setOf[g])
	s := &l.sets[i]
	s.SetFault(s.member(g), l.portFault(g) != reasonNone, l.now)
	s.dirty = true
	l.perform(i)
}

// publish writes the state of every set that changed.
func (l *loop) publish() {
	for i := range l.sets {
		s := &l.sets[i]
		if !s.dirty {
			continue
		}
		s.dirty = false
		for m, g := range s.groups {
			l.publishGroup(s, m, g)
		}
	}
	for i := range l.ports {
		l.shm.publishInterface(i, &l.ports[i].count)
	}
}

func (l *loop) publishGroup(s *set, m, g int) {
	st := s.Status(m)
	c := groupCell{
		state: st.State, priority: st.Priority, activePriority: st.ActivePriority,
		active: st.Active, activeInterval: st.ActiveInterval, since: st.Since, counters: st.Counters,
		checksum: st.Checksum, peerChecksum: st.PeerChecksum,
		flags: st8(st.WouldPreempt, cellWouldPreempt) | st8(st.Conflict, cellConflict) |
			st8(s.gate.state == gateIn, cellAddressesIn),
	}
	if st.State == vrrp.Initialize {
		c.reason = l.initializeReason(s, g)
	}
	l.shm.publish(g, &c)
}

func (l *loop) initializeReason(s *set, g int) reason {
	if r := l.fault(g); r != reasonNone {
		return r
	}
	switch {
	case l.stopping != 0:
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

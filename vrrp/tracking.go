// SPDX-License-Identifier: Apache-2.0

package vrrp

// What a set's caller knows beside the adverts. None of it is in RFC 9568; the
// machine answers with the RFC's own means: another priority, Initialize,
// priority 0.

// SetPriority changes the priority of member i: its next advert and its next
// timer have it. The owner's does not change, and nobody becomes one.
func (s *Set) SetPriority(i int, priority uint8) {
	in := &s.members[i]
	if in.cfg.Priority == PriorityOwner || priority == PriorityOwner || priority == 0 {
		return
	}
	in.cfg.Priority = priority
}

// Reconfigure gives member i another configuration while it runs. Version, VRID
// and priority stay; the state does, too.
func (s *Set) Reconfigure(i int, c Config, now int64) {
	in := &s.members[i]
	c.Version, c.VRID, c.Priority = in.cfg.Version, in.cfg.VRID, in.cfg.Priority
	former := in.cfg.Interval
	in.cfg = c
	if c.Interval != former {
		s.pace(i, former, now)
	}
}

// sayLonger is how often a longer interval is said at the former pace.
const sayLonger = 3

// pace puts another interval of member i in force. An Active says it at once,
// since its peers wait by the former one: a longer silence is announced before it
// begins, and more than once, so that a lost advert is not a lost role. A Backup of version 3 has the Active's interval from the wire; without
// that, as in version 2, it waits a full Active_Down_Interval of its own anew.
func (s *Set) pace(i int, former, now int64) {
	in := &s.members[i]
	if s.state == Backup && in.cfg.Version == 3 && in.followed.IsValid() {
		return
	}
	in.activeInterval = in.cfg.Interval
	switch {
	case s.state == Active && s.listen == 0:
		s.send(i, in.cfg.Priority, 0, now)
		if in.former, in.again = former, 0; former < in.cfg.Interval {
			in.again = sayLonger - 1
		}
		in.adver = now + in.step()
	case s.state == Backup && in.down != 0 && !in.zero:
		in.down = now + in.activeDown()
	}
}

// SetUnwell tells whether what member i tracks beside its interface has
// failed. It is a fault of all, as SetFault; but the member can still speak, so
// an Active releases the role there too.
func (s *Set) SetUnwell(i int, unwell bool, now int64) {
	if s.members[i].unwell == unwell {
		return
	}
	s.members[i].unwell = unwell
	s.faultChanged(unwell, CauseUnwell, now)
}

// faultChanged: a fault began, or one of perhaps several is over.
func (s *Set) faultChanged(fault bool, cause Cause, now int64) {
	switch {
	case !fault:
		s.tryStartup(now)
	case s.state == Active:
		s.leave(cause, Initialize, now)
	case s.state == Backup:
		s.enter(Initialize, now)
	}
}

// SetAside keeps the set from the role until it is called with false: an
// Active releases it with priority 0 and is a Backup, and a Backup does not take
// over, whoever falls silent.
func (s *Set) SetAside(aside bool, now int64) {
	s.aside = aside
	if !aside {
		return
	}
	if s.state == Active {
		s.leave(CauseMaintenance, Backup, now)
	}
	s.tellWants(false)
}

// rearm: the timers of a set that is aside run on, so that it is a Backup like
// any other when it comes back.
func (s *Set) rearm(now int64) {
	for i := range s.members {
		in := &s.members[i]
		in.expired, in.zero, in.down = 0, false, now+in.activeDown()
	}
}

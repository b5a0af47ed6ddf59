// SPDX-License-Identifier: Apache-2.0

package vrrp

// promote makes every member Active: adverts first, then the addresses.
func (s *Set) promote(cause Cause, silence, now int64) {
	for i := range s.members {
		in := &s.members[i]
		in.activate(now)
		s.send(i, in.cfg.Priority, 0, now)
	}
	s.enter(Active, now)
	s.out = append(s.out, Action{Kind: ActPromote, Cause: cause, Silence: silence})
}

// leave makes an Active set a Backup, or Initialize. Priority 0 goes out
// where members still work and nobody is known to have the role.
func (s *Set) leave(cause Cause, to State, now int64) {
	s.release(cause, -1, now)
	for i := range s.members {
		s.members[i].deactivate(now)
	}
	s.enter(to, now)
	s.out = append(s.out, Action{Kind: ActDemote, Cause: cause})
}

// leaveTo makes an Active set a Backup of the router that member i heard.
func (s *Set) leaveTo(i int, a *Advert, cause Cause, at, now int64) {
	peer := s.members[i].peer
	s.release(cause, i, now)
	for j := range s.members {
		s.members[j].deactivate(now)
	}
	in := &s.members[i]
	in.heard, in.peer, in.peerPriority = at, peer, a.Priority
	in.adopt(a, at)
	s.enter(Backup, now)
	s.out = append(s.out, Action{Kind: ActDemote, Cause: cause})
}

// release sends priority 0 on every working member but the one that heard
// the new Active. A hand-over and an overslept Active need none: the role
// is taken.
func (s *Set) release(cause Cause, except int, now int64) {
	if cause == CauseHandedOver || cause == CauseOverslept {
		return
	}
	for i := range s.members {
		if in := &s.members[i]; i != except && !in.fault {
			in.count.SentPriZeroPackets++
			s.send(i, 0, 0, now)
		}
	}
}

// enter changes the state and ends what belonged to the former one.
func (s *Set) enter(to State, now int64) {
	from := s.state
	s.state, s.since = to, now
	s.listen, s.sentBefore, s.announced = 0, 0, 0
	if to != Active {
		s.guard = 0
	}
	if s.rival != 0 {
		s.endConflict(s.rival - 1)
	}
	s.endSilent()
	if to != Active {
		s.second.end(s)
	}
	s.tellWants(false)
	if to == Initialize {
		for i := range s.members {
			s.members[i].reset()
		}
	}
	s.out = append(s.out, Action{Kind: ActChanged, From: from, To: to})
}

func (s *Set) send(i int, priority uint8, due, now int64) {
	in := &s.members[i]
	in.sent = now
	in.count.SentAdvertisements++
	s.out = append(s.out, Action{Kind: ActSend, Member: i, Priority: priority, Due: due})
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

// session is how two nodes agree on a pair of random values, so that no
// recorded datagram starts anything.
//
//	A draws a, says hello (a, 0).
//	B answers (b, a), b never used before: its spare.
//	A sees its own unused a: the one who says b lives. A is paired, says (a, b).
//	B sees its own unused b: the one who says a lives. B is paired, says (b, a).
//
// A value is unused until it is paired, and then never unused again. So a side
// that is paired leaves its pair only for one that answered a spare of its own;
// what was recorded of a former life names values that nobody holds.
type session struct {
	p          *Peer
	my, their  Session // the pair
	paired     bool
	confirmed  bool // the peer said that it is paired too: data count
	spare      Session
	hasSpare   bool
	due        int64   // when hello is to be said
	next       int64   // not before: hellos are few, whatever is asked
	answer     Session // whom to answer, if answering
	answering  bool
	renewUntil int64 // we asked for a new pair
	since      int64 // when we paired
}

func (s *session) init(p *Peer, now int64) {
	*s = session{p: p, due: now}
}

func (s *session) drawSpare() Session {
	if !s.hasSpare {
		copy(s.spare[:], s.p.n.random(len(s.spare)))
		s.hasSpare = true
	}
	return s.spare
}

// renew asks the peer for a new pair: it will send all it has again. At most
// once a second.
func (s *session) renew(now int64) {
	if s.paired && now >= s.renewUntil {
		s.renewUntil = now + 10*helloEvery
		s.ask(s.their, now)
	}
}

// ask answers the session x with our spare, soon.
func (s *session) ask(x Session, now int64) {
	s.answer, s.answering = x, true
	s.due = max(now, s.next)
}

// hello takes a hello whose header is h.
func (s *session) hello(h *header, m *hello, now int64) error {
	p := s.p
	switch {
	case h.receiver == Session{}:
		if !s.paired || h.sender != s.their {
			s.ask(h.sender, now)
		}
		return nil
	case s.hasSpare && h.receiver == s.spare:
		s.pair(h.sender, m, now)
	case s.paired && h.receiver == s.my && h.sender == s.their:
		// A recorded one is no sign of life, and its sequence must not stand
		// for another one that was never stored.
		if !p.in.fresh(h.seq) {
			return errReplayed
		}
	case s.paired && h.receiver == s.my: // it left our pair
		s.ask(h.sender, now)
		return nil
	default:
		return errSession
	}
	p.hello = *m
	p.in.mark(h.seq)
	if m.flags&helloPaired != 0 {
		s.confirm(now)
	}
	p.hear(now)
	return nil
}

// pair begins a session: everything is dirty for the peer, and what its view
// holds is of a former one.
func (s *session) pair(their Session, m *hello, now int64) {
	p := s.p
	if p.up {
		p.up = false
		p.n.event(Event{Kind: PeerDown, Peer: p, Why: "it began a new session"})
	}
	rebooted := p.known && (m.bootID != p.hello.bootID || m.netns != p.hello.netns)
	p.known = true
	s.my, s.their, s.paired, s.confirmed = s.spare, their, true, false
	s.hasSpare, s.answering = false, false
	s.due, s.since = now, now
	p.stats.Sessions++
	p.in = received{}
	p.ackDue, p.unacked = forever, 0
	p.theirV, p.gotV, p.stateDue = 0, 0, now
	p.repair.init()
	p.newPair()
	p.view.newSession(rebooted)
}

// confirm is called when the peer is known to hold the pair.
func (s *session) confirm(now int64) {
	if s.confirmed {
		return
	}
	s.confirmed = true
	s.p.out.join(now)
	if s.due != forever { // once more, now saying that we hold it
		s.due = now
	}
}

// strange is called for data of a pair that we do not hold: somebody believes
// to be paired with us.
func (s *session) strange(h *header, now int64) {
	if s.paired && h.receiver == s.my && h.sender != s.their {
		s.ask(h.sender, now)
	}
}

// header gives the header of the hello that is due, and when to say the next.
func (s *session) header(now int64, h *header) (flags uint8) {
	h.kind = typeHello
	s.next = now + answerEvery
	if s.paired && !s.confirmed && now-s.since > 10*helloEvery {
		s.paired = false // the peer's half of this pair is gone
	}
	switch {
	case s.answering:
		h.sender, h.receiver = s.drawSpare(), s.answer
		s.answering = false
		s.due = forever
		if !s.confirmed {
			s.due = now + pairEvery
		}
	case s.paired:
		h.sender, h.receiver = s.my, s.their
		flags = helloPaired
		s.due = now + pairEvery
		if s.confirmed {
			s.due = forever
		}
	default:
		h.sender, h.receiver = s.drawSpare(), Session{}
		s.due = now + helloEvery
	}
	return flags
}

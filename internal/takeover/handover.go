// SPDX-License-Identifier: Apache-2.0

package takeover

import "time"

// handOver is one planned change of roles, seen from either side. Both sides
// publish their phase as a level (State); nothing here is a message that could
// be lost. A side that hears nothing for Timing.HandOver gives up, and the
// election's own timers remain as the safety net.
type handOver struct {
	phase    Phase
	epoch    uint32
	peer     PeerID
	deadline int64 // 0: none
	rushing  bool  // taker: the commit of everything is under way
	failed   bool  // a stopping giver found no taker
	retryAt  int64
	planned  bool  // an operator's switchover
	force    bool  // of which flows may be lost
	forceAt  int64 // giver: when it no longer waits for acknowledgements
	drainBy  int64 // giver that stops: until when it waits for them
}

// moreToCome says whether a taker still expects flows that were born at the
// giver while addresses changed hands; the fence waits for them.
func (h *handOver) moreToCome(now int64) bool {
	return (h.phase == PhaseCommitted || h.phase == PhaseTaken) && now < h.deadline
}

func (m *Machine) settleHandOver(now int64) {
	if m.external {
		return
	}
	h := &m.hand
	if now >= h.retryAt {
		h.retryAt = 0
	}
	m.wait(now)
	if h.phase != PhaseNone {
		p := m.peers[h.peer]
		leftIt := h.phase == PhaseDrained && p != nil && p.state.Role != RoleNone && p.state.Epoch != h.epoch // the taker gave up
		unable := m.fault && m.stage == stageBackup && (h.phase == PhaseWant || h.phase == PhaseCommitted)
		silent := p == nil || !p.up && !m.patient()
		if silent || leftIt || unable || now >= h.deadline && h.deadline != 0 {
			m.endHandOver(now)
		}
	}
	switch {
	case m.stage == stageBackup && h.phase != PhaseGo && h.phase != PhaseDone:
		m.take(now)
	case m.Active() && (h.phase == PhaseCommitted || h.phase == PhaseTaken):
		m.taken(now)
	default:
		m.give(now)
	}
}

// patient says whether a peer may be silent for a moment: two routers that tell
// and write a million flows have little time for each other. The giver forwards,
// so nothing is lost by it; but an operator gets an answer.
func (m *Machine) patient() bool {
	return (m.hand.phase == PhaseWant || m.hand.phase == PhaseDrained) && !m.wish.swap
}

// moment is how long a stopping giver waits for a peer that fell silent before it
// took up the offer: most often it has stopped, too.
const moment = time.Second

// peerDown: what is under way with that peer waits a little, if it waits at all.
func (m *Machine) peerDown(now int64, id PeerID) {
	m.peer(id).silent()
	m.peer(id).lost = now
	if h := &m.hand; h.phase != PhaseNone && h.peer == id && h.deadline != 0 {
		h.deadline = min(h.deadline, now+int64(m.timing.HandOver))
	}
}

// wait puts the end of a phase off where the other side gets on: a million
// flows take seconds, to be told as to be written. Who is Active forwards
// meanwhile, so that waiting costs nothing; but an operator gets an answer.
func (m *Machine) wait(now int64) {
	h, more := &m.hand, now+int64(m.timing.HandOver)
	switch {
	case h.phase == PhaseDrained && m.says(PhaseWant):
		h.deadline = more // it commits, and says so
	case h.phase == PhaseOffer && m.wanted():
		h.deadline = max(h.deadline, min(more, h.drainBy))
	case h.phase == PhaseWant && m.peers[h.peer].state.Phase == PhaseOffer && !m.peers[h.peer].state.Switchover:
		h.deadline = more // it stops, and waits until we have its flows
	}
}

// wanted says whether a peer wants the role.
func (m *Machine) wanted() bool {
	for _, p := range m.peers {
		if p.up && p.state.Phase == PhaseWant {
			return true
		}
	}
	return false
}

// take is the Backup's side until the election has made it Active.
func (m *Machine) take(now int64) {
	h := &m.hand
	switch h.phase {
	case PhaseNone:
		if id, p := m.giver(); p != nil && h.retryAt == 0 && !m.stopping && !m.fault {
			// An epoch of our own, so that of several takers one is answered.
			*h = handOver{phase: PhaseWant, epoch: m.epoch(), peer: id, deadline: now + int64(m.timing.HandOver),
				planned: m.wish.swap, force: m.wish.force}
		}
	case PhaseWant:
		if !h.rushing && m.says(PhaseDrained) {
			h.rushing = true
			h.deadline = now + int64(m.timing.HandOver)
			m.rush()
		} else if h.rushing && m.committed {
			m.phase(PhaseCommitted, now)
		}
	case PhaseCommitted:
		if (m.says(PhaseGo) || m.says(PhaseDone)) && h.rushing { // done: its election did not wait for us
			h.rushing = false
			m.takeOver()
		}
	}
}

// taken is the taker's side once it is Active.
func (m *Machine) taken(now int64) {
	h := &m.hand
	switch {
	case h.phase == PhaseCommitted && m.stage != stagePromoting:
		m.phase(PhaseTaken, now)
		h.deadline = now + 2*int64(m.timing.Taken)
	case h.phase == PhaseTaken && (m.says(PhaseDone) || m.peers[h.peer].state.Epoch != h.epoch):
		m.endHandOver(now)
	}
}

// give is the Active's side, until its addresses are gone and all is told.
func (m *Machine) give(now int64) {
	h := &m.hand
	switch h.phase {
	case PhaseNone, PhaseOffer:
		m.offer(now)
	case PhaseDrained:
		if m.says(PhaseCommitted) {
			m.phase(PhaseGo, now)
			if h.planned {
				m.held = held{on: true, peer: h.peer}
			}
			m.do(Action{Kind: ActHandOver})
		}
	case PhaseGo:
		p := m.peers[h.peer]
		if m.stage == stageYielding && !m.released && p.state.Role == RoleActive && p.state.Phase == PhaseTaken {
			m.outranked = true // a third node must not take the role for free
			m.release()
		}
		if m.stage == stageBackup && m.drained {
			m.phase(PhaseDone, now)
		}
	case PhaseDone:
		if p := m.peers[h.peer]; p.state.Epoch != h.epoch {
			m.endHandOver(now)
		}
	}
}

// offer answers a peer that wants to take over, or looks for one when a clean
// stop is asked for.
func (m *Machine) offer(now int64) {
	h := &m.hand
	if m.stage != stageActive {
		return
	}
	wanted := false
	for id, p := range m.peers {
		if !p.up || p.state.Phase != PhaseWant || m.wish.swap && id != m.wish.peer {
			continue
		}
		wanted = true
		if m.ready(p, now) {
			*h = handOver{phase: PhaseDrained, epoch: p.state.Epoch, peer: id, deadline: now + int64(m.timing.Commit), failed: h.failed,
				planned: m.wish.swap || p.state.Switchover, force: m.wish.force || p.state.Force}
			return
		}
	}
	if !wanted {
		h.forceAt = 0
	}
	if h.phase == PhaseNone && !h.failed {
		m.seekTaker(now)
	}
}

// seekTaker offers the role: to the peer that an operator wants, or on a clean
// stop to any.
func (m *Machine) seekTaker(now int64) {
	id, p := m.taker()
	if m.wish.swap {
		id, p = m.wish.peer, m.peers[m.wish.peer]
	} else if !m.stopping {
		return
	}
	if p != nil {
		m.hand = handOver{phase: PhaseOffer, epoch: m.epoch(), peer: id, deadline: now + int64(m.timing.HandOver),
			planned: m.wish.swap, force: m.wish.force}
		if !m.wish.swap {
			m.hand.drainBy = now + int64(m.timing.Drain)
		}
	}
}

// ready says whether a peer that wants the role may have it: every own flow is
// acknowledged. With force that is waited for half of the time only.
func (m *Machine) ready(p *peer, now int64) bool {
	h := &m.hand
	if m.drained || !m.wish.force && !p.state.Force {
		return m.drained
	}
	if h.forceAt == 0 {
		h.forceAt = now + int64(m.timing.HandOver)/2
	}
	return now >= h.forceAt
}

// endHandOver forgets the hand-over; one that did not get through is tried
// again after a pause, and a stopping giver does not wait for another.
func (m *Machine) endHandOver(now int64) {
	h, why := m.hand, m.brokeOff()
	m.hand = handOver{failed: h.failed}
	if h.phase == PhaseDone {
		m.succeed(m.peers[h.peer].name, m.peers[h.peer].name+" is Active")
	}
	if h.phase == PhaseTaken || h.phase == PhaseDone {
		return
	}
	switch {
	case h.phase == PhaseCommitted && m.Active(): // it has the role all the same
	case h.phase != PhaseGo:
		m.fail(why)
	case m.wish.on():
		m.wish.until = now + int64(m.timing.HandOver)
	}
	m.hand.failed = m.stopping
	if m.stopping && m.Active() && now < h.deadline { // the taker's doing: it may come again
		again := m.timing.HandOver
		if h.phase == PhaseOffer {
			again = moment
		}
		m.hand.failed, m.stopBy = false, now+int64(again)
	}
	m.hand.retryAt = now + int64(m.timing.Retry)
	m.note("hand-over given up at phase " + h.phase.String())
	switch {
	case m.stage == stageBackup && h.rushing:
		m.do(Action{Kind: ActRush, On: false})
	case m.stage == stageYielding && !m.released:
		m.release()
	}
}

func (m *Machine) phase(p Phase, now int64) {
	m.hand.phase = p
	m.hand.deadline = now + int64(m.timing.HandOver)
}

// says tells whether the peer of this hand-over has reached the phase.
func (m *Machine) says(p Phase) bool {
	s := m.peers[m.hand.peer].state
	return s.Phase == p && s.Epoch == m.hand.epoch
}

// giver is an Active peer that we may take over from: its view is complete
// here (or that does not matter), and it offers, an operator wants it, or a
// preemption is due and not held.
func (m *Machine) giver() (PeerID, *peer) {
	if m.wish.swap {
		return m.wish.peer, m.peers[m.wish.peer]
	}
	for id, p := range m.peers {
		offers := p.state.Phase == PhaseOffer
		if p.up && p.state.Role == RoleActive && (p.view || offers && p.state.Force) && (offers || m.preempt && !m.held.on) {
			return id, p
		}
	}
	return 0, nil
}

// taker is a Backup peer whose view of our flows is complete.
func (m *Machine) taker() (PeerID, *peer) {
	for id, p := range m.peers {
		if p.up && p.state.Complete && p.state.Role == RoleBackup && !p.state.Fault {
			return id, p
		}
	}
	return 0, nil
}

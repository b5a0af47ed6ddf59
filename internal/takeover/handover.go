// SPDX-License-Identifier: Apache-2.0

package takeover

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
}

// moreToCome says whether a taker still expects flows that were born at the
// giver while addresses changed hands; the fence waits for them.
func (h *handOver) moreToCome(now int64) bool {
	return (h.phase == PhaseCommitted || h.phase == PhaseTaken) && now < h.deadline
}

func (m *Machine) settleHandOver(now int64) {
	h := &m.hand
	if now >= h.retryAt {
		h.retryAt = 0
	}
	if h.phase != PhaseNone {
		if p := m.peers[h.peer]; p == nil || !p.up || now >= h.deadline && h.deadline != 0 {
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

// take is the Backup's side until the election has made it Active.
func (m *Machine) take(now int64) {
	h := &m.hand
	switch h.phase {
	case PhaseNone:
		if id, p := m.giver(); p != nil && h.retryAt == 0 && !m.stopping {
			epoch := p.state.Epoch
			if p.state.Phase != PhaseOffer {
				epoch = m.epoch()
			}
			*h = handOver{phase: PhaseWant, epoch: epoch, peer: id, deadline: now + int64(m.timing.HandOver)}
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
		if m.says(PhaseGo) && h.rushing {
			h.rushing = false
			m.do(Action{Kind: ActTakeOver})
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
			m.do(Action{Kind: ActHandOver})
		}
	case PhaseGo:
		p := m.peers[h.peer]
		if m.stage == stageYielding && !m.released && p.state.Role == RoleActive && p.state.Phase == PhaseTaken {
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
	for id, p := range m.peers {
		if p.up && p.state.Phase == PhaseWant && m.drained {
			*h = handOver{phase: PhaseDrained, epoch: p.state.Epoch, peer: id, deadline: now + int64(m.timing.HandOver), failed: h.failed}
			return
		}
	}
	if id, p := m.taker(); p != nil && m.stopping && h.phase == PhaseNone && !h.failed {
		*h = handOver{phase: PhaseOffer, epoch: m.epoch(), peer: id, deadline: now + int64(m.timing.HandOver)}
	}
}

// endHandOver forgets the hand-over; one that did not get through is tried
// again after a pause, and a stopping giver does not wait for another.
func (m *Machine) endHandOver(now int64) {
	h := m.hand
	m.hand = handOver{failed: h.failed}
	if h.phase == PhaseTaken || h.phase == PhaseDone {
		return
	}
	m.hand.failed = m.stopping
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
// here, and it offers or a preemption is due.
func (m *Machine) giver() (PeerID, *peer) {
	for id, p := range m.peers {
		if p.up && p.view && p.state.Role == RoleActive && (m.preempt || p.state.Phase == PhaseOffer) {
			return id, p
		}
	}
	return 0, nil
}

// taker is a Backup peer whose view of our flows is complete.
func (m *Machine) taker() (PeerID, *peer) {
	for id, p := range m.peers {
		if p.up && p.state.Complete && p.state.Role == RoleBackup {
			return id, p
		}
	}
	return 0, nil
}

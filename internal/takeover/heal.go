// SPDX-License-Identifier: Apache-2.0

package takeover

// Two routers were Active, and this one remained. The flows that went through
// the other meanwhile have moved on: what this node holds of them, TCP windows
// above all, is stale. So the end of the other's term is treated like a
// takeover from it: fence, write its flows anew, adopt them, announce.
//
// A peer's State.Term tells, also when the sync link was cut meanwhile: each
// promotion and each healing begins another. What it was at our own promotion,
// or when we healed last, is what our kernel table knows. The other side keeps
// its released flows until it hears that we are whole in a term that began
// after its own: before that they may not be here.

// rival answers another Active's advert: the announcement brings its traffic
// here, and what our entries do not know of it must not be answered. The fence
// stands as long as it takes the other to yield and tell its flows.
func (m *Machine) rival() {
	if m.stage == stageActive {
		m.do(Action{Kind: ActFenceUp, D: m.timing.Rival})
	}
	m.do(Action{Kind: ActAnnounce})
}

// settleHeal heals when a peer has had the role beside us, has given it up,
// and everything it knows is here.
func (m *Machine) settleHeal(now int64) {
	if m.stage != stageActive || m.hand.phase != PhaseNone {
		return
	}
	for id, p := range m.peers {
		s := p.state
		if !p.up || !p.view || s.Term == 0 || s.Term == p.term || s.Role != RoleBackup || s.Phase != PhaseNone || !s.Drained {
			continue
		}
		p.term = s.Term
		m.nextTerm()
		m.stage, m.adopted = stageCommitting, false
		m.fenceUntil = now + int64(m.timing.FenceLimit)
		m.note("another router was Active as well: its flows are written anew")
		m.do(Action{Kind: ActFenceUp, D: m.timing.FenceHold})
		m.do(Action{Kind: ActReclaim, Peer: id})
		m.rush()
		m.do(Action{Kind: ActAnnounce})
		return
	}
}

// nextTerm begins a term. The first one has a random number, so that a process
// that was started again does not repeat what it said in its former life.
func (m *Machine) nextTerm() {
	if m.term == 0 {
		m.term = m.epoch() >> 1
	}
	if m.term++; m.term == 0 {
		m.term = 1
	}
}

// knowTerms is called at a promotion: its commit covers all that was before.
func (m *Machine) knowTerms() {
	for _, p := range m.peers {
		p.term = p.state.Term
	}
}

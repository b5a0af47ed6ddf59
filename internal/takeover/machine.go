// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"time"

	"github.com/tandem-ha/tandem/internal/mutant"
)

// stage is where this node is between Backup and Active.
type stage uint8

const (
	stageBackup     stage = iota
	stagePromoting        // fence up, the addresses are on their way
	stageCommitting       // addresses in, fence up, views not yet in the kernel table
	stageActive           // fence down
	stageYielding         // adverts stopped, addresses on their way out
)

type peer struct {
	name  string
	up    bool
	view  bool // our view of it is complete
	state State
	term  uint32 // of its terms, the last one that our kernel table knows of
	lost  int64  // since when it is silent; 0: it never spoke
	heir  uint32 // while it is silent: the term of whom its flows went to
}

// silent forgets what a peer said, but for its term: a promotion that follows
// its silence knows of it.
func (p *peer) silent() { *p = peer{name: p.name, term: p.term, state: State{Term: p.state.Term}} }

// Machine is the pure machine of one replicated set. It has no clock: now is
// nanoseconds of CLOCK_MONOTONIC.
type Machine struct {
	timing   Timing
	epoch    func() uint32 // draws the name of a hand-over, never 0
	name     string        // of this node, for sentences
	external bool          // another election decides: no hand-over, no order to it

	stage     stage
	peers     map[PeerID]*peer
	preempt   bool  // a preemption is due
	due       int64 // since when
	drained   bool
	committed bool
	adopted   bool   // in this term
	term      uint32 // 0: not Active since the process started
	released  bool   // own flows have lost their owner and still stand
	outranked bool   // the role went to another router when it was left last
	fault     bool   // the election waits in Initialize
	sending   bool   // our adverts leave
	resumed   bool   // this term goes on from a former process
	stopping  bool
	stopped   bool
	stopBy    int64 // until when a clean stop waits for a taker that fell silent; 0: it does not

	wish wish // commands that wait for their outcome
	held held // after a switchover: no preemption

	fenceUntil int64 // hard end of the fence; 0: down
	hand       handOver
	said       State
	out        []Action
}

// NewMachine makes the machine of a Backup. epoch draws names for hand-overs.
func NewMachine(t Timing, epoch func() uint32) *Machine {
	t.setDefaults()
	return &Machine{timing: t, epoch: epoch, peers: map[PeerID]*peer{}, committed: true, said: State{Role: RoleNone}}
}

// Step takes one event and gives what is to be done, in order. The slice is
// the machine's and is good until the next Step.
func (m *Machine) Step(now int64, ev Event) []Action {
	m.out = m.out[:0]
	switch ev.Kind {
	case EvPromoting:
		m.promote(now, ev.Cause)
	case EvAddressesIn:
		if m.stage == stagePromoting {
			m.stage = stageCommitting
			if mutant.AnnounceFirst {
				m.shield()
			}
		}
	case EvDemoting:
		m.outranked = ev.On
		m.demote(now, ev.Cause)
	case EvAddressesOut:
		m.addressesOut()
	case EvPreemptDue:
		m.preempt, m.due = ev.On, now
	case EvPeerUp:
		m.peerUp(ev.Peer, ev.Name)
	case EvPeerDown:
		m.peerDown(now, ev.Peer)
	case EvPeerState:
		m.heard(ev.Peer, ev.State)
	case EvView:
		m.peer(ev.Peer).view = ev.On
	case EvDrained:
		m.drained = ev.On
	case EvCommitted:
		m.committed = ev.On
	case EvProgress:
		m.progress(now)
	case EvAdopted:
		m.adopted = m.stage == stageActive // else it is the word of an earlier term
	case EvRival:
		m.rival()
	case EvStop:
		m.stopping = true
	case EvFault:
		m.fault = ev.On
	case EvSending:
		m.sending = ev.On
	case EvRefused:
		m.refused()
	case EvEnded:
		m.held = held{}
	default:
		m.command(now, ev)
	}
	m.settle(now)
	return m.out
}

// command takes what an operator or another election asks for.
func (m *Machine) command(now int64, ev Event) {
	switch ev.Kind {
	case EvSwitchover:
		m.switchover(now, ev)
	case EvTakeover:
		m.foreignTakeover(now, ev)
	case EvYield:
		m.foreignYield(now, ev)
	case EvForeignAddress:
		m.foreignAddress()
	}
}

// NextDeadline is when the machine wants an EvTick; 0: never.
func (m *Machine) NextDeadline() (d int64) {
	sooner := func(t int64, on bool) {
		if on && t != 0 && (d == 0 || t < d) {
			d = t
		}
	}
	sooner(m.hand.deadline, m.hand.phase != PhaseNone)
	sooner(m.hand.forceAt, m.hand.phase == PhaseNone || m.hand.phase == PhaseOffer)
	sooner(m.wish.until, m.wish.on())
	sooner(m.hand.retryAt, m.hand.phase == PhaseNone && m.preempt && m.stage == stageBackup)
	sooner(m.fenceUntil, m.fenced())
	sooner(m.bequest())
	sooner(m.stopBy, m.stopping && !m.stopped)
	sooner(m.due+int64(m.timing.Alone), m.alone())
	return d
}

// Active says whether this node is Active, or on its way to it.
func (m *Machine) Active() bool {
	return m.stage == stagePromoting || m.stage == stageCommitting || m.stage == stageActive
}

// Fenced says whether the fence of a takeover stands.
func (m *Machine) fenced() bool {
	return m.fenceUntil != 0 && (m.stage == stagePromoting || m.stage == stageCommitting)
}

func (m *Machine) promote(now int64, cause string) {
	if m.Active() {
		return
	}
	m.stage, m.adopted = stagePromoting, false
	m.fault, m.held, m.resumed = false, held{}, false
	m.nextTerm()
	m.knowTerms()
	m.fenceUntil = now + int64(m.timing.FenceLimit)
	m.released = false
	if mutant.AnnounceFirst {
		m.committed = false
		m.do(Action{Kind: ActFenced})
	} else {
		m.shield()
	}
	m.note("takeover: " + cause)
}

// shield is what stands before the addresses go in.
func (m *Machine) shield() {
	m.do(Action{Kind: ActFenceUp, D: m.timing.FenceHold})
	m.do(Action{Kind: ActSetActive, On: true})
	m.do(Action{Kind: ActFenced})
	m.rush()
	if m.external {
		m.stage = stageCommitting // the addresses are in: that is what we were told
	}
}

// heard takes a peer's word. An Active that says it no longer is one has
// stopped its adverts and hands over to nobody (its interface went down, or its
// election ended): whoever may succeeds it now, not at the end of a timer. Not
// so if it gave way to a third router, which we need not hear as well: then the
// election goes its own way.
func (m *Machine) heard(id PeerID, s State) {
	p := m.peer(id)
	released := p.state.Role == RoleActive && s.Role == RoleBackup
	p.state = s
	if m.resumed && p.term == 0 {
		p.term = s.Term // it ended before this process ran: the kernel table knows of it
	}
	m.held.heard(id, s.Role)
	if !released || m.external || m.fault || m.stage != stageBackup || m.stopping || m.hand.phase != PhaseNone || s.Phase != PhaseNone || s.Outranked {
		return
	}
	for _, p := range m.peers {
		if p.up && p.state.Role == RoleActive {
			return
		}
	}
	m.takeOver()
	m.note("the Active released the role")
}

// takeOver has the election make this node Active. The fence stands before it is
// asked, so that the addresses need not wait for our answer to its promotion, and
// what is not in the kernel table yet is written meanwhile: packets come as soon
// as the addresses do.
func (m *Machine) takeOver() {
	if !mutant.AnnounceFirst {
		m.do(Action{Kind: ActFenceUp, D: m.timing.FenceHold})
		m.rush()
	}
	m.do(Action{Kind: ActTakeOver})
}

// refused: the election did not make us Active. The fence falls by itself.
func (m *Machine) refused() {
	if m.stage == stageBackup {
		m.do(Action{Kind: ActRush, On: false})
	}
}

// rush asks for a commit of everything. Only what is reported after it counts.
func (m *Machine) rush() {
	m.committed = false
	m.do(Action{Kind: ActRush, On: true})
}

// settle does what the facts allow, whatever event brought them.
func (m *Machine) settle(now int64) {
	m.settleHandOver(now)
	m.settleWish(now)
	m.settleHeal(now)
	m.settleAlone(now)
	m.settleFence(now)
	m.settleStop(now)
	m.settleReleased()
	m.settleHeirs(now)
	m.say()
}

// alone says whether a due preemption waits for a peer that may not exist.
func (m *Machine) alone() bool {
	return m.preempt && m.stage == stageBackup && m.timing.Alone != 0 && len(m.peers) == 0
}

func (m *Machine) settleAlone(now int64) {
	if m.alone() && now >= m.due+int64(m.timing.Alone) {
		m.due = now // ask again, later, if the election refuses
		m.note("no tandem peer was ever heard: preempting without a copy")
		m.takeOver()
	}
}

// settleFence takes the fence down when the kernel table is whole, or when its
// limit is reached: a fence must not become the outage.
func (m *Machine) settleFence(now int64) {
	if m.fenced() && now >= m.fenceUntil {
		m.fenceUntil = 0
		m.do(Action{Kind: ActFenceDown})
		m.do(Action{Kind: ActResume}) // a packet would slip in between an entry's deletion and its creation
		m.note("fence limit reached: what the kernel table lacks of the rest is created without it")
	}
	if m.stage != stageCommitting || m.fenced() && (!m.committed || m.hand.moreToCome(now)) {
		return
	}
	if m.fenced() {
		m.fenceUntil = 0
		m.do(Action{Kind: ActFenceDown})
	}
	m.activate()
}

func (m *Machine) activate() {
	m.stage = stageActive
	m.do(Action{Kind: ActRush, On: false})
	m.do(Action{Kind: ActAdopt})
	m.note("takeover complete")
	m.succeed(m.name, m.name+" is Active")
}

// progress is a batch that was committed: fence and hand-over go on.
func (m *Machine) progress(now int64) {
	if m.hand.phase == PhaseWant && m.hand.rushing {
		m.hand.deadline = now + int64(m.timing.HandOver)
	}
	m.renewFence(now)
}

func (m *Machine) renewFence(now int64) {
	if m.fenced() && now < m.fenceUntil {
		d := min(int64(m.timing.FenceHold), m.fenceUntil-now)
		m.do(Action{Kind: ActFenceRenew, D: time.Duration(d)})
	}
}

// demote: RELEASE before the addresses go, because their going kills entries
// whose deaths are no news. It looks at every own flow: the peers, one of whom
// succeeds us, hear of the role before. The log hears last: it may be slow.
func (m *Machine) demote(now int64, cause string) {
	m.stage, m.resumed = stageYielding, false
	m.fenceUntil = 0
	if m.hand.phase == PhaseGo {
		m.hand.deadline = now + int64(m.timing.Taken)
		m.note("yield: " + cause)
		return // the addresses stay until the peer has them: give
	}
	m.hand = handOver{failed: m.hand.failed}
	m.fail("the role was lost meanwhile: " + cause)
	m.say()
	m.release()
	m.note("yield: " + cause)
}

func (m *Machine) release() {
	m.released = true
	m.do(Action{Kind: ActRelease})
	m.do(Action{Kind: ActSetActive, On: false})
	m.do(Action{Kind: ActRush, On: false})
	m.do(Action{Kind: ActFenceUp, D: m.timing.YieldFence})
	m.do(Action{Kind: ActPause, D: m.timing.YieldFence})
	m.do(Action{Kind: ActReleased})
	if m.external {
		m.addressesOut() // they are: that is what we were told
	}
}

func (m *Machine) addressesOut() {
	if m.Active() {
		return
	}
	if m.stage == stageYielding && !m.released { // the election did not wait for the taker's word
		m.release()
	}
	m.stage = stageBackup
	m.do(Action{Kind: ActForget})
}

// settleStop ends the election when a clean stop was asked for and nothing is
// to be handed over, or nobody takes it.
func (m *Machine) settleStop(now int64) {
	if !m.stopping || m.stopped || m.hand.phase != PhaseNone || m.stage == stageYielding {
		return
	}
	if _, p := m.taker(); m.Active() && !m.hand.failed && !m.external && (p != nil || now < m.stopBy) {
		return // handed over first
	}
	if m.external && m.Active() {
		m.depart()
	}
	m.stopped = true
	m.do(Action{Kind: ActStopElection})
}

// say publishes the state when it has changed.
func (m *Machine) say() {
	s := State{Role: RoleBackup, Phase: m.hand.phase, Epoch: m.hand.epoch, Term: m.term,
		Switchover: m.hand.planned, Force: m.hand.force}
	if m.Active() {
		s.Role, s.Whole, s.Sending = RoleActive, m.stage == stageActive && m.adopted, m.sending
		s.Drained = s.Whole && (m.said.Drained || m.drained) // once: later changes are small
	} else {
		s.Fault = m.fault
		s.Outranked, s.Drained = m.outranked, m.term != 0 && m.stage == stageBackup && m.drained
	}
	heard := false
	for _, p := range m.peers {
		s.Complete = s.Complete || p.up && p.view
		heard = heard || p.up
	}
	s.Drained = s.Drained && heard
	if s != m.said {
		m.said = s
		m.do(Action{Kind: ActSetState, State: s})
	}
}

func (m *Machine) peerUp(id PeerID, name string) {
	p := m.peer(id)
	p.up, p.name, p.heir = true, name, 0
	m.drained = false // it may lack anything
}

func (m *Machine) peer(id PeerID) *peer {
	p := m.peers[id]
	if p == nil {
		p = &peer{}
		m.peers[id] = p
	}
	return p
}

func (m *Machine) do(a Action)   { m.out = append(m.out, a) }
func (m *Machine) note(s string) { m.do(Action{Kind: ActNote, Note: s}) }

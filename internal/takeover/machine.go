// SPDX-License-Identifier: Apache-2.0

package takeover

import "time"

// PeerID names a peer within this process.
type PeerID int

// EventKind is what happened.
type EventKind uint8

// Events. The comment says which fields of Event count.
const (
	EvPromoting    EventKind = iota // the election made us Active, its advert is out: Cause
	EvAddressesIn                   // the virtual addresses are installed and announced
	EvDemoting                      // the election left Active, addresses wait: Cause; On: another router is Active
	EvAddressesOut                  // the virtual addresses are gone
	EvPreemptDue                    // Backup hears an Active of lower priority, or no longer: On
	EvPeerUp                        // Peer
	EvPeerDown                      // Peer
	EvPeerState                     // Peer, State
	EvView                          // our view of Peer is complete, or no longer: On
	EvDrained                       // every own flow is acknowledged, or no longer: On
	EvCommitted                     // nothing of any view is left to commit, or something is: On
	EvProgress                      // a batch was committed
	EvAdopted                       // what ActAdopt asked for is done
	EvRival                         // another router is Active as well, and will yield to us
	EvStop                          // a clean stop is asked for
	EvTick                          // time has passed
)

// Event is one input of the machine.
type Event struct {
	Kind  EventKind
	Cause string
	Peer  PeerID
	State State
	On    bool
	At    int64 // when it happened, for the record; 0: when it was taken
}

// ActionKind is what is to be done.
type ActionKind uint8

// Actions, to be carried out in the order given.
const (
	ActFenceUp      ActionKind = iota // for D
	ActFenceRenew                     // for D
	ActFenceDown                      //
	ActSetActive                      // tell the replication machine the role: On
	ActFenced                         // tell the election that addresses may go in
	ActRelease                        // own flows lose their owner; no death is told any more
	ActReleased                       // tell the election that addresses may go out
	ActRush                           // commit all that is left, now, hottest first: On
	ActPause                          // no background commit for D (late frames still use the old entries)
	ActForget                         // every entry of ours has stale windows: commit all again
	ActReclaim                        // Peer's flows are known better there than here
	ActAnnounce                       // tell the election to announce the addresses again
	ActAdopt                          // flows of the views become own flows
	ActDropReleased                   // released own flows that the Active now owns go
	ActTakeOver                       // tell the election: the Active hands over to us
	ActHandOver                       // tell the election: the peer takes over from us
	ActStopElection                   // priority 0 where still Active, addresses out, end
	ActSetState                       // tell the peers: State
	ActNote                           // for history and hooks: Note
)

// Action is one output of the machine.
type Action struct {
	Kind  ActionKind
	D     time.Duration
	On    bool
	State State
	Peer  PeerID
	Note  string
}

// Timing holds the machine's durations. Zero fields take the defaults.
type Timing struct {
	FenceHold  time.Duration // how long one sign of progress keeps the fence up (500 ms)
	FenceLimit time.Duration // how long it may stay up in all (5 s)
	YieldFence time.Duration // how long it stays up after a yield (1 s)
	Rival      time.Duration // how long it stays up when another Active is heard (300 ms)
	HandOver   time.Duration // how long one phase of a hand-over may take (2 s)
	Taken      time.Duration // how long the giver keeps its addresses after Go (100 ms)
	Retry      time.Duration // pause after a hand-over that failed (1 s)

	// Alone is after how long a due preemption no longer waits for a tandem
	// peer when none is configured and none was ever heard: the Active may be
	// another program. 0: it always waits.
	Alone time.Duration
}

func (t *Timing) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.FenceHold, 500*time.Millisecond)
	def(&t.FenceLimit, 5*time.Second)
	def(&t.YieldFence, time.Second)
	def(&t.Rival, 300*time.Millisecond)
	def(&t.HandOver, 2*time.Second)
	def(&t.Taken, 100*time.Millisecond)
	def(&t.Retry, time.Second)
}

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
	up    bool
	view  bool // our view of it is complete
	state State
	term  uint32 // of its terms, the last one that our kernel table knows of
}

// silent forgets what a peer said, but for its term: a promotion that follows
// its silence knows of it.
func (p *peer) silent() { *p = peer{term: p.term, state: State{Term: p.state.Term}} }

// Machine is the pure machine of one replicated set. It has no clock: now is
// nanoseconds of CLOCK_MONOTONIC.
type Machine struct {
	timing Timing
	epoch  func() uint32 // draws the name of a hand-over, never 0

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
	stopping  bool
	stopped   bool

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
		}
	case EvDemoting:
		m.outranked = ev.On
		m.demote(now, ev.Cause)
	case EvAddressesOut:
		m.addressesOut()
	case EvPreemptDue:
		m.preempt, m.due = ev.On, now
	case EvPeerUp:
		m.peer(ev.Peer).up, m.drained = true, false // it may lack anything
	case EvPeerDown:
		m.peer(ev.Peer).silent()
	case EvPeerState:
		m.heard(ev.Peer, ev.State)
	case EvView:
		m.peer(ev.Peer).view = ev.On
	case EvDrained:
		m.drained = ev.On
	case EvCommitted:
		m.committed = ev.On
	case EvProgress:
		m.renewFence(now)
	case EvAdopted:
		m.adopted = m.stage == stageActive // else it is the word of an earlier term
	case EvRival:
		m.rival()
	case EvStop:
		m.stopping = true
	}
	m.settle(now)
	return m.out
}

// NextDeadline is when the machine wants an EvTick; 0: never.
func (m *Machine) NextDeadline() (d int64) {
	sooner := func(t int64, on bool) {
		if on && t != 0 && (d == 0 || t < d) {
			d = t
		}
	}
	sooner(m.hand.deadline, m.hand.phase != PhaseNone)
	sooner(m.hand.retryAt, m.hand.phase == PhaseNone && m.preempt && m.stage == stageBackup)
	sooner(m.fenceUntil, m.fenced())
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
	m.nextTerm()
	m.knowTerms()
	m.fenceUntil = now + int64(m.timing.FenceLimit)
	m.do(Action{Kind: ActFenceUp, D: m.timing.FenceHold})
	m.released = false
	m.do(Action{Kind: ActSetActive, On: true})
	m.do(Action{Kind: ActFenced})
	m.rush()
	m.note("takeover: " + cause)
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
	if !released || m.stage != stageBackup || m.stopping || m.hand.phase != PhaseNone || s.Phase != PhaseNone || s.Outranked {
		return
	}
	for _, p := range m.peers {
		if p.up && p.state.Role == RoleActive {
			return
		}
	}
	m.note("the Active released the role")
	m.do(Action{Kind: ActTakeOver})
}

// rush asks for a commit of everything. Only what is reported after it counts.
func (m *Machine) rush() {
	m.committed = false
	m.do(Action{Kind: ActRush, On: true})
}

// settle does what the facts allow, whatever event brought them.
func (m *Machine) settle(now int64) {
	m.settleHandOver(now)
	m.settleHeal(now)
	m.settleAlone(now)
	m.settleFence(now)
	m.settleStop()
	m.settleReleased()
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
		m.do(Action{Kind: ActTakeOver})
	}
}

// settleFence takes the fence down when the kernel table is whole, or when its
// limit is reached: a fence must not become the outage.
func (m *Machine) settleFence(now int64) {
	if m.fenced() && now >= m.fenceUntil {
		m.fenceUntil = 0
		m.do(Action{Kind: ActFenceDown})
		m.note("fence limit reached: the rest is committed without it")
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
}

func (m *Machine) renewFence(now int64) {
	if m.fenced() && now < m.fenceUntil {
		d := min(int64(m.timing.FenceHold), m.fenceUntil-now)
		m.do(Action{Kind: ActFenceRenew, D: time.Duration(d)})
	}
}

// demote: RELEASE before the addresses go, because their going kills entries
// whose deaths are no news.
func (m *Machine) demote(now int64, cause string) {
	m.stage = stageYielding
	m.fenceUntil = 0
	m.note("yield: " + cause)
	if m.hand.phase == PhaseGo {
		m.hand.deadline = now + int64(m.timing.Taken)
		return // the addresses stay until the peer has them: give
	}
	m.hand = handOver{failed: m.hand.failed}
	m.release()
}

func (m *Machine) release() {
	m.released = true
	m.do(Action{Kind: ActRelease})
	m.do(Action{Kind: ActSetActive, On: false})
	m.do(Action{Kind: ActRush, On: false})
	m.do(Action{Kind: ActFenceUp, D: m.timing.YieldFence})
	m.do(Action{Kind: ActPause, D: m.timing.YieldFence})
	m.do(Action{Kind: ActReleased})
}

func (m *Machine) addressesOut() {
	if m.Active() {
		return
	}
	m.stage = stageBackup
	m.do(Action{Kind: ActForget})
}

// settleReleased lets released flows go once the Active is known to own them,
// in a term that began after ours (two that were Active at once: heal.go).
// Until it has committed and adopted them our copy must not shrink: an entry
// that died here for lack of an interface would end in its view as well.
func (m *Machine) settleReleased() {
	if m.stage != stageBackup || !m.released {
		return
	}
	for _, p := range m.peers {
		if p.up && p.view && p.state.Role == RoleActive && p.state.Phase == PhaseNone && p.state.Whole && p.state.Term != p.term {
			m.released = false
			m.do(Action{Kind: ActDropReleased})
			return
		}
	}
}

// settleStop ends the election when a clean stop was asked for and nothing is
// to be handed over, or nobody takes it.
func (m *Machine) settleStop() {
	if !m.stopping || m.stopped || m.hand.phase != PhaseNone || m.stage == stageYielding {
		return
	}
	if _, p := m.taker(); p != nil && m.Active() && !m.hand.failed {
		return // handed over first
	}
	m.stopped = true
	m.do(Action{Kind: ActStopElection})
}

// say publishes the state when it has changed.
func (m *Machine) say() {
	s := State{Role: RoleBackup, Phase: m.hand.phase, Epoch: m.hand.epoch, Term: m.term}
	if m.Active() {
		s.Role, s.Whole = RoleActive, m.stage == stageActive && m.adopted
	} else {
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

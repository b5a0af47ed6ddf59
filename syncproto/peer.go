// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"fmt"
	"slices"
	"time"
)

// Constants of ours, not of the format.
const (
	helloEvery  = int64(100 * time.Millisecond) // while no peer is known
	pairEvery   = int64(20 * time.Millisecond)  // while the peer has not said that it is paired
	answerEvery = int64(5 * time.Millisecond)   // at most, to hellos of unknown sessions
	stateEvery  = int64(5 * time.Millisecond)   // until the peer has our state
	ackDelay    = int64(12 * time.Millisecond)
	ackEach     = 4 // datagrams that are acknowledged at once, with the last of them and no timer
)

// Peer is another node.
type Peer struct {
	n     *Node
	given string // AddPeer's name
	hello hello  // what it said last
	known bool   // it said something

	session   session
	said      header // of the hello that is being said
	saidFlags uint8
	up        bool
	heard     int64 // last valid datagram; 0: never
	silence   silence

	paths    []*Path
	use      *Path  // nil: there is none
	from     *Path  // by which the datagram came that is being taken
	reported uint64 // sequence of the latest PATH record; 0: none in this session

	in       received
	ackDue   int64 // forever: nothing to acknowledge
	unacked  int   // datagrams to acknowledge
	stateDue int64
	theirV   uint32 // version of its state that we have
	gotV     uint32 // version of ours that it has
	theirs   []byte

	out    sender
	repair repair
	view   View
	stats  PeerStats
	rec    flowRecord
	read   []flowRecord // the first ones of the datagram that is being taken
}

// PeerStats counts what went to and from a peer.
type PeerStats struct {
	SentDatagrams, SentBytes, SentFull, SentShort, SentDeletes uint64
	ReceivedDatagrams, ReceivedBytes                           uint64
	ReceivedFull, ReceivedShort, ReceivedDeletes               uint64
	AckedDatagrams, LostDatagrams, LateAcks                    uint64
	Sessions                                                   uint64 // pairings

	// Refused datagrams by reason.
	RefusedShort, RefusedVersion, RefusedSeal, RefusedChecksum uint64
	RefusedSession, RefusedReplay, RefusedHello, RefusedRecord uint64
	RefusedReflected                                           uint64
	SkippedRecords                                             uint64 // of types not known here
	PathChanges                                                uint64 // times another path was taken
	Paced                                                      uint64 // times flows waited for Config.Rate
	BrokenBase                                                 uint64 // short records without a flow
	Features                                                   uint64
	RTT                                                        time.Duration
	Window, InFlight                                           int // datagrams
	JoinLeft                                                   int // flows this peer has not acknowledged since its session began
}

// AddPeer adds a peer, to which no path leads yet. Until its hello tells a name
// it is called by this one.
func (n *Node) AddPeer(name string, now int64) *Peer {
	n.now = now
	p := &Peer{n: n, given: name, ackDue: forever, stateDue: forever}
	p.view.init(n)
	p.out.init(p)
	p.repair.init()
	p.session.init(p, now)
	n.peers = append(n.peers, p)
	return p
}

// RemovePeer forgets a peer and its view.
func (n *Node) RemovePeer(p *Peer) {
	n.peers = slices.DeleteFunc(n.peers, func(q *Peer) bool { return q == p })
}

// Peers are all peers, in the order they were added.
func (n *Node) Peers() []*Peer { return n.peers }

// Name is what the peer called itself in hello, else what AddPeer was given.
func (p *Peer) Name() string {
	if p.hello.name != "" {
		return p.hello.name
	}
	return p.given
}

// Up says whether both sides hear each other.
func (p *Peer) Up() bool { return p.up }

// Heard is when the last valid datagram came (CLOCK_MONOTONIC); 0: never.
func (p *Peer) Heard() int64 { return p.heard }

// State is what the peer's SetState said last.
func (p *Peer) State() []byte { return p.theirs }

// View is this node's copy of the peer's flows.
func (p *Peer) View() *View { return &p.view }

// Stats gives the counters.
func (p *Peer) Stats() PeerStats {
	s := p.stats
	s.Features = p.hello.features
	s.RTT = time.Duration(p.out.srtt)
	s.Window, s.InFlight, s.JoinLeft = p.out.window, p.out.flights.n, p.out.joinLeft
	return s
}

// Drained says whether this peer acknowledged every own flow as it is now.
func (p *Peer) Drained() bool {
	o := &p.out
	return p.session.confirmed && o.dirty == 0 && o.inFlight == 0 && o.joinLeft == 0
}

// Backlog is the number of flows this peer has not acknowledged as they are
// now, and how long the oldest has waited. A peer that was never heard has none.
func (p *Peer) Backlog(now int64) (flows int, oldest time.Duration) {
	if !p.session.confirmed {
		return 0, 0
	}
	return p.out.backlog(now)
}

// StateHeld says whether the peer has our state as SetState said it last.
func (p *Peer) StateHeld() bool { return p.session.confirmed && p.gotV == p.n.blobV }

func (p *Peer) stateChanged(now int64) { p.stateDue = now }

// released makes the RELEASE due: records up to here are not owned any more,
// nor is what the peer has of a session before this one.
func (p *Peer) released() {
	p.out.releaseTo, p.out.release = p.out.seq, due
}

func (p *Peer) slotChanged(slot uint32) {
	if p.session.confirmed {
		p.out.changed(slot)
	}
}

func (p *Peer) slotFreed(slot uint32) {
	if p.session.confirmed {
		p.out.freed(slot)
	}
}

func (p *Peer) tick(now int64) {
	if p.up && p.silence.over(p.heard, p.deadAt(), int64(p.n.cfg.Heartbeat), now) {
		p.up = false
		p.theirV = 0 // its state counts anew when it is heard again
		p.out.unreachable()
		p.n.event(Event{Kind: PeerDown, Peer: p, Why: fmt.Sprintf("nothing was heard for %v", p.n.cfg.DeadAfter)})
	}
	p.quietPaths(now)
	p.out.timeouts(now)
	p.out.resendSlice()
	p.view.sweepSlice(now)
	p.view.renewSlice(now)
	if p.out.seq >= maxSequence-1<<20 {
		p.session.renew(now)
	}
}

// deadline is when tick has something to do.
func (p *Peer) deadline() int64 {
	d := min(p.view.deadline(), p.out.deadline())
	for _, q := range p.paths {
		if q.hearing {
			d = min(d, q.silence.next(q.quietAt()))
		}
	}
	if p.up {
		d = min(d, p.silence.next(p.deadAt()))
	}
	return d
}

// deadAt is until when the peer must be heard.
func (p *Peer) deadAt() int64 { return p.heard + int64(p.n.cfg.DeadAfter) }

// hear notes a valid datagram.
func (p *Peer) hear(now int64) {
	p.heard = now
	if p.from != nil {
		p.from.hear(now)
	}
	if p.session.confirmed && !p.up {
		p.up = true
		p.n.event(Event{Kind: PeerUp, Peer: p})
		if p.view.bequeathed {
			p.session.renew(now)
		}
	}
}

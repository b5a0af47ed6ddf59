// SPDX-License-Identifier: Apache-2.0

package takeover

import "time"

// PeerID names a peer within this process.
type PeerID int

// EventKind is what happened.
type EventKind uint8

// Events. The comment says which fields of Event count.
const (
	EvPromoting      EventKind = iota // the election made us Active, its advert is out: Cause
	EvAddressesIn                     // the virtual addresses are installed and announced
	EvDemoting                        // the election left Active, addresses wait: Cause; On: another router is Active
	EvAddressesOut                    // the virtual addresses are gone
	EvPreemptDue                      // Backup hears an Active of lower priority, or no longer: On
	EvPeerUp                          // Peer
	EvPeerDown                        // Peer
	EvPeerState                       // Peer, State
	EvView                            // our view of Peer is complete, or no longer: On
	EvDrained                         // every own flow is acknowledged, or no longer: On
	EvCommitted                       // nothing of any view is left to commit, or something is: On
	EvProgress                        // a batch was committed
	EvAdopted                         // what ActAdopt asked for is done
	EvRival                           // another router is Active as well, and will yield to us
	EvStop                            // a clean stop is asked for
	EvFault                           // the election waits in Initialize, or no longer: On
	EvSending                         // our adverts leave on every interface, or not: On
	EvRefused                         // the election did not do what ActTakeOver or ActHandOver asked for
	EvEnded                           // the set ended: what begins is a new one, as after a restart
	EvSwitchover                      // an operator asks for one: Order, Name of who is to be Active ("": anybody), On: with force
	EvTakeover                        // another election made us Active, its addresses are in: Order, Cause; On: they were here all along
	EvYield                           // another election took Active from us, its addresses are out: Order, Cause
	EvForeignAddress                  // another election's address appeared here
	EvTick                            // time has passed
)

// Event is one input of the machine.
type Event struct {
	Kind  EventKind
	Cause string
	Peer  PeerID
	State State
	On    bool
	At    int64  // when it happened, for the record; 0: when it was taken
	Name  string // EvPeerUp: of the peer; EvSwitchover
	Order uint32 // names a command: ActOutcome answers it
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
	ActResume                         // in the term that begins, views only add to the kernel table
	ActForget                         // every entry of ours has stale windows: commit all again
	ActReclaim                        // Peer's flows are known better there than here
	ActAnnounce                       // tell the election to announce the addresses again
	ActAdopt                          // flows of the views become own flows
	ActDropReleased                   // released own flows that the Active now owns go
	ActBequeath                       // Peer is silent, and all its flows went to another
	ActTakeOver                       // tell the election: the Active hands over to us, and the fence stands
	ActHandOver                       // tell the election: the peer takes over from us
	ActStopElection                   // priority 0 where still Active, addresses out, end
	ActSetState                       // tell the peers: State
	ActNote                           // for history and hooks: Note
	ActOutcome                        // a command is done (On) or refused: Order, Note says what happened, Active
)

// Action is one output of the machine.
type Action struct {
	Kind  ActionKind
	D     time.Duration
	On    bool
	State State
	Peer  PeerID
	Note  string

	Order   uint32 // ActOutcome
	Active  string // who has the role
	Already bool   // it was so before
}

// Timing holds the machine's durations. Zero fields take the defaults.
type Timing struct {
	FenceHold  time.Duration // how long one sign of progress keeps the fence up (500 ms)
	FenceLimit time.Duration // how long it may stay up in all (5 s)
	YieldFence time.Duration // how long it stays up after a yield (1 s)
	Rival      time.Duration // how long it stays up when another Active is heard (300 ms)
	HandOver   time.Duration // how long one phase of a hand-over may take (2 s)
	Taken      time.Duration // how long the giver keeps its addresses after Go (300 ms)
	Retry      time.Duration // pause after a hand-over that failed (1 s)
	Commit     time.Duration // how long a giver waits for a taker that still commits (30 s)
	Drain      time.Duration // how long a clean stop waits until a taker has every flow (1 min)

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
	def(&t.Taken, 300*time.Millisecond)
	def(&t.Retry, time.Second)
	def(&t.Commit, 30*time.Second)
	def(&t.Drain, time.Minute)
}

// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"encoding/binary"
	"fmt"
)

// Role is what a node says of itself to its peers.
type Role uint8

// Roles. A node that is on its way to Active already says Active.
const (
	RoleNone Role = iota
	RoleBackup
	RoleActive
)

func (r Role) String() string {
	switch r {
	case RoleBackup:
		return "Backup"
	case RoleActive:
		return "Active"
	}
	return "Initialize"
}

// Phase is how far a node is in a hand-over. The two sides raise each other's:
//
//	giver (Active)            taker (Backup)
//	[Offer]            ->     Want           the giver offers only when it stops
//	Drained            <-     Want           every own flow was acknowledged
//	Drained            ->     Committed      the taker's kernel table has them all
//	Go                 <-     Committed      the giver's adverts have stopped
//	Go                 ->     Taken          adverts and addresses are the taker's
//	Done               <-     Taken          released, addresses out, drained again
type Phase uint8

// Phases of a hand-over.
const (
	PhaseNone Phase = iota
	PhaseOffer
	PhaseWant
	PhaseDrained
	PhaseCommitted
	PhaseGo
	PhaseTaken
	PhaseDone
)

var phaseNames = [...]string{"none", "offer", "want", "drained", "committed", "go", "taken", "done"}

func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// State is what a node tells its peers with every heartbeat. It is a level,
// not a message: whoever hears the latest one knows all there is to know.
//
//	 0        1       2       3       4        8        12
//	+--------+-------+-------+-------+--------+--------+
//	| ver 1  | role  | flags | phase | epoch  |  term  |   big endian
//	+--------+-------+-------+-------+--------+--------+
type State struct {
	Role      Role
	Complete  bool // this node's view of the receiver's flows is complete
	Phase     Phase
	Epoch     uint32 // names the hand-over; 0 outside of one
	Whole     bool   // an Active's takeover is complete: all is committed, and all is its own
	Term      uint32 // names the latest term as Active; 0: none since the process started
	Drained   bool   // what a former Active had, or what an Active's takeover brought, is acknowledged by all that it hears
	Outranked bool   // no longer Active because another router is: the role is not free

	Switchover bool // this hand-over is an operator's: who gives does not preempt afterwards
	Force      bool // it goes ahead though flows may be lost
	Fault      bool // a Backup that cannot take over
	Sending    bool // an Active whose interfaces are up and whose adverts leave: the second path's word
}

const (
	stateVersion  = 1
	stateLen      = 12
	flagComplete  = 1 << 0
	flagWhole     = 1 << 1
	flagOutranked = 1 << 2
	flagDrained   = 1 << 3

	flagSwitchover = 1 << 4
	flagForce      = 1 << 5
	flagFault      = 1 << 6
	flagSending    = 1 << 7
)

// stateFlag is one bit of the third byte.
type stateFlag struct {
	on  *bool
	bit byte
}

func (s *State) flags() []stateFlag {
	return []stateFlag{{&s.Complete, flagComplete}, {&s.Whole, flagWhole}, {&s.Outranked, flagOutranked}, {&s.Drained, flagDrained},
		{&s.Switchover, flagSwitchover}, {&s.Force, flagForce}, {&s.Fault, flagFault}, {&s.Sending, flagSending}}
}

// Append encodes s behind b.
func (s State) Append(b []byte) []byte {
	var flags byte
	for _, f := range s.flags() {
		if *f.on {
			flags |= f.bit
		}
	}
	b = append(b, stateVersion, byte(s.Role), flags, byte(s.Phase))
	b = binary.BigEndian.AppendUint32(b, s.Epoch)
	return binary.BigEndian.AppendUint32(b, s.Term)
}

// ParseState decodes a peer's state. Longer input is a newer version's and is
// read as far as it is known.
func ParseState(b []byte) (State, error) {
	if len(b) < stateLen {
		return State{}, fmt.Errorf("parse peer state: %d bytes, want at least %d", len(b), stateLen)
	}
	if b[0] != stateVersion {
		return State{}, fmt.Errorf("parse peer state: version %d, want %d", b[0], stateVersion)
	}
	s := State{Role: Role(b[1]), Phase: Phase(b[3]), Epoch: binary.BigEndian.Uint32(b[4:]), Term: binary.BigEndian.Uint32(b[8:])}
	for _, f := range s.flags() {
		*f.on = b[2]&f.bit != 0
	}
	if s.Role > RoleActive || s.Phase > PhaseDone {
		return State{}, fmt.Errorf("parse peer state: role %d, phase %d are unknown", b[1], b[3])
	}
	return s, nil
}

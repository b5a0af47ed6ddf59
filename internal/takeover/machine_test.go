// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func (a Action) String() string {
	switch a.Kind {
	case ActFenceUp:
		return fmt.Sprintf("fence up %v", a.D)
	case ActFenceRenew:
		return fmt.Sprintf("fence renew %v", a.D)
	case ActPause:
		return fmt.Sprintf("pause %v", a.D)
	case ActSetActive:
		return fmt.Sprintf("active %v", a.On)
	case ActRush:
		return fmt.Sprintf("rush %v", a.On)
	case ActSetState:
		return fmt.Sprintf("say %v %v complete=%v", a.State.Role, a.State.Phase, a.State.Complete)
	case ActNote:
		return "note " + strings.ReplaceAll(a.Note, ", ", "; ") // the tables separate by commas
	case ActOutcome:
		return a.outcome()
	}
	return map[ActionKind]string{ActFenceDown: "fence down", ActFenced: "fenced", ActRelease: "release",
		ActReleased: "released", ActResume: "resume", ActForget: "forget", ActAdopt: "adopt", ActDropReleased: "drop released",
		ActReclaim: "reclaim", ActBequeath: "bequeath", ActAnnounce: "announce", ActTakeOver: "take over", ActHandOver: "hand over", ActStopElection: "stop election"}[a.Kind]
}

func (a Action) outcome() string {
	switch {
	case a.Already:
		return "already " + a.Active
	case a.On:
		return "done " + a.Note
	}
	return "refuse " + strings.ReplaceAll(a.Note, ", ", "; ")
}

func words(as []Action) (out []string) {
	for _, a := range as {
		out = append(out, a.String())
	}
	return out
}

func fixedEpoch() uint32 { return 7 }

// peerIs is a peer's state in short.
func peerIs(r Role, p Phase, epoch uint32) Event {
	s := State{Role: r, Complete: true, Phase: p, Epoch: epoch}
	if r == RoleActive {
		s.Whole, s.Term = p == PhaseNone, 2
	}
	return Event{Kind: EvPeerState, Peer: 1, State: s}
}

// TestOrder holds the order of every step of a change of role: what a user's
// packets depend on.
func TestOrder(t *testing.T) {
	up := step{0, Event{Kind: EvPeerUp, Peer: 1}, "say Backup none complete=false"}
	view := step{0, Event{Kind: EvView, Peer: 1, On: true}, "say Backup none complete=true"}
	drained := step{0, Event{Kind: EvDrained, On: true}, ""}
	promoted := step{0, Event{Kind: EvPromoting, Cause: "timeout"},
		"fence up 500ms,active true,fenced,rush true,note takeover: timeout,say Active none complete=true"}
	in := step{0, Event{Kind: EvAddressesIn}, ""}
	committed := step{0, Event{Kind: EvCommitted, On: true}, "fence down,rush false,adopt,note takeover complete"}
	for name, steps := range map[string][]step{
		"unplanned: fence, addresses, commit, fence down": {up, view, promoted,
			{1, Event{Kind: EvProgress}, "fence renew 500ms"}, in, committed},
		"a commit reported before the rush does not count": {up, view, {0, Event{Kind: EvCommitted, On: true}, ""}, promoted, in, committed},
		"committed before the addresses are in: the fence waits for them": {up, view, promoted,
			{1, Event{Kind: EvCommitted, On: true}, ""}, {2, Event{Kind: EvAddressesIn}, "fence down,rush false,adopt,note takeover complete"}},
		"the fence has a limit": {up, view, promoted, in,
			{4900 * time.Millisecond, Event{Kind: EvProgress}, "fence renew 100ms"},
			{5 * time.Second, Event{Kind: EvTick}, "fence down,resume,note fence limit reached: what the kernel table lacks of the rest is created without it,rush false,adopt,note takeover complete"}},
		"addresses later than the fence limit": {up, view, promoted,
			{5 * time.Second, Event{Kind: EvTick}, "fence down,resume,note fence limit reached: what the kernel table lacks of the rest is created without it"},
			{6 * time.Second, Event{Kind: EvAddressesIn}, "rush false,adopt,note takeover complete"}},
		"yield: release before the addresses, entries are stale after": {up, view, promoted, in, committed,
			{1, Event{Kind: EvDemoting, Cause: "higher-priority"},
				"say Backup none complete=true,release,active false,rush false,fence up 1s,pause 1s,released,note yield: higher-priority"},
			{2, Event{Kind: EvAddressesOut}, "forget"},
			{3, peerIs(RoleActive, PhaseNone, 0), "drop released"},
			{4, peerIs(RoleActive, PhaseNone, 0), ""}},
		"adopted by an earlier term": {up, view, promoted, in, {1, Event{Kind: EvAdopted}, ""}, committed},
		"adopted":                    {up, view, promoted, in, committed, {1, Event{Kind: EvAdopted}, "say Active none complete=true"}},
		"released flows stay until the Active has committed and adopted them": {up, view, promoted, in, committed,
			{0, Event{Kind: EvAdopted}, "say Active none complete=true"},
			{1, Event{Kind: EvDemoting, Cause: "interface-down"},
				"say Backup none complete=true,release,active false,rush false,fence up 1s,pause 1s,released,note yield: interface-down"},
			{2, Event{Kind: EvAddressesOut}, "forget"},
			{3, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleActive, Complete: true}}, ""},
			{4, peerIs(RoleActive, PhaseNone, 0), "drop released"}},
		"a preemption waits for the complete view, then asks": {up, drained,
			{0, Event{Kind: EvPreemptDue, On: true}, ""},
			{0, peerIs(RoleActive, PhaseNone, 0), ""},
			{1, Event{Kind: EvView, Peer: 1, On: true}, "say Backup want complete=true"},
			{2, peerIs(RoleActive, PhaseDrained, 6), ""}, // another hand-over's
			{3, peerIs(RoleActive, PhaseDrained, 7), "rush true"},
			{4, Event{Kind: EvCommitted, On: true}, "say Backup committed complete=true"},
			{5, peerIs(RoleActive, PhaseGo, 7), "fence up 500ms,rush true,take over"},
			{6, Event{Kind: EvPromoting, Cause: "handed-over"},
				"fence up 500ms,active true,fenced,rush true,note takeover: handed-over,say Active committed complete=true"},
			{7, Event{Kind: EvAddressesIn}, "say Active taken complete=true"},
			{8, Event{Kind: EvCommitted, On: true}, ""}, // flows born at the giver meanwhile
			{9, peerIs(RoleBackup, PhaseDone, 7), "fence down,rush false,adopt,note takeover complete,say Active none complete=true"}},
		"a giver that falls silent ends the hand-over, the election remains": {up, view,
			{0, Event{Kind: EvPreemptDue, On: true}, ""},
			{0, peerIs(RoleActive, PhaseNone, 0), "say Backup want complete=true"},
			{2 * time.Second, Event{Kind: EvTick}, "note hand-over given up at phase want,say Backup none complete=true"},
			{2500 * time.Millisecond, Event{Kind: EvTick}, ""},
			{3 * time.Second, Event{Kind: EvTick}, "say Backup want complete=true"}},
		"giving: drained, committed, go; addresses stay until the peer has them": {up, view, promoted, in, committed, drained,
			{1, peerIs(RoleBackup, PhaseWant, 9), "say Active drained complete=true"},
			{2, peerIs(RoleBackup, PhaseCommitted, 9), "hand over,say Active go complete=true"},
			{3, Event{Kind: EvDemoting, Cause: "handed-over"}, "note yield: handed-over,say Backup go complete=true"},
			{4, peerIs(RoleActive, PhaseCommitted, 9), ""},
			{5, peerIs(RoleActive, PhaseTaken, 9), "release,active false,rush false,fence up 1s,pause 1s,released,say Backup go complete=true"},
			{6, Event{Kind: EvAddressesOut}, "forget,say Backup done complete=true"},
			{7, peerIs(RoleActive, PhaseNone, 0), "drop released,say Backup none complete=true"}},
		"a taker that gets on with its commit is not hurried": {up, drained,
			{0, Event{Kind: EvPreemptDue, On: true}, ""},
			{0, peerIs(RoleActive, PhaseNone, 0), ""},
			{1, Event{Kind: EvView, Peer: 1, On: true}, "say Backup want complete=true"},
			{3, peerIs(RoleActive, PhaseDrained, 7), "rush true"},
			{1900 * time.Millisecond, Event{Kind: EvProgress}, ""},
			{2500 * time.Millisecond, Event{Kind: EvTick}, ""},
			{3800 * time.Millisecond, Event{Kind: EvProgress}, ""},
			{5 * time.Second, Event{Kind: EvCommitted, On: true}, "say Backup committed complete=true"}},
		"a taker that does not is given up": {up, drained,
			{0, Event{Kind: EvPreemptDue, On: true}, ""},
			{0, peerIs(RoleActive, PhaseNone, 0), ""},
			{1, Event{Kind: EvView, Peer: 1, On: true}, "say Backup want complete=true"},
			{3, peerIs(RoleActive, PhaseDrained, 7), "rush true"},
			{1900 * time.Millisecond, Event{Kind: EvProgress}, ""},
			{3900 * time.Millisecond, Event{Kind: EvTick}, "note hand-over given up at phase want,rush false,say Backup none complete=true"}},
		"a giver forwards as long as the taker commits": {up, view, promoted, in, committed, drained,
			{1, peerIs(RoleBackup, PhaseWant, 9), "say Active drained complete=true"},
			{1900 * time.Millisecond, Event{Kind: EvTick}, ""},
			{3500 * time.Millisecond, Event{Kind: EvTick}, ""},
			{5 * time.Second, Event{Kind: EvTick}, ""},
			{5 * time.Second, peerIs(RoleBackup, PhaseNone, 0), "note hand-over given up at phase drained,say Active none complete=true"}},
		"giving, and the taker dies: released after 300 ms": {up, view, promoted, in, committed, drained,
			{1, peerIs(RoleBackup, PhaseWant, 9), "say Active drained complete=true"},
			{2, peerIs(RoleBackup, PhaseCommitted, 9), "hand over,say Active go complete=true"},
			{3, Event{Kind: EvDemoting, Cause: "handed-over"}, "note yield: handed-over,say Backup go complete=true"},
			{3 + 300*time.Millisecond, Event{Kind: EvTick},
				"note hand-over given up at phase go,release,active false,rush false,fence up 1s,pause 1s,released,say Backup none complete=true"}},
		"giving, and the election does not wait for the taker: released all the same": {up, view, promoted, in, committed, drained,
			{1, peerIs(RoleBackup, PhaseWant, 9), "say Active drained complete=true"},
			{2, peerIs(RoleBackup, PhaseCommitted, 9), "hand over,say Active go complete=true"},
			{3, Event{Kind: EvDemoting, Cause: "handed-over"}, "note yield: handed-over,say Backup go complete=true"},
			{4, Event{Kind: EvAddressesOut}, "release,active false,rush false,fence up 1s,pause 1s,released,forget,say Backup done complete=true"}},
		"a clean stop hands over first": {up, view, promoted, in, committed, drained,
			{1, peerIs(RoleBackup, PhaseNone, 0), ""},
			{1, Event{Kind: EvStop}, "say Active offer complete=true"},
			{2, peerIs(RoleBackup, PhaseWant, 7), "say Active drained complete=true"},
			{3, peerIs(RoleBackup, PhaseCommitted, 7), "hand over,say Active go complete=true"},
			{4, Event{Kind: EvDemoting, Cause: "handed-over"}, "note yield: handed-over,say Backup go complete=true"},
			{5, peerIs(RoleActive, PhaseTaken, 7), "release,active false,rush false,fence up 1s,pause 1s,released,say Backup go complete=true"},
			{6, Event{Kind: EvAddressesOut}, "forget,say Backup done complete=true"},
			{7, peerIs(RoleActive, PhaseNone, 0), "stop election,drop released,say Backup none complete=true"}},
		"a clean stop waits until the peer has every flow": {up, view, promoted, in, committed,
			{1, peerIs(RoleBackup, PhaseNone, 0), ""},
			{1, Event{Kind: EvStop}, "say Active offer complete=true"},
			{time.Second, peerIs(RoleBackup, PhaseWant, 9), ""},
			{3 * time.Second, Event{Kind: EvTick}, ""},
			{5 * time.Second, Event{Kind: EvTick}, ""},
			{6 * time.Second, Event{Kind: EvDrained, On: true}, "say Active drained complete=true"}},
		"but not for ever": {up, view, promoted, in, committed,
			{1, peerIs(RoleBackup, PhaseNone, 0), ""},
			{1, Event{Kind: EvStop}, "say Active offer complete=true"},
			{2, peerIs(RoleBackup, PhaseWant, 9), ""},
			{2 * time.Second, Event{Kind: EvTick}, ""},
			{4 * time.Second, Event{Kind: EvTick}, ""},
			{6 * time.Second, Event{Kind: EvTick}, ""},
			{time.Minute, Event{Kind: EvTick}, ""},
			{time.Minute + 1, Event{Kind: EvTick}, "note hand-over given up at phase offer,stop election,say Active none complete=true"}},
		"a taker waits as long as who stops offers": {up, view,
			{0, peerIs(RoleActive, PhaseOffer, 6), "say Backup want complete=true"},
			{2 * time.Second, Event{Kind: EvTick}, ""},
			{4 * time.Second, Event{Kind: EvTick}, ""},
			{5 * time.Second, peerIs(RoleActive, PhaseDrained, 7), "rush true"}},
		"and no longer": {up, view,
			{0, peerIs(RoleActive, PhaseOffer, 6), "say Backup want complete=true"},
			{2 * time.Second, Event{Kind: EvTick}, ""},
			{3 * time.Second, peerIs(RoleActive, PhaseNone, 0), ""},
			{4 * time.Second, Event{Kind: EvTick}, "note hand-over given up at phase want,say Backup none complete=true"}},
		"a taker that is silent for a moment is waited for by a clean stop": {up, view, promoted, in, committed, drained,
			{1, peerIs(RoleBackup, PhaseNone, 0), ""},
			{1, Event{Kind: EvStop}, "say Active offer complete=true"},
			{2, peerIs(RoleBackup, PhaseWant, 9), "say Active drained complete=true"},
			{3, Event{Kind: EvPeerDown, Peer: 1}, "say Active drained complete=false"},
			{time.Second, Event{Kind: EvPeerUp, Peer: 1}, ""},
			{time.Second, Event{Kind: EvView, Peer: 1, On: true}, "say Active drained complete=true"},
			{time.Second, peerIs(RoleBackup, PhaseWant, 9), ""},
			{2 * time.Second, peerIs(RoleBackup, PhaseCommitted, 9), "hand over,say Active go complete=true"}},
		"a taker that begins anew is waited for by a clean stop": {up, view, promoted, in, committed, drained,
			{1, peerIs(RoleBackup, PhaseNone, 0), ""},
			{1, Event{Kind: EvStop}, "say Active offer complete=true"},
			{2, peerIs(RoleBackup, PhaseWant, 9), "say Active drained complete=true"},
			{3, peerIs(RoleBackup, PhaseNone, 0), "note hand-over given up at phase drained,say Active offer complete=true"},
			{time.Second, peerIs(RoleBackup, PhaseWant, 10), "say Active drained complete=true"}},
		"a giver that is silent for a moment: the commit goes on": {up, drained,
			{0, Event{Kind: EvPreemptDue, On: true}, ""},
			{0, peerIs(RoleActive, PhaseNone, 0), ""},
			{1, Event{Kind: EvView, Peer: 1, On: true}, "say Backup want complete=true"},
			{3, peerIs(RoleActive, PhaseDrained, 7), "rush true"},
			{4, Event{Kind: EvPeerDown, Peer: 1}, "say Backup want complete=false"},
			{time.Second, Event{Kind: EvPeerUp, Peer: 1}, ""},
			{time.Second, Event{Kind: EvView, Peer: 1, On: true}, "say Backup want complete=true"},
			{time.Second, peerIs(RoleActive, PhaseDrained, 7), ""},
			{2 * time.Second, Event{Kind: EvCommitted, On: true}, "say Backup committed complete=true"}},
		"one that is gone is not": {up, view, promoted, in, committed, drained,
			{1, peerIs(RoleBackup, PhaseNone, 0), ""},
			{1, Event{Kind: EvStop}, "say Active offer complete=true"},
			{3, Event{Kind: EvPeerDown, Peer: 1}, "note hand-over given up at phase offer,say Active none complete=false"},
			{2*time.Second + 3, Event{Kind: EvTick}, "stop election"}},
		"a clean stop without a peer does not wait": {promoted0, in, committed, {1, Event{Kind: EvStop}, "stop election"}},
		"a clean stop nobody answers ends after one time-out": {up, view, promoted, in, committed,
			{1, peerIs(RoleBackup, PhaseNone, 0), ""},
			{1, Event{Kind: EvStop}, "say Active offer complete=true"},
			{3 * time.Second, Event{Kind: EvTick}, "note hand-over given up at phase offer,stop election,say Active none complete=true"}},
		"an Active that releases the role is succeeded at once": {up, view,
			{0, peerIs(RoleActive, PhaseNone, 0), ""},
			{1, peerIs(RoleBackup, PhaseNone, 0), "fence up 500ms,rush true,take over,note the Active released the role"},
			{2, peerIs(RoleBackup, PhaseNone, 0), ""},
			{3, Event{Kind: EvRefused}, "rush false"}},
		"not when it gave way to a third router": {up, view,
			{0, peerIs(RoleActive, PhaseNone, 0), ""},
			{1, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleBackup, Outranked: true}}, ""}},
		"not when another peer has the role": {up, view, {0, Event{Kind: EvPeerUp, Peer: 2}, ""},
			{0, peerIs(RoleActive, PhaseNone, 0), ""},
			{0, Event{Kind: EvPeerState, Peer: 2, State: State{Role: RoleActive}}, ""},
			{1, peerIs(RoleBackup, PhaseNone, 0), ""}},
		"a preemption does not wait for a peer that was never heard": {
			{0, Event{Kind: EvPreemptDue, On: true}, "say Backup none complete=false"},
			{9 * time.Second, Event{Kind: EvTick}, ""},
			{10 * time.Second, Event{Kind: EvTick}, "note no tandem peer was ever heard: preempting without a copy,fence up 500ms,rush true,take over"},
			{11 * time.Second, Event{Kind: EvTick}, ""}},
		"a preemption waits for ever for a peer that was heard once": {up,
			{0, Event{Kind: EvPreemptDue, On: true}, ""},
			{0, Event{Kind: EvPeerDown, Peer: 1}, ""},
			{time.Hour, Event{Kind: EvTick}, ""}},
		"two Actives: who remains writes the other's flows anew": {up, view, promoted, in, committed,
			{1, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleActive, Term: 1}}, ""},
			{2, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleBackup, Term: 1}}, ""}, // not all of it is here yet
			{3, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleBackup, Term: 1, Drained: true}},
				"note another router was Active as well: its flows are written anew,fence up 500ms,reclaim,rush true,announce,say Active none complete=true"},
			{4, Event{Kind: EvCommitted, On: true}, "fence down,rush false,adopt,note takeover complete"},
			{5, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleBackup, Term: 1, Drained: true, Complete: true}}, ""}},
		"a rival's advert: fence before the announcement": {up, view, promoted,
			{1, Event{Kind: EvRival}, "announce"}, in, committed, {2, Event{Kind: EvRival}, "fence up 300ms,announce"}},
		"the other Active was not heard meanwhile": {up, view, promoted, in, committed,
			{1, Event{Kind: EvPeerDown, Peer: 1}, "say Active none complete=false"},
			{2, Event{Kind: EvPeerUp, Peer: 1}, ""},
			{2, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleBackup, Term: 1, Drained: true}}, ""},
			{3, Event{Kind: EvView, Peer: 1, On: true},
				"note another router was Active as well: its flows are written anew,fence up 500ms,reclaim,rush true,announce,say Active none complete=true"}},
		"released flows stay until the other Active, silent when we took over, begins another term": {up, view,
			{0, peerIs(RoleActive, PhaseNone, 0), ""}, {0, Event{Kind: EvPeerDown, Peer: 1}, "say Backup none complete=false"},
			{0, Event{Kind: EvPromoting, Cause: "timeout"},
				"fence up 500ms,active true,fenced,rush true,note takeover: timeout,say Active none complete=false"},
			in, {0, Event{Kind: EvCommitted, On: true}, "fence down,rush false,adopt,note takeover complete"},
			{1, Event{Kind: EvPeerUp, Peer: 1}, ""}, {1, Event{Kind: EvView, Peer: 1, On: true}, "say Active none complete=true"},
			{2, Event{Kind: EvDemoting, Cause: "higher-priority"},
				"say Backup none complete=true,release,active false,rush false,fence up 1s,pause 1s,released,note yield: higher-priority"},
			{2, Event{Kind: EvAddressesOut}, "forget"},
			{3, peerIs(RoleActive, PhaseNone, 0), ""},
			{4, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleActive, Whole: true, Term: 3}}, "drop released"}},
		"a former Active's earlier terms are known": {up, view,
			{0, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleActive, Term: 3}}, ""}, promoted, in, committed,
			{1, Event{Kind: EvPeerState, Peer: 1, State: State{Role: RoleBackup, Term: 3, Drained: true}}, ""}},
		"a dead Active's copy goes when another has taken over whole, and all of it is here": {up, view,
			{0, Event{Kind: EvPeerUp, Peer: 2}, ""}, {0, Event{Kind: EvView, Peer: 2, On: true}, ""},
			{0, peerIs(RoleActive, PhaseNone, 0), ""},
			{1, Event{Kind: EvPeerDown, Peer: 1}, ""},
			{2, Event{Kind: EvPeerState, Peer: 2, State: State{Role: RoleActive, Term: 5}}, ""},
			{3 * time.Second, Event{Kind: EvPeerState, Peer: 2, State: State{Role: RoleActive, Term: 5, Whole: true}}, ""},
			{4 * time.Second, Event{Kind: EvPeerState, Peer: 2, State: State{Role: RoleActive, Term: 5, Whole: true, Drained: true}}, "bequeath"},
			{5 * time.Second, Event{Kind: EvPeerState, Peer: 2, State: State{Role: RoleActive, Term: 5, Whole: true, Drained: true, Complete: true}}, ""},
			{6 * time.Second, Event{Kind: EvPeerUp, Peer: 1}, ""},
			{7 * time.Second, Event{Kind: EvPeerDown, Peer: 1}, ""},
			{9*time.Second - 1, Event{Kind: EvTick}, ""},
			{9 * time.Second, Event{Kind: EvTick}, "bequeath"}},
		"a Backup stops at once": {up, {1, Event{Kind: EvStop}, "stop election"}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, NewMachine(Timing{Alone: 10 * time.Second}, fixedEpoch), steps)
		})
	}
}

var promoted0 = step{0, Event{Kind: EvPromoting, Cause: "timeout"},
	"fence up 500ms,active true,fenced,rush true,note takeover: timeout,say Active none complete=false"}

func TestStateSymmetry(t *testing.T) {
	for _, s := range []State{{}, {Role: RoleActive, Complete: true, Phase: PhaseGo, Epoch: 0xdeadbeef},
		{Role: RoleBackup, Phase: PhaseDone, Epoch: 1, Whole: true}, {Role: RoleBackup, Complete: true, Outranked: true},
		{Role: RoleBackup, Term: 0x01020304, Drained: true}, {Switchover: true}, {Force: true}, {Fault: true}, {Role: RoleActive, Sending: true}} {
		got, err := ParseState(s.Append(nil))
		if err != nil || got != s {
			t.Fatalf("ParseState(Append(%+v)) = %+v, %v", s, got, err)
		}
	}
	for _, bad := range [][]byte{nil, {1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		{1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {1, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if s, err := ParseState(bad); err == nil {
			t.Errorf("ParseState(%x) = %+v, want an error", bad, s)
		}
	}
}

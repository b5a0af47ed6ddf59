// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// step is one event of a table and what is to come of it, comma separated.
type step struct {
	at   time.Duration
	ev   Event
	want string
}

func play(t *testing.T, m *Machine, steps []step) {
	t.Helper()
	for i, s := range steps {
		var want []string
		if s.want != "" {
			want = strings.Split(s.want, ",")
		}
		if d := cmp.Diff(want, words(m.Step(int64(time.Hour+s.at), s.ev))); d != "" {
			t.Fatalf("step %d %+v (-want +got)\n%s", i, s.ev, d)
		}
	}
}

func then(before []step, more ...step) []step { return slices.Concat(before, more) }

func named(external bool) *Machine {
	m := NewMachine(Timing{}, fixedEpoch)
	m.name, m.external = "r1", external
	return m
}

const yieldWords = "release,active false,rush false,fence up 1s,pause 1s"

// atRest is a node with one peer that says s; active: this node has the role.
func atRest(active bool, s State) []step {
	steps := []step{{0, Event{Kind: EvPeerUp, Peer: 1, Name: "r2"}, "say Backup none complete=false"},
		{0, Event{Kind: EvView, Peer: 1, On: true}, "say Backup none complete=true"},
		{0, Event{Kind: EvDrained, On: true}, ""}}
	if active {
		steps = append(steps, step{0, Event{Kind: EvPromoting, Cause: "timeout"},
			"fence up 500ms,active true,fenced,rush true,note takeover: timeout,say Active none complete=true"},
			step{0, Event{Kind: EvAddressesIn}, ""},
			step{0, Event{Kind: EvCommitted, On: true}, "fence down,rush false,adopt,note takeover complete"})
	}
	return append(steps, step{0, Event{Kind: EvPeerState, Peer: 1, State: s}, ""})
}

func ask(to string, force bool) Event {
	return Event{Kind: EvSwitchover, Order: 3, Name: to, On: force}
}

func says(s State) Event { return Event{Kind: EvPeerState, Peer: 1, State: s} }

var (
	readyBackup = State{Role: RoleBackup, Complete: true}
	readyActive = State{Role: RoleActive, Complete: true, Whole: true, Term: 2}
)

// What is refused, with its sentence, and with force where that helps.
func TestSwitchoverRefusals(t *testing.T) {
	const lost = ": what is missing would be lost (--force goes ahead)"
	under := "another change of role is under way: see tandem status"
	for name, tt := range map[string]struct {
		active bool
		peer   State
		before []step
		to     string
		force  bool
		want   string // without "refuse "
	}{
		"giving, the peer is in fault": {active: true, peer: State{Role: RoleBackup, Complete: true, Fault: true}, force: true,
			want: "r2 cannot take over: it is in fault; tandem status there says which"},
		"giving, the copy there is not complete":         {active: true, peer: State{Role: RoleBackup}, want: "r2 does not say that its copy is complete" + lost},
		"giving, the other one is Active too":            {active: true, peer: State{Role: RoleActive}, force: true, want: "r2 is Active as well: the election has to settle that first"},
		"giving, the peer is silent":                     {active: true, peer: readyBackup, before: []step{{0, Event{Kind: EvPeerDown, Peer: 1}, "say Active none complete=false"}}, force: true, want: "no peer is heard over the sync link: nobody could take over"},
		"giving, the named peer is silent":               {active: true, to: "r2", peer: readyBackup, before: []step{{0, Event{Kind: EvPeerDown, Peer: 1}, "say Active none complete=false"}}, force: true, want: "r2 is not heard over the sync link"},
		"giving, nobody has this name":                   {active: true, to: "r9", peer: readyBackup, force: true, want: `no node is called "r9": known are r1; r2`},
		"giving, promoted but not whole":                 {active: false, peer: readyBackup, before: []step{{0, Event{Kind: EvPromoting, Cause: "timeout"}, "fence up 500ms,active true,fenced,rush true,note takeover: timeout,say Active none complete=true"}}, want: under},
		"taking, no Active is heard":                     {peer: readyBackup, force: true, want: "no Active is heard over the sync link: there is nobody to take the role from"},
		"taking, our copy is not complete":               {peer: readyActive, before: []step{{0, Event{Kind: EvView, Peer: 1}, "say Backup none complete=false"}}, want: "the copy of r2's flows is not complete here" + lost},
		"taking, in fault":                               {peer: readyActive, before: []step{{0, Event{Kind: EvFault, On: true}, "say Backup none complete=true"}}, force: true, want: "r1 cannot take over: it is in fault; tandem status says which"},
		"taking, nobody has this name":                   {to: "r9", peer: readyActive, want: `no node is called "r9": known are r1; r2`},
		"taking, for a third":                            {to: "r3", peer: readyActive, before: []step{{0, Event{Kind: EvPeerUp, Peer: 2, Name: "r3"}, ""}}, want: "r3 is neither this node nor the Active: ask on r3 or on the Active"},
		"taking, a preemption is under way":              {peer: readyActive, before: []step{{0, Event{Kind: EvPreemptDue, On: true}, "say Backup want complete=true"}}, force: true, want: under},
		"taking, while stopping":                         {peer: readyActive, before: []step{{0, Event{Kind: EvStop}, "stop election"}}, want: under},
		"giving, asked twice":                            {active: true, peer: readyBackup, before: []step{{0, Event{Kind: EvSwitchover, Order: 2}, "note switchover from r1 to r2 was asked for,say Active offer complete=true"}}, want: under},
		"the role is there already":                      {active: true, to: "r1", peer: readyBackup, want: "already r1"},
		"the role is there already, seen from elsewhere": {to: "r2", peer: readyActive, want: "already r2"},
	} {
		t.Run(name, func(t *testing.T) {
			want := "refuse " + tt.want
			if strings.HasPrefix(tt.want, "already") {
				want = tt.want
			}
			steps := append(atRest(tt.active, tt.peer), tt.before...)
			play(t, named(false), append(steps, step{1, ask(tt.to, tt.force), want}))
		})
	}
}

// A switchover, seen from the giver and from the taker, and how it may break.
func TestSwitchover(t *testing.T) {
	const asked = "note switchover from r1 to r2 was asked for,say Active offer complete=true"
	wantState := State{Role: RoleBackup, Complete: true, Phase: PhaseWant, Epoch: 9, Switchover: true}
	at := func(p Phase) State { s := wantState; s.Phase = p; return s }
	taken := State{Role: RoleActive, Complete: true, Phase: PhaseTaken, Epoch: 9, Term: 5}
	whole := State{Role: RoleActive, Complete: true, Whole: true, Term: 5}
	given := []step{
		{2, says(wantState), "say Active drained complete=true"},
		{3, says(at(PhaseCommitted)), "hand over,say Active go complete=true"},
		{4, Event{Kind: EvDemoting, Cause: "handed-over"}, "note yield: handed-over,say Backup go complete=true"},
		{5, says(taken), yieldWords + ",released,say Backup go complete=true"},
		{6, Event{Kind: EvAddressesOut}, "forget,say Backup done complete=true"}}
	done := step{7, says(whole), "note switchover: r2 is Active,done r2 is Active,drop released,say Backup none complete=true"}
	held := append(append(append(atRest(true, readyBackup), step{1, ask("", false), asked}), given...), done)
	for name, steps := range map[string][]step{
		"given, and no preemption after it": then(held,
			step{8, Event{Kind: EvPreemptDue, On: true}, ""},
			step{time.Hour, Event{Kind: EvTick}, ""}),
		"held no longer when the peer loses the role": then(held,
			step{8, Event{Kind: EvPreemptDue, On: true}, ""},
			step{9, says(State{Role: RoleBackup, Complete: true, Outranked: true, Term: 5}), ""},
			step{10, says(State{Role: RoleActive, Complete: true, Whole: true, Term: 6}), "say Backup want complete=true"}),
		"held no longer when the set ended, as after a restart": then(held,
			step{8, Event{Kind: EvEnded}, ""},
			step{9, Event{Kind: EvPreemptDue, On: true}, "say Backup want complete=true"}),
		"held although the sync link was cut": then(held,
			step{8, Event{Kind: EvPreemptDue, On: true}, ""},
			step{9, Event{Kind: EvPeerDown, Peer: 1}, "say Backup none complete=false"},
			step{10, Event{Kind: EvPeerUp, Peer: 1, Name: "r2"}, ""},
			step{11, says(whole), ""},
			step{12, Event{Kind: EvView, Peer: 1, On: true}, "say Backup none complete=true"}),
		"switched back": then(held,
			step{8, Event{Kind: EvPreemptDue, On: true}, ""},
			step{9, ask("r1", false), "note switchover from r2 to r1 was asked for,say Backup want complete=true"}),
		"asked for by the taker: the giver is held, too": append(append(append(atRest(true, readyBackup), given...),
			step{7, says(whole), "drop released,say Backup none complete=true"}),
			step{8, Event{Kind: EvPreemptDue, On: true}, ""}),
		"not answered": append(atRest(true, readyBackup), step{1, ask("r2", false), asked},
			step{3 * time.Second, Event{Kind: EvTick}, "note switchover: r2 did not answer within 2s,refuse r2 did not answer within 2s,note hand-over given up at phase offer,say Active none complete=true"}),
		"not drained": append(atRest(true, readyBackup), step{0, Event{Kind: EvDrained}, ""}, step{1, ask("r2", false), asked},
			step{2, says(wantState), ""},
			step{3 * time.Second, Event{Kind: EvTick}, "note switchover: r2 had not acknowledged every flow within 2s: what is missing would be lost (--force goes ahead)," +
				"refuse r2 had not acknowledged every flow within 2s: what is missing would be lost (--force goes ahead),note hand-over given up at phase offer,say Active none complete=true"}),
		"not drained, forced": append(atRest(true, State{Role: RoleBackup}), step{0, Event{Kind: EvDrained}, ""}, step{1, ask("r2", true), asked},
			step{2, says(wantState), ""},
			step{time.Second + 2, Event{Kind: EvTick}, "say Active drained complete=true"}),
		"the taker gives up": append(atRest(true, readyBackup), step{1, ask("", false), asked}, given[0],
			step{3, says(readyBackup), "note switchover: r2 did not say that the flows are in its kernel table,refuse r2 did not say that the flows are in its kernel table," +
				"note hand-over given up at phase drained,say Active none complete=true"}),
		"the taker commits for long": append(atRest(true, readyBackup), step{1, ask("", false), asked}, given[0],
			step{20 * time.Second, Event{Kind: EvTick}, ""}, step{21 * time.Second, says(at(PhaseCommitted)), "hand over,say Active go complete=true"}),
		"the taker falls silent": append(atRest(true, readyBackup), step{1, ask("", false), asked}, given[0],
			step{3, Event{Kind: EvPeerDown, Peer: 1}, "note switchover: the peer fell silent at phase drained,refuse the peer fell silent at phase drained," +
				"note hand-over given up at phase drained,say Active none complete=false"}),
		"the taker never takes, the role comes back": append(atRest(true, readyBackup), step{1, ask("", false), asked}, given[0], given[1], given[2],
			step{4 + 300*time.Millisecond, Event{Kind: EvTick}, "note hand-over given up at phase go," + yieldWords + ",released,say Backup none complete=true"},
			step{400 * time.Millisecond, Event{Kind: EvPromoting, Cause: "timeout"}, "fence up 500ms,active true,fenced,rush true,note takeover: timeout," +
				"note switchover: r2 did not take over: r1 took the role back,refuse r2 did not take over: r1 took the role back,say Active none complete=true"},
			step{500 * time.Millisecond, Event{Kind: EvPreemptDue, On: true}, ""}),
		"the taker takes late": append(atRest(true, readyBackup), step{1, ask("", false), asked}, given[0], given[1], given[2],
			step{4 + 300*time.Millisecond, Event{Kind: EvTick}, "note hand-over given up at phase go," + yieldWords + ",released,say Backup none complete=true"},
			step{400 * time.Millisecond, Event{Kind: EvAddressesOut}, "forget,say Backup none complete=true"},
			step{500 * time.Millisecond, says(State{Role: RoleActive, Complete: true, Term: 5}), "note switchover: r2 is Active,done r2 is Active"}),
		"taken": append(atRest(false, readyActive),
			step{1, ask("", false), "note switchover from r2 to r1 was asked for,say Backup want complete=true"},
			step{2, says(State{Role: RoleActive, Complete: true, Phase: PhaseDrained, Epoch: 7, Term: 2}), "rush true"},
			step{3 * time.Second / 2, Event{Kind: EvProgress}, ""}, // many flows: each batch is a sign of life
			step{3 * time.Second, Event{Kind: EvProgress}, ""},
			step{4 * time.Second, Event{Kind: EvCommitted, On: true}, "say Backup committed complete=true"},
			step{5 * time.Second, says(State{Role: RoleActive, Complete: true, Phase: PhaseGo, Epoch: 7, Term: 2}), "fence up 500ms,rush true,take over"},
			step{5*time.Second + 1, Event{Kind: EvPromoting, Cause: "handed-over"},
				"fence up 500ms,active true,fenced,rush true,note takeover: handed-over,say Active committed complete=true"},
			step{5*time.Second + 2, Event{Kind: EvAddressesIn}, "say Active taken complete=true"},
			step{5*time.Second + 3, Event{Kind: EvCommitted, On: true}, ""},
			step{5*time.Second + 4, says(State{Role: RoleBackup, Complete: true, Phase: PhaseDone, Epoch: 7, Term: 2}),
				"fence down,rush false,adopt,note takeover complete,note switchover: r1 is Active,done r1 is Active,say Active none complete=true"}),
		"taking, and a fault comes in between": append(atRest(false, readyActive),
			step{1, ask("r1", false), "note switchover from r2 to r1 was asked for,say Backup want complete=true"},
			step{2, Event{Kind: EvFault, On: true}, "note switchover: r1 can no longer take over: it is in fault; tandem status says which," +
				"refuse r1 can no longer take over: it is in fault; tandem status says which,note hand-over given up at phase want,say Backup none complete=true"}),
		"an offer is not answered by a node in fault": append(atRest(false, readyActive),
			step{1, Event{Kind: EvFault, On: true}, "say Backup none complete=true"},
			step{2, says(State{Role: RoleActive, Complete: true, Phase: PhaseOffer, Epoch: 5, Term: 2}), ""},
			step{3, says(State{Role: RoleBackup, Complete: true, Term: 2}), ""}), // nor a role that is free
		"taking, the Active does not let go": append(atRest(false, readyActive),
			step{1, ask("r1", false), "note switchover from r2 to r1 was asked for,say Backup want complete=true"},
			step{3 * time.Second, Event{Kind: EvTick}, "note switchover: r2 did not say within 2s that this node has acknowledged every flow: what is missing would be lost (--force goes ahead)," +
				"refuse r2 did not say within 2s that this node has acknowledged every flow: what is missing would be lost (--force goes ahead)," +
				"note hand-over given up at phase want,say Backup none complete=true"}),
	} {
		t.Run(name, func(t *testing.T) { play(t, named(false), steps) })
	}
}

// Another election: fence, commit, own flows; release. It may say things twice.
func TestExternal(t *testing.T) {
	order := func(k EventKind, n uint32) Event { return Event{Kind: k, Order: n, Cause: "keepalived"} }
	up := atRest(false, readyBackup)
	over := step{1, order(EvTakeover, 1), "fence up 500ms,active true,fenced,rush true,note takeover: keepalived,say Active none complete=true"}
	down := step{3, Event{Kind: EvCommitted, On: true}, "fence down,rush false,adopt,note takeover complete,done r1 is Active"}
	for name, steps := range map[string][]step{
		"takeover":               then(up, over, step{2, Event{Kind: EvProgress}, "fence renew 500ms"}, down),
		"asked twice meanwhile":  then(up, over, step{2, order(EvTakeover, 2), ""}, step{3, Event{Kind: EvCommitted, On: true}, "fence down,rush false,adopt,note takeover complete,done r1 is Active,done r1 is Active"}),
		"asked again afterwards": then(up, over, down, step{4, order(EvTakeover, 2), "already r1"}),
		"yield":                  then(up, over, down, step{4, order(EvYield, 2), "say Backup none complete=true," + yieldWords + ",released,forget,note yield: keepalived,done r1 has released the role,say Backup none complete=true"}),
		"yield while committing": then(up, over, step{2, order(EvYield, 2), "refuse the role was lost meanwhile: keepalived,say Backup none complete=true," + yieldWords + ",released,forget,note yield: keepalived,done r1 has released the role,say Backup none complete=true"}),
		"yield of a Backup":      then(up, step{1, order(EvYield, 1), "already "}),
		"an Active that releases is not succeeded by ourselves": then(up, step{1, says(readyActive), ""}, step{2, says(readyBackup), ""}),
		"a clean stop releases":                                 then(up, over, down, step{4, Event{Kind: EvStop}, "note yield: stopped by the operator,rush false,pause 1s,release,active false,fence down,stop election,say Backup none complete=true"}),
		"started where the addresses are: no fence, no rush": then(up, step{1, Event{Kind: EvTakeover, Order: 1, Cause: "here", On: true},
			"resume,active true,note takeover: here,rush false,adopt,note takeover complete,done r1 is Active,say Active none complete=true"}),
		"resumed before the peer is heard: its former term is no rival's": {
			{1, Event{Kind: EvTakeover, Order: 1, Cause: "here", On: true},
				"resume,active true,note takeover: here,rush false,adopt,note takeover complete,done r1 is Active,say Active none complete=false"},
			{2, Event{Kind: EvPeerUp, Peer: 1, Name: "r2"}, ""}, {2, Event{Kind: EvView, Peer: 1, On: true}, "say Active none complete=true"},
			{3, says(State{Role: RoleBackup, Complete: true, Term: 9, Drained: true}), ""},
			{4, says(State{Role: RoleActive, Complete: true, Term: 10}), ""}, // but one that begins now is
			{5, says(State{Role: RoleBackup, Complete: true, Term: 10, Drained: true}), "note another router was Active as well: its flows are written anew," +
				"fence up 500ms,reclaim,rush true,announce,say Active none complete=true"}},
		"an address before the word: the fence waits": then(up, step{1, Event{Kind: EvForeignAddress}, "fence up 500ms,note an address of the other election appeared: the fence waits for its word"}, over),
		"an address of an Active":                     then(up, over, down, step{4, Event{Kind: EvForeignAddress}, ""}),
	} {
		t.Run(name, func(t *testing.T) { play(t, named(true), steps) })
	}
}

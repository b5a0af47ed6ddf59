// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// modelNode is one node of the model: the machine, and the smallest election,
// commit and peer that obey it.
type modelNode struct {
	m         *Machine
	addresses bool
	fence     bool
	granted   bool // its addresses are on their way in without ActFenced
	said      State
	active    bool // as the replica was told
	stopped   bool
	fault     bool // its election is in Initialize
	outcomes  []Action
}

// pending is something that will happen at a node.
type pending struct {
	at int64
	to int
	ev Event
}

// model is a pair with a link that delays, and loses all but the last word:
// states are levels, so any of them may be skipped.
type model struct {
	t     *rapid.T
	now   int64
	node  [2]*modelNode
	queue []pending
	gap   int64 // how long nobody held the addresses
	hasty bool  // elections do not wait for the takers' word, as when words are slow
}

func (w *model) after(d time.Duration, to int, ev Event) {
	w.queue = append(w.queue, pending{w.now + int64(d), to, ev})
}

func (w *model) delay(label string) time.Duration {
	return time.Duration(rapid.IntRange(10, 5000).Draw(w.t, label)) * time.Microsecond
}

func (w *model) step(i int, ev Event) {
	n := w.node[i]
	switch ev.Kind {
	case EvAddressesIn:
		n.addresses = true
	case EvAddressesOut:
		n.addresses = false
	}
	for _, a := range n.m.Step(w.now, ev) {
		w.carryOut(i, a)
	}
}

func (w *model) carryOut(i int, a Action) {
	n := w.node[i]
	switch a.Kind {
	case ActFenceUp:
		n.fence = true
	case ActFenceDown:
		n.fence = false
	case ActSetActive:
		n.active = a.On
	case ActForget:
		if n.active {
			w.t.Fatalf("node %d: it writes anew what it owns", i)
		}
	case ActFenced:
		if !n.fence {
			w.t.Fatalf("node %d: addresses allowed without the fence", i)
		}
		if !n.granted {
			w.after(w.delay("install"), i, Event{Kind: EvAddressesIn})
		}
		n.granted = false
	case ActReleased:
		w.after(w.delay("remove"), i, Event{Kind: EvAddressesOut})
	case ActRush:
		if a.On {
			w.after(w.delay("commit"), i, Event{Kind: EvCommitted, On: true})
		}
	case ActTakeOver:
		if !n.fence {
			w.t.Fatalf("node %d: it takes over without the fence", i)
		}
		elected := w.delay("election")
		n.granted = !n.m.Active()
		w.after(elected, i, Event{Kind: EvPromoting, Cause: "handed-over"})
		if n.granted {
			w.after(elected+w.delay("install"), i, Event{Kind: EvAddressesIn})
		}
	case ActHandOver:
		left := w.delay("election")
		w.after(left, i, Event{Kind: EvDemoting, Cause: "handed-over"})
		if w.hasty {
			w.after(left+w.delay("release timeout"), i, Event{Kind: EvAddressesOut})
		}
		w.after(361*time.Millisecond, i, Event{Kind: EvPromoting, Cause: "timeout"}) // if nobody came
	case ActStopElection:
		n.stopped = true
		if n.m.Active() {
			w.after(w.delay("election"), i, Event{Kind: EvDemoting, Cause: "shutdown"})
		}
	case ActOutcome:
		n.outcomes = append(n.outcomes, a)
	case ActSetState:
		n.said = a.State
		w.after(w.delay("link"), 1-i, Event{Kind: EvPeerState, Peer: 1, State: a.State})
	}
}

// run lets time pass until nothing is left to happen. Words on the link
// overtake each other never: the receiver keeps the newest only.
func (w *model) run(until int64) {
	for range 10_000 {
		sort.SliceStable(w.queue, func(a, b int) bool { return w.queue[a].at < w.queue[b].at })
		next, to := until, -1
		if len(w.queue) > 0 && w.queue[0].at < next {
			next, to = w.queue[0].at, -2
		}
		for i, n := range w.node {
			if d := n.m.NextDeadline(); d != 0 && d < next {
				next, to = max(d, w.now), i
			}
		}
		if w.holders() == 0 {
			w.gap += next - w.now
		}
		w.now = next
		switch {
		case to == -1:
			return
		case to == -2:
			p := w.queue[0]
			w.queue = w.queue[1:]
			if w.void(&p) {
				continue
			}
			if p.ev.Kind == EvPeerState {
				p.ev.State = w.node[1-p.to].said // the newest word
			}
			w.step(p.to, p.ev)
		default:
			w.step(to, Event{Kind: EvTick})
		}
	}
	w.t.Fatalf("no rest after 10000 events: a deadline lies in the past for ever")
}

// void says that the election does not say this: it has moved on meanwhile.
func (w *model) void(p *pending) bool {
	switch p.ev.Kind {
	case EvPromoting:
		return !w.elects(p.to, p.ev.Cause)
	case EvAddressesOut:
		return w.node[p.to].m.Active()
	case EvAddressesIn:
		return !w.node[p.to].m.Active()
	}
	return false
}

// elects says whether an election makes a node Active: not in fault, and by its
// timers only where nobody is.
func (w *model) elects(i int, cause string) bool {
	if cause == "handed-over" {
		return !w.node[i].fault
	}
	return !w.node[i].fault && !w.node[0].m.Active() && !w.node[1].m.Active()
}

// fail brings a node into fault; an Active says priority 0.
func (w *model) fail(i int) {
	n := w.node[i]
	n.fault = true
	w.step(i, Event{Kind: EvFault, On: true})
	if n.m.Active() {
		w.step(i, Event{Kind: EvDemoting, Cause: "interface-down"})
		w.after(200*time.Millisecond, 1-i, Event{Kind: EvPromoting, Cause: "priority-zero"})
	}
}

func (w *model) holders() (n int) {
	for _, x := range w.node {
		if x.addresses {
			n++
		}
	}
	return n
}

var modelNames = [2]string{"r1", "r2"}

// newModel is a pair at rest: node 0 is Active, both views are complete.
func newModel(t *rapid.T) *model {
	w := &model{t: t, now: int64(time.Hour), hasty: rapid.Bool().Draw(t, "hasty")}
	for i := range w.node {
		n := uint32(i+1) * 1000
		w.node[i] = &modelNode{m: NewMachine(Timing{}, func() uint32 { n++; return n })}
		w.node[i].m.name = modelNames[i]
	}
	for i := range w.node {
		w.step(i, Event{Kind: EvPeerUp, Peer: 1, Name: modelNames[1-i]})
		w.step(i, Event{Kind: EvView, Peer: 1, On: true})
		w.step(i, Event{Kind: EvDrained, On: true})
	}
	w.step(0, Event{Kind: EvPromoting, Cause: "timeout"})
	w.run(w.now + int64(time.Second))
	w.gap = 0
	return w
}

// Ways to make the roles change.
const (
	byStop = iota
	byPreemption
	byOrderThere // of an operator, at the giver
	byOrderHere  // at the taker
)

// change makes node to the Active, and returns when the pair is at rest.
func (w *model) change(how, to int) {
	w.begin(how, to)
	for range rapid.IntRange(0, 4).Draw(w.t, "times own flows are not drained") {
		w.after(w.delay("dirty"), 1-to, Event{Kind: EvDrained})
		w.after(5*time.Millisecond+w.delay("drained"), 1-to, Event{Kind: EvDrained, On: true})
	}
	w.run(w.now + int64(10*time.Second))
}

// begin only asks for it.
func (w *model) begin(how, to int) {
	switch how {
	case byStop:
		w.step(1-to, Event{Kind: EvStop})
	case byPreemption:
		w.step(to, Event{Kind: EvPreemptDue, On: true})
	case byOrderThere:
		w.step(1-to, Event{Kind: EvSwitchover, Order: 1, On: rapid.Bool().Draw(w.t, "force")})
	case byOrderHere:
		w.step(to, Event{Kind: EvSwitchover, Order: 1, Name: modelNames[to]})
	}
}

// settled: node to is Active, alone, with the fence down, and nothing goes on.
func (w *model) settled(to int) {
	a, b := w.node[1-to], w.node[to]
	if a.m.stage != stageBackup || b.m.stage != stageActive || a.addresses || !b.addresses || b.fence {
		w.t.Fatalf("at rest: node %d %+v, node %d %+v", 1-to, a.m, to, b.m)
	}
	if a.m.hand.phase != PhaseNone || b.m.hand.phase != PhaseNone {
		w.t.Fatalf("hand-over still at %v, %v", a.m.hand.phase, b.m.hand.phase)
	}
	if a.active || !b.active {
		w.t.Fatalf("at rest the replicas are active: %v at node %d, %v at node %d", a.active, 1-to, b.active, to)
	}
	if w.gap != 0 && !w.hasty {
		w.t.Fatalf("nobody held the addresses for %v", time.Duration(w.gap))
	}
}

// TestHandOverModel: whatever the delays, a planned change ends with one
// Active, never leaves the addresses without a holder, and fences the taker.
// After an operator's the former Active stays a Backup, whatever its priority,
// until another one.
func TestHandOverModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t)
		how := rapid.IntRange(byStop, byOrderHere).Draw(t, "how")
		w.change(how, 1)
		w.settled(1)
		if stop := how == byStop; stop != w.node[0].stopped {
			t.Fatalf("election of node 0 stopped: %v, want %v", w.node[0].stopped, stop)
		}
		if how < byOrderThere {
			return
		}
		w.succeeded(how - byOrderThere)
		w.step(0, Event{Kind: EvPreemptDue, On: true})
		w.run(w.now + int64(10*time.Second))
		w.settled(1)
		w.change(byOrderThere+rapid.IntRange(0, 1).Draw(t, "where"), 0)
		w.settled(0)
	})
}

// succeeded: the order was answered once, where it was asked, and by success.
func (w *model) succeeded(at int) {
	for i, n := range w.node {
		if i != at && len(n.outcomes) != 0 || i == at && (len(n.outcomes) != 1 || !n.outcomes[0].On || n.outcomes[0].Active != "r2") {
			w.t.Fatalf("node %d, asked at %d: outcomes %+v", i, at, n.outcomes)
		}
		n.outcomes = nil
	}
}

// TestHandOverBreaks: the peer vanishes at any moment of a hand-over; the
// machine that is left is at rest again and can take part in another one.
func TestHandOverBreaks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t)
		w.begin(rapid.IntRange(byPreemption, byOrderHere).Draw(t, "how"), 1)
		w.run(w.now + int64(rapid.IntRange(0, 40_000).Draw(t, "us until it breaks"))*1000)
		left := rapid.IntRange(0, 1).Draw(t, "who is left")
		w.step(left, Event{Kind: EvPeerDown, Peer: 1})
		w.queue = keep(w.queue, func(p pending) bool { return p.to == left && p.ev.Kind != EvPeerState })
		w.node[1-left].m = NewMachine(Timing{}, fixedEpoch)
		w.node[1-left].addresses = false
		w.run(w.now + int64(10*time.Second))
		m := w.node[left].m
		if m.wish.on() || len(w.node[left].outcomes) > 1 {
			t.Fatalf("node %d: an order waits, or was answered twice: %+v, %+v", left, m.wish, w.node[left].outcomes)
		}
		if m.hand.phase != PhaseNone || m.stage != stageBackup && m.stage != stageActive {
			t.Fatalf("node %d is stuck: %+v", left, m)
		}
		if w.node[left].addresses != (m.stage == stageActive) {
			t.Fatalf("node %d: stage %d, addresses %v", left, m.stage, w.node[left].addresses)
		}
	})
}

// TestHandOverMeetsFault: an interface of the taker goes down at any moment of a
// planned change. The giver has the role in the end, and every order its answer.
func TestHandOverMeetsFault(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t)
		w.begin(rapid.IntRange(byPreemption, byOrderHere).Draw(t, "how"), 1)
		w.run(w.now + int64(rapid.IntRange(0, 60_000).Draw(t, "us until the fault"))*1000)
		w.fail(1)
		w.run(w.now + int64(20*time.Second))
		a, b := w.node[0], w.node[1]
		if a.m.stage != stageActive || !a.addresses || a.fence || b.m.stage != stageBackup || b.addresses {
			t.Fatalf("at rest: node 0 %+v, node 1 %+v", a.m, b.m)
		}
		if a.m.wish.on() || b.m.wish.on() || len(a.outcomes) > 1 || len(b.outcomes) > 1 {
			t.Fatalf("orders wait, or were answered twice: %+v, %+v", a.outcomes, b.outcomes)
		}
	})
}

func keep(in []pending, ok func(pending) bool) (out []pending) {
	for _, p := range in {
		if ok(p) {
			out = append(out, p)
		}
	}
	return out
}

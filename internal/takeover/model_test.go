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
	said      State
	stopped   bool
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
	case ActFenced:
		if !n.fence {
			w.t.Fatalf("node %d: addresses allowed without the fence", i)
		}
		w.after(w.delay("install"), i, Event{Kind: EvAddressesIn})
	case ActReleased:
		w.after(w.delay("remove"), i, Event{Kind: EvAddressesOut})
	case ActRush:
		if a.On {
			w.after(w.delay("commit"), i, Event{Kind: EvCommitted, On: true})
		}
	case ActTakeOver:
		w.after(w.delay("election"), i, Event{Kind: EvPromoting, Cause: "handed-over"})
	case ActHandOver:
		w.after(w.delay("election"), i, Event{Kind: EvDemoting, Cause: "handed-over"})
	case ActStopElection:
		n.stopped = true
		if n.m.Active() {
			w.after(w.delay("election"), i, Event{Kind: EvDemoting, Cause: "shutdown"})
		}
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

func (w *model) holders() (n int) {
	for _, x := range w.node {
		if x.addresses {
			n++
		}
	}
	return n
}

// newModel is a pair at rest: node 0 is Active, both views are complete.
func newModel(t *rapid.T) *model {
	w := &model{t: t, now: int64(time.Hour)}
	for i := range w.node {
		n := uint32(i+1) * 1000
		w.node[i] = &modelNode{m: NewMachine(Timing{}, func() uint32 { n++; return n })}
	}
	for i := range w.node {
		w.step(i, Event{Kind: EvPeerUp, Peer: 1})
		w.step(i, Event{Kind: EvView, Peer: 1, On: true})
		w.step(i, Event{Kind: EvDrained, On: true})
	}
	w.step(0, Event{Kind: EvPromoting, Cause: "timeout"})
	w.run(w.now + int64(time.Second))
	w.gap = 0
	return w
}

// TestHandOverModel: whatever the delays, a planned change ends with one
// Active, never leaves the addresses without a holder, and fences the taker.
func TestHandOverModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t)
		stop := rapid.Bool().Draw(t, "clean stop instead of a preemption")
		if stop {
			w.step(0, Event{Kind: EvStop})
		} else {
			w.step(1, Event{Kind: EvPreemptDue, On: true})
		}
		for range rapid.IntRange(0, 4).Draw(t, "times own flows are not drained") {
			w.after(w.delay("dirty"), 0, Event{Kind: EvDrained})
			w.after(5*time.Millisecond+w.delay("drained"), 0, Event{Kind: EvDrained, On: true})
		}
		w.run(w.now + int64(10*time.Second))
		a, b := w.node[0], w.node[1]
		if a.m.stage != stageBackup || b.m.stage != stageActive || a.addresses || !b.addresses || b.fence {
			t.Fatalf("at rest: node 0 %+v, node 1 %+v", a.m, b.m)
		}
		if a.m.hand.phase != PhaseNone || b.m.hand.phase != PhaseNone {
			t.Fatalf("hand-over still at %v, %v", a.m.hand.phase, b.m.hand.phase)
		}
		if w.gap != 0 {
			t.Fatalf("nobody held the addresses for %v", time.Duration(w.gap))
		}
		if stop != a.stopped {
			t.Fatalf("election of node 0 stopped: %v, want %v", a.stopped, stop)
		}
	})
}

// TestHandOverBreaks: the peer vanishes at any moment of a hand-over; the
// machine that is left is at rest again and can take part in another one.
func TestHandOverBreaks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t)
		w.step(1, Event{Kind: EvPreemptDue, On: true})
		w.run(w.now + int64(rapid.IntRange(0, 40_000).Draw(t, "us until it breaks"))*1000)
		left := rapid.IntRange(0, 1).Draw(t, "who is left")
		w.step(left, Event{Kind: EvPeerDown, Peer: 1})
		w.queue = keep(w.queue, func(p pending) bool { return p.to == left && p.ev.Kind != EvPeerState })
		w.node[1-left].m = NewMachine(Timing{}, fixedEpoch)
		w.node[1-left].addresses = false
		w.run(w.now + int64(10*time.Second))
		m := w.node[left].m
		if m.hand.phase != PhaseNone || m.stage != stageBackup && m.stage != stageActive {
			t.Fatalf("node %d is stuck: %+v", left, m)
		}
		if w.node[left].addresses != (m.stage == stageActive) {
			t.Fatalf("node %d: stage %d, addresses %v", left, m.stage, w.node[left].addresses)
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

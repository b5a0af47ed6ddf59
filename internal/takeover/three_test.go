// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// trio is three nodes that hear each other's newest state in any order. Node i
// knows node j as peer j.
type trio struct {
	t     *rapid.T
	now   int64
	node  [3]*Machine
	said  [3]State
	new   [3][3]bool // new[i][j]: j has not heard what i said last
	taken []int      // who was told to take over
}

func newTrio(t *rapid.T) *trio {
	w := &trio{t: t, now: int64(time.Hour)}
	for i := range w.node {
		n := uint32(i+1) * 1000
		w.node[i] = NewMachine(Timing{}, func() uint32 { n++; return n })
		w.node[i].name = fmt.Sprintf("r%d", i+1)
	}
	for i := range w.node {
		for j := range w.node {
			if i != j {
				w.step(i, Event{Kind: EvPeerUp, Peer: PeerID(j), Name: w.node[j].name})
				w.step(i, Event{Kind: EvView, Peer: PeerID(j), On: true})
			}
		}
		w.step(i, Event{Kind: EvDrained, On: true})
	}
	w.step(0, Event{Kind: EvPromoting, Cause: "timeout"})
	w.step(0, Event{Kind: EvAddressesIn})
	w.settle()
	return w
}

func (w *trio) step(i int, ev Event) {
	for _, a := range w.node[i].Step(w.now, ev) {
		switch a.Kind {
		case ActSetState:
			w.said[i] = a.State
			w.new[i] = [3]bool{i != 0, i != 1, i != 2}
		case ActTakeOver:
			w.taken = append(w.taken, i)
			defer w.step(i, Event{Kind: EvPromoting, Cause: "handed-over"})
		case ActFenced:
			defer w.step(i, Event{Kind: EvAddressesIn})
		case ActHandOver:
			defer w.step(i, Event{Kind: EvDemoting, Cause: "handed-over"})
		case ActStopElection:
			if w.node[i].Active() {
				defer w.step(i, Event{Kind: EvDemoting, Cause: "shutdown"})
			}
		case ActReleased:
			defer w.step(i, Event{Kind: EvAddressesOut})
		case ActRush:
			if a.On {
				defer w.step(i, Event{Kind: EvCommitted, On: true})
			}
		}
	}
}

// settle lets words arrive, in any order, until none is on its way.
func (w *trio) settle() {
	for range 1000 {
		var due [][2]int
		for i := range w.new {
			for j := range w.new[i] {
				if w.new[i][j] {
					due = append(due, [2]int{i, j})
				}
			}
		}
		if len(due) == 0 {
			return
		}
		next := due[rapid.IntRange(0, len(due)-1).Draw(w.t, "next word")]
		w.new[next[0]][next[1]] = false
		w.now += int64(time.Millisecond)
		w.step(next[1], Event{Kind: EvPeerState, Peer: PeerID(next[0]), State: w.said[next[0]]})
	}
	w.t.Fatalf("words for ever: %+v", w.said)
}

// TestOneTakerOfSeveral: whether the Active stops or an operator names somebody,
// one Backup takes over, and the named one.
func TestOneTakerOfSeveral(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newTrio(t)
		to := -1
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			w.step(0, Event{Kind: EvStop})
		case 1:
			to = rapid.IntRange(1, 2).Draw(t, "to")
			w.step(0, Event{Kind: EvSwitchover, Order: 1, Name: w.node[to].name})
		case 2:
			to = rapid.IntRange(1, 2).Draw(t, "to")
			w.step(to, Event{Kind: EvSwitchover, Order: 1})
		}
		w.settle()
		if len(w.taken) != 1 || to >= 0 && w.taken[0] != to {
			t.Fatalf("nodes %v were told to take over, want one (%d)", w.taken, to)
		}
		for i, m := range w.node {
			if m.Active() != (i == w.taken[0]) {
				t.Fatalf("node %d: Active is %t, and %v took over", i, m.Active(), w.taken)
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/conntrack"
)

// trio is three nodes over wires that lose nothing; one without power neither
// hears nor is heard.
type trio struct {
	now  int64
	node [3]*Node
	peer [3][3]*Peer // peer[i][j]: i's idea of j
	off  [3]bool
	kern [3]map[conntrack.Key]bool // kernel tables
}

func newTrio() *trio {
	w := &trio{now: 1e12}
	for i, name := range []string{"a", "b", "c"} {
		w.node[i] = testNode(name, uint64(i+1))
		w.kern[i] = map[conntrack.Key]bool{}
	}
	for i := range w.peer {
		for j := range w.peer {
			if i != j {
				w.peer[i][j] = w.node[i].AddPeer("", w.now)
			}
		}
	}
	return w
}

func (w *trio) run(d time.Duration) {
	buf := make([]byte, 1472)
	for end := w.now + int64(d); w.now < end; w.now += ms {
		for i, n := range w.node {
			if w.off[i] {
				continue
			}
			n.Tick(w.now)
			for j := range w.node {
				if i == j {
					continue
				}
				for size := w.peer[i][j].Fill(buf, w.now); size > 0; size = w.peer[i][j].Fill(buf, w.now) {
					if !w.off[j] {
						_ = w.peer[j][i].Receive(buf[:size], w.now)
					}
				}
			}
			w.commit(i)
		}
	}
}

// commit does what a view asks for, as the committer does, and counts nothing
// as a failure.
func (w *trio) commit(i int) {
	for j := range w.node {
		if i == j {
			continue
		}
		v := w.peer[i][j].View()
		ops, tokens := v.Pending(nil, nil, 1000, 0, w.now)
		for _, op := range ops {
			if k := op.Flow.Key(); op.Kind == conntrack.OpDelete {
				delete(w.kern[i], k)
			} else {
				w.kern[i][k] = true
			}
		}
		v.Done(tokens, ops)
	}
}

// promote makes a node Active and adopts what its views have.
func (w *trio) promote(i int) {
	w.node[i].SetActive(true)
	for w.node[i].Adopt(1000, w.now) {
	}
}

// TestHeir: a died, b took over. c's copy of a goes flow by flow as b tells
// them; what b does not tell goes by Bequeath. What c's kernel table has passes
// over without being written again.
func TestHeir(t *testing.T) {
	w := newTrio()
	a, b, c := 0, 1, 2
	w.node[a].SetActive(true)
	flows := []*conntrack.Flow{tcpFlow(1), tcpFlow(2), udpFlow6(3), tcpFlow(4)}
	for _, f := range flows {
		w.node[a].Tell(f, w.now)
	}
	w.run(100 * time.Millisecond)
	if v := w.peer[c][a].View(); v.Len() != 4 || !v.Complete() || len(w.kern[c]) != 4 {
		t.Fatalf("c has %d flows of a (complete %v), %d committed", v.Len(), v.Complete(), len(w.kern[c]))
	}
	w.off[a] = true
	w.run(400 * time.Millisecond)
	k := flows[3].Key()
	w.peer[b][a].View().ended(&k) // it ended before b took over
	written := w.peer[c][a].View().Stats().Committed
	w.promote(b)
	flows[1].Mark = 7 // changed under b
	w.node[b].Tell(flows[1], w.now)
	w.run(100 * time.Millisecond)

	restore(flows[0]) // b has it from its view alone
	if diff := cmp.Diff(normalised(flows[:3]...), flowsOf(w.peer[c][b].View())); diff != "" {
		t.Errorf("c's view of b (-want +got):\n%s", diff)
	}
	if v := w.peer[c][a].View(); v.Len() != 1 || v.Complete() {
		t.Errorf("c has %d flows of a, want the one that b does not tell; complete %v", v.Len(), v.Complete())
	}
	if n := w.peer[c][a].View().Stats().Committed + w.peer[c][b].View().Stats().Committed - written; n != 1 {
		t.Errorf("%d flows were written again, want the one that changed", n)
	}
	if n, _ := w.node[b].Backlog(w.now); n != 0 {
		t.Errorf("b waits for the dead: %d flows", n)
	}
	w.node[c].Bequeath(w.peer[c][a], w.now)
	w.run(50 * time.Millisecond)
	if v := w.peer[c][a].View(); v.Len() != 0 || len(w.kern[c]) != 3 || w.kern[c][k] {
		t.Errorf("after Bequeath: %d flows of a, %d in the kernel table", v.Len(), len(w.kern[c]))
	}

	// It was no death but a partition, and a has gone on: all of it comes again.
	w.off[a] = false
	w.run(300 * time.Millisecond)
	if v := w.peer[c][a].View(); !v.Complete() || cmp.Diff(flowsOfOwn(w.node[a]), flowsOf(v)) != "" {
		t.Errorf("after its return c has %d flows of a (complete %v), want %d", v.Len(), v.Complete(), w.node[a].OwnLen())
	}
}

// TestBequeathSpares: what another view has too stays in the kernel table, and
// nobody who is heard, or asked while Active, loses anything.
func TestBequeathSpares(t *testing.T) {
	w := newTrio()
	a, b, c := 0, 1, 2
	w.node[a].SetActive(true)
	w.node[a].Tell(tcpFlow(1), w.now)
	w.run(100 * time.Millisecond)
	w.node[c].Bequeath(w.peer[c][a], w.now)
	w.run(20 * time.Millisecond)
	if n := w.peer[c][a].View().Len(); n != 1 {
		t.Fatalf("a is heard, and c has %d flows of it", n)
	}
	w.promote(b) // while a is heard: two Actives
	w.run(20 * time.Millisecond)
	if n, m := w.peer[c][a].View().Len(), w.peer[c][b].View().Len(); n != 1 || m != 1 {
		t.Fatalf("two Actives: c has %d and %d flows", n, m)
	}
	w.off[a] = true
	w.run(400 * time.Millisecond)
	w.node[c].SetActive(true)
	w.node[c].Bequeath(w.peer[c][a], w.now)
	w.run(20 * time.Millisecond)
	if n := w.peer[c][a].View().Len(); n != 1 {
		t.Fatalf("c is Active, and has %d flows of a", n)
	}
	w.node[c].SetActive(false)
	w.node[c].Bequeath(w.peer[c][a], w.now)
	w.run(20 * time.Millisecond)
	if n := w.peer[c][a].View().Len(); n != 0 || len(w.kern[c]) != 1 {
		t.Errorf("c has %d flows of a, %d in its kernel table, want 0 and 1", n, len(w.kern[c]))
	}
}

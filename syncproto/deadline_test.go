// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"testing"
	"time"
)

// TestDeadlines: whoever fills at the deadlines only, and when something came or
// was told, as the runner does, sends every change in time, over one path or
// two.
func TestDeadlines(t *testing.T) {
	const hop = int64(50 * time.Microsecond)
	for _, w := range []*wires{newWires([2]int{1472, 1472}), ethernet()} {
		told, mark, worst := int64(0), uint32(0), int64(0)
		noise := seeded(7)
		next := w.now + int64(100*time.Millisecond)
		for end := w.now + int64(20*time.Second); w.now < end; {
			w.now += hop
			if w.now >= next {
				mark++
				told, next = w.now, w.now+int64(noise.IntN(30)+10)*ms
				w.change(0, mark)
			}
			for _, side := range []struct {
				n         *Node
				p, to     *Peer
				direction int
			}{{w.a, w.ab, w.ba, 1}, {w.b, w.ba, w.ab, 0}} {
				if side.n.NextDeadline() <= w.now {
					side.n.Tick(w.now)
				}
				for i, pa := range side.p.paths {
					if pa.Deadline() <= w.now {
						w.carry(i, pa, side.to.paths[i], side.direction)
					}
					if pa.Deadline() <= w.now {
						t.Fatalf("path %d has something to send, and does not send it", i)
					}
				}
			}
			k := tcpFlow(0).Key()
			if j, ok := w.ba.view.find(&k); told != 0 && ok && w.ba.view.table(k.Family).mutable(j).mark == mark {
				worst, told = max(worst, w.now-told), 0
			}
		}
		if mark < 100 || worst > 2*ms {
			t.Errorf("%d paths: %d changes, the worst took %v", len(w.size), mark, time.Duration(worst))
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"fmt"
	"testing"

	"github.com/tandem-ha/tandem/conntrack"
)

// TestIndex holds a table against a plain map while flows come and go, more and
// then fewer, whatever room its values leave for marks.
func TestIndex(t *testing.T) {
	for _, limit := range []int{5, 60, 3000, 1 << 23, maxEntries} {
		for k, flow := range [kinds]func(uint32) *conntrack.Flow{kind4: tcpFlow, kind6: udpFlow6} {
			t.Run(fmt.Sprintf("%d flows of kind %d", limit, k), func(t *testing.T) {
				var tab table
				tab.init(kind(k), limit, 42)
				rnd, held := seeded(uint64(limit)), map[uint32]uint32{}
				for _, most := range []int{20000, 50, 1000} {
					for range 60000 {
						i := rnd.Uint32N(uint32(2 * min(most, limit)))
						churn(t, &tab, held, i, flow(i), min(most, limit))
					}
					check(t, &tab, held, flow)
				}
			})
		}
	}
}

// churn lets flow i go if it is held, else come if there is room.
func churn(t *testing.T, tab *table, held map[uint32]uint32, i uint32, f *conntrack.Flow, most int) {
	if e, ok := held[i]; ok {
		tab.release(e)
		delete(held, i)
		return
	}
	if len(held) >= most {
		return
	}
	e, ok := tab.alloc()
	if !ok {
		t.Fatalf("no room for flow %d beside %d", i, len(held))
	}
	k, rk := f.Key(), f.ReplyKey()
	tab.store(e, f, tab.hash(&k), tab.hash(&rk))
	held[i] = e
}

func check(t *testing.T, tab *table, held map[uint32]uint32, flow func(uint32) *conntrack.Flow) {
	for i := range uint32(50000) {
		e, ok := held[i]
		k, rk := flow(i).Key(), flow(i).ReplyKey()
		if j, reply, found := tab.find(&k); found != ok || ok && (j != e || reply) {
			t.Fatalf("original tuple of flow %d: entry %d, reply %v, found %v; want %d, %v", i, j, reply, found, e, ok)
		}
		if j, reply, found := tab.find(&rk); found != ok || ok && (j != e || !reply) {
			t.Fatalf("reply tuple of flow %d: entry %d, reply %v, found %v; want %d, %v", i, j, reply, found, e, ok)
		}
	}
	live, cells := uint32(0), uint32(0)
	for i := range tab.tuples.shards {
		s := &tab.tuples.shards[i]
		live, cells = live+s.live, cells+s.size()
		if s.used < s.live || s.used*8 > s.size()*7 {
			t.Errorf("shard %d: %d cells, %d used, %d live", i, s.size(), s.used, s.live)
		}
	}
	if int(live) != 2*len(held) || tab.tuples.purged != 0 {
		t.Errorf("%d values of %d flows in %d cells, %d purged", live, len(held), cells, tab.tuples.purged)
	}
}

// TestIndexIsDense: from 100,000 flows on an index has some 14 bytes for both
// tuples of each, whatever their number.
func TestIndexIsDense(t *testing.T) {
	var tab table
	tab.init(kind4, 1<<23, 42)
	sum, n := 0.0, 0
	for i := range uint32(400000) {
		f := tcpFlow(i)
		e, _ := tab.alloc()
		k, rk := f.Key(), f.ReplyKey()
		tab.store(e, f, tab.hash(&k), tab.hash(&rk))
		if i < 100000 || i%20000 != 0 {
			continue
		}
		cells := uint32(0)
		for j := range tab.tuples.shards {
			cells += tab.tuples.shards[j].size()
		}
		per := float64(cells) * 5 / float64(i)
		if sum, n = sum+per, n+1; per > 18 {
			t.Errorf("%d flows: %.1f B each", i, per)
		}
	}
	t.Logf("%.1f B for both tuples of a flow", sum/float64(n))
	if sum/float64(n) > 14.5 {
		t.Errorf("%.1f B for both tuples of a flow, want at most 14.5", sum/float64(n))
	}
}

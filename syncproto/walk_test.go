// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// A walk in slices shows what a walk at once shows, whatever comes or goes
// between slices: each flow that stays once.
func TestSlices(t *testing.T) {
	c := newCouple()
	c.run(50 * time.Millisecond)
	const n = 500
	for i := range uint32(n) {
		c.a.Tell(tcpFlow(i), c.now)
		c.a.Tell(udpFlow6(i), c.now)
	}
	c.run(50 * time.Millisecond)
	own, view := map[conntrack.Key]int{}, map[conntrack.Key]int{}
	for at, more := uint32(0), uint32(n); ; more++ {
		at = c.a.OwnSlice(at, 97, func(f *conntrack.Flow) { own[f.Key()]++ })
		if at == 0 {
			break
		}
		c.a.Tell(tcpFlow(more), c.now) // one comes, one goes
		c.a.Gone(udpFlow6(more-n), c.now)
	}
	c.run(50 * time.Millisecond)
	for at := c.b.Peers()[0].View().Slice(0, 97, func(f *conntrack.Flow) { view[f.Key()]++ }); at != 0; {
		at = c.b.Peers()[0].View().Slice(at, 97, func(f *conntrack.Flow) { view[f.Key()]++ })
	}
	for i := uint32(50); i < n; i++ { // what stays
		for _, f := range []*conntrack.Flow{tcpFlow(i), udpFlow6(i)} {
			if k := f.Key(); own[k] != 1 || view[k] != 1 {
				t.Fatalf("flow %d was shown %d times among own flows, %d in the view", i, own[k], view[k])
			}
		}
	}
	if got := len(flowsOf(c.b.Peers()[0].View())); got != len(view) {
		t.Errorf("in slices the view has %d flows, at once %d", len(view), got)
	}
}

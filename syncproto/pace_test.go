// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/conntrack"
)

// TestPace: what goes out is the rate, whatever is asked for, and not more
// than a few milliseconds of it after a silence.
func TestPace(t *testing.T) {
	for _, tt := range []struct {
		rate int64
		size int
	}{{100e3, 1472}, {1e6, 1472}, {50e6, 1472}, {50e6, 8972}, {10e9, 8972}} {
		var c pace
		total, start := int64(0), int64(1e12)
		burst := int64(0)
		for now := start; now < start+int64(time.Second); now += 100e3 {
			for c.until <= now {
				c.spend(tt.size, tt.size, tt.rate, now)
				total += int64(tt.size)
			}
			if now == start {
				burst = total
			}
		}
		if want := 5*tt.rate/1000 + 2*int64(tt.size); burst > want {
			t.Errorf("rate %d: a burst of %d, want at most %d", tt.rate, burst, want)
		}
		if off := total - burst - tt.rate; off < -tt.rate/10 || off > tt.rate/10 {
			t.Errorf("rate %d: %d bytes in a second", tt.rate, total-burst)
		}
	}
	var c pace
	if c.spend(1e9, 1472, 0, 1e12) || c.until != 0 {
		t.Error("no rate holds something back")
	}
}

// pacedCouple is a couple whose first node may send so many bytes/s of records.
func pacedCouple(rate int64) *couple {
	c := newCouple()
	c.a = New(Config{Policy: conntrack.DefaultPolicy(), Rand: seeded(1), Name: "a", Rate: rate})
	c.ab = c.a.AddPeer("to b", c.now)
	return c
}

// TestPacedJoin: a join takes as long as the rate says, and is whole.
func TestPacedJoin(t *testing.T) {
	const rate, flows = 1e6, 20000
	c := pacedCouple(rate)
	for i := range uint32(flows) {
		c.a.Tell(tcpFlow(i), c.now)
	}
	begin, before := c.now, c.ab.Stats().SentBytes
	for !c.ba.View().Complete() {
		c.run(time.Millisecond)
	}
	took, sent := time.Duration(c.now-begin), float64(c.ab.Stats().SentBytes-before)
	t.Logf("%d flows, %.0f bytes in %v", flows, sent, took)
	if at := sent / took.Seconds(); at > 1.15*rate || at < 0.85*rate {
		t.Errorf("%.0f bytes/s, want %.0f", at, float64(rate))
	}
	if c.ba.View().Len() != flows || c.ab.Stats().Paced == 0 {
		t.Errorf("view of %d, %+v", c.ba.View().Len(), c.ab.Stats())
	}
}

// TestOverload: flows change fifty times as fast as may be sent. The sender
// keeps to the rate and to its memory, no flow waits longer than one round over
// all, what is not a flow is not held back, and at the end the peer has the
// newest content of each.
func TestOverload(t *testing.T) {
	const rate, flows, seconds = 200e3, 5000, 2
	c := pacedCouple(rate)
	for i := range uint32(flows) {
		c.a.Tell(tcpFlow(i), c.now)
	}
	for !c.ba.View().Complete() {
		c.run(10 * time.Millisecond)
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	f, mark := tcpFlow(0), uint32(0)
	storm := func(d time.Duration) (worst time.Duration) {
		for end := c.now + int64(d); c.now < end; {
			for range int(50 * rate / 1000 / 8) { // a change is 8 bytes on the wire
				mark++
				i := mark % flows
				f.Orig.Src[2], f.Orig.Src[3], f.Orig.SrcPort = byte(i>>16), byte(i>>8), uint16(1024+i&0xff)
				f.Reply.Dst[3], f.Reply.DstPort, f.Mark = byte(i>>16), uint16(i), mark
				c.a.Tell(f, c.now)
			}
			c.run(time.Millisecond)
			n, oldest := c.ab.Backlog(c.now)
			if worst = max(worst, oldest); n > flows || c.ab.out.fresh.n+c.ab.out.again.n > 2*flows {
				t.Fatalf("%d flows wait in queues of %d and %d, there are %d", n, c.ab.out.fresh.n, c.ab.out.again.n, flows)
			}
		}
		return worst
	}
	storm(200 * time.Millisecond)
	before, s := heap(), c.ab.Stats()
	worst := storm(seconds * time.Second)
	grown, now := heap()-before, c.ab.Stats()
	records, sent := now.SentShort-s.SentShort, float64(now.SentBytes-s.SentBytes)/seconds
	round := time.Duration(flows) * seconds * time.Second / time.Duration(records)
	t.Logf("%.0f bytes/s; a round over all takes %v, the oldest waited %v; memory grew by %d bytes", sent, round, worst, grown)
	if sent > 1.2*rate || sent < 0.9*rate {
		t.Errorf("%.0f bytes/s, want %.0f", sent, float64(rate))
	}
	if worst > 2*round || worst < round/2 {
		t.Errorf("a flow waited %v, want about a round of %v", worst, round)
	}
	if grown > 2<<20 { // the ring of what is on the way fills up with its records
		t.Errorf("memory grew by %d bytes over %d changes", grown, mark)
	}

	c.b.Events()
	c.a.SetState([]byte("still here"), c.now)
	storm(2 * time.Millisecond)
	if ev := c.b.Events(); len(ev) != 1 || ev[0].Kind != PeerState || now.Sessions != 1 {
		t.Errorf("state was held back: %+v", ev)
	}
	c.a.Release(c.now)
	storm(3 * time.Millisecond)
	if !c.ba.view.released {
		t.Error("RELEASE was held back")
	}
	for at := c.now; !c.ab.Drained(); c.run(time.Millisecond) {
		if c.now-at > int64(2*round) {
			t.Fatalf("after two rounds: %+v", c.ab.Stats())
		}
	}
	if diff := cmp.Diff(flowsOfOwn(c.a), flowsOf(c.ba.View())); diff != "" {
		t.Errorf("the view (-own +view):\n%s", diff)
	}
}

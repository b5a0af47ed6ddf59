// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// warm gives a couple whose flows 0 to n-1 are known on both sides.
func warm(n uint32) *couple {
	c := newCouple()
	for i := range n {
		c.a.Tell(tcpFlow(i), c.now)
	}
	for c.ba.View().Len() < int(n) || !c.ab.Drained() {
		c.run(10 * time.Millisecond)
	}
	return c
}

// TestNoAllocation: the way of a change from Tell to the peer's view takes no
// memory once both sides have seen as many flows.
func TestNoAllocation(t *testing.T) {
	c := warm(1000)
	buf := make([]byte, 1472)
	f := tcpFlow(0)
	round := func() {
		for i := range uint32(100) {
			f.Orig.SrcPort = uint16(1024 + i)
			f.Reply.DstPort = uint16(i)
			f.Mark++
			c.a.Tell(f, c.now)
			if i%10 == 0 {
				c.a.Gone(f, c.now)
			}
		}
		for range 3 {
			c.now += 2 * ms
			c.a.Tick(c.now)
			c.b.Tick(c.now)
			for n := c.ab.Fill(buf, c.now); n > 0; n = c.ab.Fill(buf, c.now) {
				_ = c.ba.Receive(buf[:n], c.now)
			}
			for n := c.ba.Fill(buf, c.now); n > 0; n = c.ba.Fill(buf, c.now) {
				_ = c.ab.Receive(buf[:n], c.now)
			}
		}
	}
	for range 3000 { // every flight has had its records, every shard its growth
		round()
	}
	before := c.ab.Stats().SentShort
	if n := testing.AllocsPerRun(200, round); n >= 1 {
		t.Errorf("%v allocations per round of 100 changes", n)
	}
	if c.ab.Stats().SentShort-before < 200*80 {
		t.Errorf("the rounds did not send: %+v", c.ab.Stats())
	}
}

// TestMemory holds 72 bytes per flow on either side, for IPv4 TCP behind SNAT.
// It is the heap that counts here; nothing else is kept. The aim of 80 is for
// the whole daemon.
func TestMemory(t *testing.T) {
	const flows = 300000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	c := newCouple()
	c.run(50 * time.Millisecond)
	start := heap()
	for i := range uint32(flows) {
		c.a.Tell(tcpFlow(i), c.now)
	}
	sender := heap() - start
	for c.ba.View().Len() < flows || !c.ab.Drained() {
		c.run(10 * time.Millisecond)
	}
	both := heap() - start
	runtime.KeepAlive(c)
	t.Logf("own flows %d B per flow with a full queue, both sides together %d B", sender/flows, both/flows)
	if sender/flows > 72 || both/flows > 144 {
		t.Errorf("%d B per own flow, %d B on both sides, want at most 72 each", sender/flows, both/flows)
	}
}

func BenchmarkTellNew(b *testing.B) {
	n := testNode("a", 1)
	f := tcpFlow(0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f.Orig.Src = conntrack.Addr{10, byte(i >> 24), byte(i >> 16), byte(i >> 8)}
		f.Orig.SrcPort, f.Reply.DstPort = uint16(i&0xff), uint16(i)
		f.Reply.Dst = conntrack.Addr{11, byte(i >> 24), byte(i >> 16)}
		n.Tell(f, int64(i))
		if i&0xfffff == 0xfffff {
			b.StopTimer()
			n = testNode("a", 1)
			b.StartTimer()
		}
	}
}

// BenchmarkChange is a change of one of 100,000 flows, told, sent, received,
// applied, acknowledged.
func BenchmarkChange(b *testing.B) {
	c := warm(100000)
	buf := make([]byte, 1472)
	b.ReportAllocs()
	bytes := 0
	for i := uint32(0); b.Loop(); i++ {
		f := tcpFlow(i * 7919 % 100000)
		f.Mark = i
		c.a.Tell(f, c.now)
		if i%200 == 0 {
			c.now += ms
			for n := c.ab.Fill(buf, c.now); n > 0; n = c.ab.Fill(buf, c.now) {
				_ = c.ba.Receive(buf[:n], c.now)
				bytes += n
			}
			for n := c.ba.Fill(buf, c.now); n > 0; n = c.ba.Fill(buf, c.now) {
				_ = c.ab.Receive(buf[:n], c.now)
			}
		}
	}
	b.ReportMetric(float64(bytes)/float64(b.N), "bytes/change")
}

// BenchmarkLife is a flow from its birth to its end, of which the peer hears,
// with one change between: of so many that live at a time.
func BenchmarkLife(b *testing.B) {
	for _, alive := range []uint32{20_000, 500_000} {
		b.Run(fmt.Sprint(alive), func(b *testing.B) { benchmarkLife(b, alive) })
	}
}

func benchmarkLife(b *testing.B, alive uint32) {
	c := warm(alive)
	buf := make([]byte, 1472)
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		c.a.Tell(tcpFlow(alive+i), c.now)
		f := tcpFlow(alive/2 + i)
		f.Mark = 1
		c.a.Tell(f, c.now)
		c.a.Gone(tcpFlow(i), c.now)
		if i%64 == 0 {
			c.now += 4 * ms
			for n := c.ab.Fill(buf, c.now); n > 0; n = c.ab.Fill(buf, c.now) {
				_ = c.ba.Receive(buf[:n], c.now)
			}
			for n := c.ba.Fill(buf, c.now); n > 0; n = c.ba.Fill(buf, c.now) {
				_ = c.ab.Receive(buf[:n], c.now)
			}
		}
	}
}

// BenchmarkRelease is how long the lock is held when the role is left with a
// million own flows: an election waits for it.
func BenchmarkRelease(b *testing.B) {
	c := warm(1_000_000)
	for b.Loop() {
		c.a.Release(c.now)
		b.StopTimer()
		for i := range uint32(1_000_000) {
			c.a.Tell(tcpFlow(i), c.now)
		}
		b.StartTimer()
	}
}

// BenchmarkReclaim is the same where two were Active and the peer gave the role up.
func BenchmarkReclaim(b *testing.B) {
	c := warm(1_000_000)
	c.b.SetActive(true)
	v, most := c.ba.View(), time.Duration(0)
	held := func(fn func()) {
		began := time.Now()
		fn()
		most = max(most, time.Since(began))
	}
	for b.Loop() {
		b.StopTimer()
		for i := range uint32(1_000_000) {
			c.b.Tell(tcpFlow(i), c.now)
		}
		b.StartTimer()
		held(func() { c.b.Reclaim(c.ba, c.now) })
		for v.Forgetting() {
			held(func() { v.Done(nil, nil); v.Pending(nil, nil, 0, 0, c.now) })
		}
	}
	b.ReportMetric(float64(most.Microseconds()), "µs-held")
}

// BenchmarkJoin is the whole of a million flows going to a peer that has none.
func BenchmarkJoin(b *testing.B) {
	const flows = 1000000
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		n := testNode("a", 1)
		for i := range uint32(flows) {
			n.Tell(tcpFlow(i), 1e12)
		}
		c := &couple{now: 1e12, a: n, b: testNode("b", 2)}
		c.ab, c.ba = c.a.AddPeer("b", c.now), c.b.AddPeer("a", c.now)
		b.StartTimer()
		for !c.ba.View().Complete() {
			c.run(5 * time.Millisecond)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/flows, "ns/flow")
}

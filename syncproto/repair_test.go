// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// quick is a couple whose digests come round in the time of a heartbeat.
func quick(flows uint32) *couple {
	c := newCouple()
	c.a.cfg.DigestRound, c.b.cfg.DigestRound = 50*time.Millisecond, 50*time.Millisecond
	for i := range flows {
		c.a.Tell(tcpFlow(i), c.now)
		if i%3 == 0 {
			c.a.Tell(udpFlow6(i), c.now)
		}
	}
	c.run(200 * time.Millisecond)
	return c
}

func (c *couple) want(t *testing.T, what string) {
	t.Helper()
	want := map[conntrack.Key]conntrack.Flow{}
	c.a.Own(func(f *conntrack.Flow, _ bool) bool {
		want[f.Key()] = *f
		return true
	})
	if diff := cmp.Diff(want, flowsOf(c.ba.View())); diff != "" {
		t.Errorf("%s (-own +view):\n%s", what, diff)
	}
}

// TestDigestsAgree: what is well is compared and never asked for again.
func TestDigestsAgree(t *testing.T) {
	c := quick(700)
	c.a.SetActive(true)
	for i := range uint32(40) {
		f := tcpFlow(i)
		f.Mark, f.TCP.State = i, conntrack.TCPFinWait
		c.a.Tell(f, c.now)
		c.a.Gone(tcpFlow(100+i), c.now)
		c.run(7 * time.Millisecond)
	}
	c.a.Release(c.now)
	c.run(time.Second)
	s := c.ba.RepairStats()
	if s.Compared < 50 || s.Differing+s.SentResync+s.Incomparable != 0 {
		t.Errorf("%+v", s)
	}
}

// TestDamageHeals: whatever is flipped in a view, the next digest finds it.
func TestDamageHeals(t *testing.T) {
	v4 := func(c *couple, i uint32) *entry4 { return &c.ba.View().tabs[kind4].c4[0][i] }
	v6 := func(c *couple, i uint32) *entry6 { return &c.ba.View().tabs[kind6].c6[0][i] }
	for name, damage := range map[string]func(c *couple){
		"mark":                  func(c *couple) { v4(c, 5).mark ^= 1 },
		"status":                func(c *couple) { v4(c, 6).status ^= uint16(conntrack.Assured) },
		"zone":                  func(c *couple) { v4(c, 7).zone ^= 4 },
		"protocol":              func(c *couple) { v4(c, 7).proto ^= 1 },
		"state":                 func(c *couple) { v4(c, 8).state ^= 2 },
		"flags":                 func(c *couple) { v4(c, 8).flags ^= 1 },
		"scale":                 func(c *couple) { v4(c, 9).scale ^= 1 },
		"owner":                 func(c *couple) { v4(c, 10).put(viewOwner, !v4(c, 10).has(viewOwner)) },
		"original source":       func(c *couple) { v4(c, 11).orig.src[3] ^= 8 },
		"original port":         func(c *couple) { v4(c, 11).orig.dstPort ^= 8 },
		"reply":                 func(c *couple) { v4(c, 12).reply.dst[0] ^= 1 },
		"address of IPv6":       func(c *couple) { v6(c, 3).orig.dst[15] ^= 1 },
		"a flow in no slot":     func(c *couple) { *c.ba.View().word(slotOf(kind4, 20)) = slotWord(slotEmpty, 1) },
		"a flow in two slots":   func(c *couple) { *c.ba.View().word(slotOf(kind4, 20)) = slotWord(22, 1) },
		"a slot that is lost":   func(c *couple) { v := c.ba.View(); v.loseSlot(v.tabs[kind4].at(30)) },
		"an empty slot's ghost": func(c *couple) { c.a.own.remove(slotOf(kind4, 2), true); c.run(20 * time.Millisecond); ghost(c) },
	} {
		t.Run(name, func(t *testing.T) {
			c := quick(300)
			damage(c)
			c.run(2 * time.Second)
			c.want(t, "not healed")
			if s := c.ba.RepairStats(); s.Differing == 0 || s.Healed != s.Differing || s.SentResync == 0 {
				t.Errorf("%+v", s)
			}
			if s := c.ab.RepairStats(); s.ReceivedResync == 0 || s.RefusedResync != 0 {
				t.Errorf("sender: %+v", s)
			}
		})
	}
}

// ghost gives the view a flow in a slot that is empty at the sender.
func ghost(c *couple) {
	v := c.ba.View()
	seq := *v.word(slotOf(kind4, 2)) & slotSeqMask
	rec := &flowRecord{class: classFull, slot: slotOf(kind4, 2), owner: true, flow: *tcpFlow(9999)}
	v.hash(rec)
	v.full(rec, seq+1, c.now)
	*v.word(slotOf(kind4, 2)) -= 1
}

// TestEmptySlotIsCountedOnce: that a slot is empty is still on its way, asked
// for by a RESYNC, while a flow comes into it and ends unsent. Nothing waits
// then but what is on its way, and in the end nothing does.
func TestEmptySlotIsCountedOnce(t *testing.T) {
	c := quick(10)
	slot := slotOf(kind4, 2)
	c.a.own.remove(slot, true)
	c.run(20 * time.Millisecond)
	resync := appendResync(nil, resyncRanges, []slotRange{{slot, 1}})
	_, body, _, _ := parseControl(resync)
	c.ab.receiveResync(body, c.now)
	check := func(when string, want int) {
		t.Helper()
		if o := &c.ab.out; o.both < 0 || o.both > min(o.dirty, o.inFlight) {
			t.Errorf("%s: %d dirty, %d in flight, %d both", when, o.dirty, o.inFlight, o.both)
		}
		if n, _ := c.ab.Backlog(c.now); n != want {
			t.Errorf("%s: %d flows wait, not %d", when, n, want)
		}
	}
	c.now += 2 * ms // for the batch
	for buf := make([]byte, 1472); c.ab.Fill(buf, c.now) > 0; {
	}
	check("lost on the way", 1)
	c.a.Tell(tcpFlow(500), c.now)
	check("with a flow in it", 1)
	if !c.a.own.body(slot).has(flagUsed) {
		t.Fatal("the flow is in another slot")
	}
	c.a.Gone(tcpFlow(500), c.now)
	check("after its end", 1)
	c.run(500 * time.Millisecond)
	check("in the end", 0)
}

// TestComesBackAfterYield: a flow that came while Active ends while it is being
// written, and comes back after the yield. What is in the kernel table then is
// replaced, as for a Backup.
func TestComesBackAfterYield(t *testing.T) {
	c := quick(0)
	v := c.ba.View()
	c.b.SetActive(true)
	c.a.Tell(tcpFlow(1), c.now)
	c.run(20 * time.Millisecond)
	ops, tokens := v.Pending(nil, nil, 10, 0, c.now)
	c.a.Gone(tcpFlow(1), c.now)
	c.run(20 * time.Millisecond)
	c.b.SetActive(false)
	v.Forget()
	c.a.Tell(tcpFlow(1), c.now)
	c.run(20 * time.Millisecond)
	if len(ops) != 1 {
		t.Fatalf("%d operations", len(ops))
	}
	ops[0].Err = unix.EEXIST
	v.Done(tokens, ops)
	if ops, _ = v.Pending(nil, nil, 10, 0, c.now); len(ops) != 1 || ops[0].Kind != conntrack.OpReplace {
		t.Errorf("not replaced: %+v", ops)
	}
}

// TestGhostIsNotDeleted: that a slot is empty is nobody's word when it is said
// to heal; the kernel table keeps what the view had there.
func TestGhostIsNotDeleted(t *testing.T) {
	c := quick(300)
	c.a.own.remove(slotOf(kind4, 2), true)
	c.run(20 * time.Millisecond)
	ghost(c)
	v := c.ba.View()
	for v.Uncommitted() > 0 {
		do(v, 0, c.now)
	}
	c.run(time.Second)
	c.want(t, "not healed")
	same(t, "in the kernel table", do(v, 0, c.now), nil)
}

// TestBackOff: a range that stays wrong is asked for more and more seldom.
func TestBackOff(t *testing.T) {
	c := quick(10)
	for range 20 * 60 {
		c.ba.View().tabs[kind4].at(5).mark++
		c.run(50 * time.Millisecond)
	}
	if s := c.ba.RepairStats(); s.SentResync < 3 || s.SentResync > 7 {
		t.Errorf("asked %d times in a minute: %+v", s.SentResync, s)
	}
}

// TestRefusedSlots: what the receiver refuses is not asked for, and shields
// no neighbour.
func TestRefusedSlots(t *testing.T) {
	c := newCouple()
	c.a.cfg.DigestRound = 50 * time.Millisecond
	c.b.SetLocal([]netip.Addr{netip.MustParseAddr("10.0.0.1")}) // tcpFlow 256 to 511
	for _, i := range []uint32{0, 1, 256, 2, 3, 257, 258, 4, 5} {
		c.a.Tell(tcpFlow(i), c.now)
	}
	c.run(time.Second)
	s := c.ba.RepairStats()
	if s.Incomparable == 0 || s.Compared == 0 || s.SentResync != 0 {
		t.Errorf("%+v", s)
	}
	c.ba.View().tabs[kind4].at(3).mark ^= 1
	c.run(time.Second)
	if s = c.ba.RepairStats(); s.Differing != 1 || s.Healed != 1 {
		t.Errorf("a neighbour of refused slots was not healed: %+v", s)
	}
}

// TestEndedStaysAway: a flow that packets ended at the new Active is not asked
// back from the former one, which still has it.
func TestEndedStaysAway(t *testing.T) {
	c := quick(10)
	c.a.Release(c.now)
	c.b.SetActive(true)
	c.b.Gone(tcpFlow(3), c.now)
	c.run(time.Second)
	k := tcpFlow(3).Key()
	if _, back := c.ba.View().find(&k); back {
		t.Error("it is back")
	}
	if s := c.ba.RepairStats(); s.SentResync != 0 || s.Incomparable == 0 {
		t.Errorf("%+v", s)
	}
}

// TestResyncIsBounded: who asks on and on gets no more than so much.
func TestResyncIsBounded(t *testing.T) {
	c := quick(300)
	before := c.ab.Stats().SentFull
	var ranges []slotRange
	for range maxResync {
		ranges = append(ranges, slotRange{0, rangeSlots})
	}
	for i := range uint64(1000) {
		for _, what := range []byte{resyncRanges, resyncDigests, resyncAll} {
			d := appendHeader(nil, &header{kind: typeData, seq: c.ba.out.seq + 1, sender: c.ba.session.my, receiver: c.ba.session.their})
			if what == resyncAll {
				d = appendResync(d, what, nil)
			} else {
				d = appendResync(d, what, ranges)
			}
			c.ba.out.seq++
			if err := c.ab.Receive(closeDatagram(d), c.now); err != nil {
				t.Fatal(i, err)
			}
		}
		c.run(time.Millisecond)
	}
	s := c.ab.RepairStats()
	if s.ReceivedResync > 3*resyncRate || s.RefusedResync < 100000 || s.ResentAll != 1 {
		t.Errorf("%+v", s)
	}
	if sent := c.ab.Stats().SentFull - before; sent > 300*100 {
		t.Errorf("%d full records were sent", sent)
	}
	if n := len(c.ab.out.rotation.asked); n > maxResync {
		t.Errorf("%d digests wait to be given", n)
	}
}

// TestResync: everything is said again by both sides, and nothing leaves a view
// meanwhile.
func TestResync(t *testing.T) {
	c := quick(300)
	c.b.Tell(tcpFlow(5000), c.now)
	c.run(50 * time.Millisecond)
	a, b := c.ab.Stats().SentFull, c.ba.Stats().SentFull
	if !c.ab.Resync(c.now) {
		t.Fatal("refused")
	}
	for range 100 {
		c.run(ms5)
		if c.ba.View().Len() != 400 || !c.ba.View().Complete() {
			t.Fatalf("the view has %d flows, complete %v", c.ba.View().Len(), c.ba.View().Complete())
		}
	}
	if n := c.ab.Stats().SentFull - a; n != 400 {
		t.Errorf("sent %d flows again, want 400", n)
	}
	if n := c.ba.Stats().SentFull - b; n != 1 {
		t.Errorf("the peer sent %d flows again, want 1", n)
	}
	if newCouple().ab.Resync(1) {
		t.Error("a peer that was never heard was asked")
	}
}

const ms5 = 5 * time.Millisecond

// TestCompare: a round says where the copy differs, and heals nothing.
func TestCompare(t *testing.T) {
	c := quick(2000)
	c.a.cfg.DigestRound = time.Hour
	compare := func() Comparison {
		if !c.ab.Compare(c.now) {
			t.Fatal("refused")
		}
		c.run(100 * time.Millisecond)
		return c.ab.Compared()
	}
	// 2000 slots of IPv4 are 8 ranges, 667 of IPv6 are 3.
	if diff := cmp.Diff(Comparison{Done: true, Ranges: 11, Same: 11, Flows: 2667}, compare()); diff != "" {
		t.Errorf("nothing differs (-want +got):\n%s", diff)
	}
	c.ba.View().tabs[kind4].at(300).mark ^= 1
	v := c.ba.View()
	v.loseSlot(v.tabs[kind6].at(600))
	want := Comparison{Done: true, Ranges: 11, Same: 9, Differing: 2, Flows: 2667, Where: []RangeDifference{
		{conntrack.IPv4, 256, 511, 256, 256}, {conntrack.IPv6, 512, 767, 155, 154}}}
	for range 2 {
		if diff := cmp.Diff(want, compare()); diff != "" {
			t.Errorf("two differ (-want +got):\n%s", diff)
		}
	}
	if s := c.ba.RepairStats(); s.SentResync != 0 {
		t.Errorf("a comparison healed: %+v", s)
	}
}

// TestCompareAnswers: flows that change all the time are busy, a peer that
// says nothing is silent, and both end.
func TestCompareAnswers(t *testing.T) {
	c := quick(10)
	c.ab.Compare(c.now)
	for i := range uint32(2500) {
		f := tcpFlow(3)
		f.Mark = i + 1
		c.a.Tell(f, c.now)
		c.run(time.Millisecond)
	}
	if got := c.ab.Compared(); !got.Done || got.Busy != 1 || got.Same != 1 {
		t.Errorf("busy: %+v", got)
	}
	c.run(50 * time.Millisecond)
	c.ab.Compare(c.now)
	buf := make([]byte, 1472)
	for range 2000 {
		c.now += ms
		c.ab.heard = c.now // else it is down
		c.a.Tick(c.now)
		for c.ab.Fill(buf, c.now) > 0 {
		}
	}
	if got := c.ab.Compared(); !got.Done || got.Unanswered != 2 {
		t.Errorf("silent: %+v", got)
	}
}

// BenchmarkDigest is one flow's part of a digest, on either side.
func BenchmarkDigest(b *testing.B) {
	c := warm(100000)
	c.a.cfg.DigestRound = time.Hour
	b.Run("sender", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i := uint32(0); i < 100000; i += rangeSlots {
				if s := (slotRange{i << 1, rangeSlots}); c.ab.out.quiet(s) {
					c.a.own.digest(s, 1)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100000, "ns/flow")
	})
	b.Run("receiver", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i := uint32(0); i < 100000; i += rangeSlots {
				c.ba.View().digest(slotRange{i << 1, rangeSlots}, 1<<37, 1, nil)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100000, "ns/flow")
	})
}

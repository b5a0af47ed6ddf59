// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// do takes all that a view has pending, answers each with the error that the
// kernel table would give, and says what it was: kind and source port.
func do(v *View, minAge time.Duration, now int64, errs ...error) (did []string) {
	ops, tokens := v.Pending(nil, nil, 100, minAge, now)
	for i := range ops {
		if ops[i].Kind != conntrack.OpRenew { // renew_test.go
			did = append(did, [...]string{"create", "replace", "delete"}[ops[i].Kind])
		}
		if i < len(errs) {
			ops[i].Err = errs[i]
		}
	}
	v.Done(tokens, ops)
	return did
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// coupleWith has flows 1 to n of a at b, joined.
func coupleWith(n uint32) *couple {
	c := newCouple()
	c.a.SetActive(true)
	for i := uint32(1); i <= n; i++ {
		c.a.Tell(tcpFlow(i), c.now)
	}
	c.run(50 * time.Millisecond)
	return c
}

func TestCommitsAndDeletes(t *testing.T) {
	c := coupleWith(2)
	v := c.ba.View()
	same(t, "young", do(v, time.Second, c.now), nil)
	c.run(1500 * time.Millisecond)
	same(t, "of age", do(v, time.Second, c.now), []string{"create", "create"})

	f := tcpFlow(1) // its way from ESTABLISHED to the end is no matter for the kernel
	f.TCP.State, f.Timeout = conntrack.TCPFinWait, 120
	c.a.Tell(f, c.now)
	c.run(5 * time.Millisecond)
	same(t, "FIN_WAIT", do(v, 0, c.now), nil)
	f.Mark = 5
	c.a.Tell(f, c.now)
	c.a.Gone(tcpFlow(2), c.now)
	c.run(5 * time.Millisecond)
	same(t, "mark, and gone", do(v, time.Hour, c.now), []string{"delete"})
	same(t, "mark", do(v, 0, c.now), []string{"replace"})
	k := f.Key()
	if !v.Lost(&k) || v.Uncommitted() != 1 {
		t.Error("an entry that the kernel aged is not wanted again")
	}
	same(t, "aged", do(v, 0, c.now), []string{"create"})
	v.Forget()
	same(t, "forgotten", do(v, 0, c.now), []string{"replace"})
}

func TestClash(t *testing.T) {
	c := coupleWith(1)
	v := c.ba.View()
	same(t, "first", do(v, 0, c.now, unix.EEXIST), []string{"create"})
	same(t, "the holder of the original tuple goes", do(v, 0, c.now, unix.EEXIST), []string{"replace"})
	same(t, "the holder of the reply tuple goes", do(v, 0, c.now, nil, unix.EEXIST), []string{"delete", "replace"})
	if v.Uncommitted() != 0 || v.Stats().Clashes != 1 {
		t.Errorf("not given up: %+v", v.Stats())
	}
	c = coupleWith(1)
	v = c.ba.View()
	do(v, 0, c.now, unix.ENOMEM)
	same(t, "the kernel table was full", do(v, 0, c.now), []string{"create"})
	c = coupleWith(1)
	do(c.ba.View(), 0, c.now, unix.EINVAL)
	if v := c.ba.View(); v.Uncommitted() != 0 || v.Stats().Refused != 1 {
		t.Error("what the kernel will never take is tried again")
	}
}

// TestSeededEndsWithItsEntry: a Backup that was restarted seeds what its kernel
// table has of the Active's flows; when it deletes an entry on the owner's word,
// nobody else tells it that the seeded flow is over.
func TestSeededEndsWithItsEntry(t *testing.T) {
	c := newCouple()
	c.a.SetActive(true)
	c.b.Seed(tcpFlow(1), c.now)
	c.b.Seed(tcpFlow(2), c.now)
	c.a.Tell(tcpFlow(1), c.now)
	c.run(50 * time.Millisecond)
	v := c.ba.View()
	do(v, 0, c.now)
	if c.b.OwnLen() != 2 {
		t.Fatalf("%d own flows, want 2", c.b.OwnLen())
	}
	c.a.Gone(tcpFlow(1), c.now)
	c.run(5 * time.Millisecond)
	same(t, "gone", do(v, 0, c.now), []string{"delete"})
	if c.b.OwnLen() != 1 {
		t.Errorf("%d own flows, want the one that nobody ended", c.b.OwnLen())
	}
}

// TestHottestFirst: flows that packets told last are committed first.
func TestHottestFirst(t *testing.T) {
	c := newCouple()
	c.a.SetActive(true)
	c.a.Seed(tcpFlow(1), c.now)
	c.a.Tell(tcpFlow(2), c.now)
	c.now += int64(30 * time.Second)
	c.a.Tell(tcpFlow(3), c.now)
	c.run(50 * time.Millisecond)
	ops, tokens := c.ba.View().Pending(nil, nil, 10, 0, c.now)
	var order []uint16
	for _, op := range ops {
		order = append(order, op.Flow.Orig.SrcPort-1024)
	}
	c.ba.View().Done(tokens, ops)
	if diff := cmp.Diff([]uint16{3, 2, 1}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestTakeover(t *testing.T) {
	c := coupleWith(100)
	v := c.ba.View()
	c.b.SetActive(true)
	for c.b.Adopt(7, c.now) {
	}
	if c.b.OwnLen() != 100 || c.b.Owned() != 100 {
		t.Fatalf("adopted %d, owns %d, want 100", c.b.OwnLen(), c.b.Owned())
	}
	c.b.Tell(tcpFlow(1), c.now) // its packets came already
	if did := do(v, 0, c.now); len(did) != 99 {
		t.Errorf("%d operations, want 99: flow 1 is known better here", len(did))
	}
	// The former Active still talks: what it ends is not ended here, what it
	// changes is not changed, what it adds does not displace.
	c.a.Gone(tcpFlow(2), c.now)
	f := tcpFlow(3)
	f.Mark = 9
	c.a.Tell(f, c.now)
	c.a.Tell(tcpFlow(200), c.now)
	c.run(5 * time.Millisecond)
	same(t, "while Active", do(v, 0, c.now, unix.EEXIST), []string{"create"})
	if v.Uncommitted() != 0 || v.Stats().Clashes != 1 {
		t.Errorf("a clash is not given up: %+v", v.Stats())
	}
	for c.b.Adopt(1000, c.now) {
	}
	if c.b.OwnLen() != 101 {
		t.Errorf("owns %d, want the late one, too", c.b.OwnLen())
	}
}

// TestWrittenAnewOnce: who gives the role away writes its own TCP entries anew,
// since they have judged windows. What was restored here once judges none, and
// stays as it is in all changes to come; so do UDP entries in any.
func TestWrittenAnewOnce(t *testing.T) {
	c := coupleWith(2)
	c.a.Tell(udpFlow6(3), c.now)
	c.run(50 * time.Millisecond)
	change := func(from, to *Node, view, back *View) []string {
		do(view, 0, c.now) // to has all of it in its kernel table
		from.Release(c.now)
		from.SetActive(false)
		back.Forget()
		to.SetActive(true)
		for to.Adopt(1000, c.now) {
		}
		c.run(100 * time.Millisecond)
		did := do(back, 0, c.now)
		from.DropReleased(c.now)
		c.run(time.Second)
		if to.Stale() {
			t.Error("the new Active has entries of a term that ended")
		}
		return append(did, do(back, 0, c.now)...)
	}
	same(t, "a to b", change(c.a, c.b, c.ba.View(), c.ab.View()), []string{"replace", "replace"})
	same(t, "b to a", change(c.b, c.a, c.ab.View(), c.ba.View()), nil)
	c.a.Tell(tcpFlow(4), c.now)
	restored := tcpFlow(1) // a packet tells what the kernel table has
	restore(restored)
	c.a.Tell(restored, c.now)
	f := tcpFlow(2) // this one died here and began anew
	c.a.Tell(f, c.now)
	c.run(50 * time.Millisecond)
	same(t, "a to b again", change(c.a, c.b, c.ba.View(), c.ab.View()), []string{"replace", "replace"})
	f.Mark = 5
	c.b.Tell(f, c.now)
	same(t, "b to a again", change(c.b, c.a, c.ab.View(), c.ba.View()), []string{"replace"})
}

// TestWrittenAnewAfterRestart: a daemon that starts beside a kernel table that
// it filled in a former life writes anew what judges windows or is another, no
// matter whether the dump or the peer is faster.
func TestWrittenAnewAfterRestart(t *testing.T) {
	strict, restored, changed, lacking := tcpFlow(1), tcpFlow(2), tcpFlow(3), tcpFlow(4)
	restore(restored)
	restore(changed)
	for _, dumpFirst := range []bool{true, false} {
		c := newCouple()
		c.a.SetActive(true)
		seed := func() {
			for _, f := range []*conntrack.Flow{strict, restored, changed, udpFlow6(5)} {
				c.b.Seed(f, c.now)
			}
		}
		if dumpFirst {
			seed()
		}
		for _, f := range []*conntrack.Flow{strict, restored, lacking, udpFlow6(5)} {
			c.a.Tell(f, c.now)
		}
		other := *changed
		other.Mark = 5
		c.a.Tell(&other, c.now)
		c.run(50 * time.Millisecond)
		if !dumpFirst {
			seed()
		}
		did := do(c.ba.View(), 0, c.now)
		slices.Sort(did)
		same(t, "restarted", did, []string{"create", "replace", "replace"})
		same(t, "later", do(c.ba.View(), 0, c.now), nil)
	}
}

func TestYield(t *testing.T) {
	c := coupleWith(20)
	c.a.Died(&conntrack.Death{Flow: *tcpFlow(1), TimeLeft: 400000}, c.now) // held
	c.a.Release(c.now)
	c.a.SetActive(false)
	for i := uint32(2); i <= 10; i++ { // an address was removed: entries die by the thousand
		c.a.Died(&conntrack.Death{Flow: *tcpFlow(i), TimeLeft: 400000}, c.now)
	}
	c.b.SetActive(true)
	c.run(10 * time.Second)
	if n := c.ba.View().Len(); n != 20 {
		t.Fatalf("the new Active has %d flows of 20", n)
	}
	for c.b.Adopt(1000, c.now) {
	}
	c.run(100 * time.Millisecond)
	if v := c.ab.View(); v.Len() != 20 || !v.Complete() {
		t.Fatalf("the new Active's flows are not back: %d", v.Len())
	}
	c.a.DropReleased(c.now)
	c.run(100 * time.Millisecond)
	if c.a.OwnLen() != 0 || c.ba.View().Len() != 0 || c.b.OwnLen() != 20 {
		t.Errorf("after the drop: %d own, view of %d, new Active owns %d", c.a.OwnLen(), c.ba.View().Len(), c.b.OwnLen())
	}
	if v := c.ba.View(); v.Uncommitted() != 0 {
		t.Errorf("%d operations at the Active on a peer's word", v.Uncommitted())
	}
}

func TestDeaths(t *testing.T) {
	closing := tcpFlow(1)
	closing.TCP.State = conntrack.TCPLastAck
	for name, tc := range map[string]struct {
		death conntrack.Death
		after time.Duration
		want  int // flows left
	}{
		"ran out":                            {conntrack.Death{Flow: *tcpFlow(1), TimeLeft: 0}, 10 * time.Millisecond, 0},
		"deleted by hand":                    {conntrack.Death{Flow: *tcpFlow(1), TimeLeft: 400000, PortID: 4711}, 10 * time.Millisecond, 0},
		"closed by packets":                  {conntrack.Death{Flow: *closing, TimeLeft: 30}, 10 * time.Millisecond, 0},
		"for no reason":                      {conntrack.Death{Flow: *tcpFlow(1), TimeLeft: 400000}, 3 * time.Second, 1},
		"for no reason, told after the hold": {conntrack.Death{Flow: *tcpFlow(1), TimeLeft: 400000}, 4 * time.Second, 0},
	} {
		c := coupleWith(1)
		c.a.Died(&tc.death, c.now)
		c.run(tc.after)
		if n := c.ba.View().Len(); n != tc.want {
			t.Errorf("%s: %d flows at the peer after %v, want %d", name, n, tc.after, tc.want)
		}
	}
	c := coupleWith(1)
	c.a.Died(&conntrack.Death{Flow: *tcpFlow(1), TimeLeft: 400000}, c.now)
	c.a.Tell(tcpFlow(1), c.now) // the tuple lives
	c.run(5 * time.Second)
	if c.ba.View().Len() != 1 {
		t.Error("a held death killed a younger flow")
	}
}

func TestSeeds(t *testing.T) {
	c := coupleWith(1)
	f := tcpFlow(1)
	f.Mark = 77
	c.a.Seed(f, c.now) // never over what was told
	c.run(5 * time.Millisecond)
	k := f.Key()
	if got := flowsOf(c.ba.View())[k]; got.Mark != 0 {
		t.Errorf("a seed overwrote what was told: %+v", got)
	}
	c.b.Seed(tcpFlow(1), c.now) // b committed it from the view
	c.b.Seed(tcpFlow(2), c.now)
	if c.b.OwnLen() != 1 || c.b.Owned() != 0 {
		t.Errorf("a Backup seeded %d flows and owns %d, want 1 and 0", c.b.OwnLen(), c.b.Owned())
	}
	c.a.Seed(tcpFlow(3), c.now)
	if c.a.Owned() != 2 {
		t.Errorf("the Active owns %d, want 2", c.a.Owned())
	}
}

// TestReceiverPolicy: copied state is a way around a firewall.
func TestReceiverPolicy(t *testing.T) {
	c := newCouple()
	c.b.cfg.Policy.Protocols[unix.IPPROTO_UDP] = false
	c.b.cfg.Policy.Ignore = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/32")}
	c.b.SetLocal([]netip.Addr{netip.MustParseAddr("192.0.2.1")})
	ignored, toRouter, young := tcpFlow(1), tcpFlow(1<<8), tcpFlow(2<<8)
	ignored.Orig.Dst, ignored.Reply.Src = conntrack.Addr{192, 0, 2, 3}, conntrack.Addr{192, 0, 2, 3}
	young.Orig.Dst, young.Reply.Src = conntrack.Addr{192, 0, 2, 2}, conntrack.Addr{192, 0, 2, 2}
	grown := *young
	young.Status &^= conntrack.Assured
	for _, f := range []*conntrack.Flow{udpFlow6(1), ignored, toRouter, young} {
		c.a.Tell(f, c.now)
	}
	c.run(50 * time.Millisecond)
	v := c.ba.View()
	if s := v.Stats(); v.Len() != 1 || s.RefusedPolicy != 2 || s.RefusedLocal != 1 || v.Uncommitted() != 0 || !c.ab.Drained() {
		t.Errorf("view of %d, %d pending, %+v", v.Len(), v.Uncommitted(), s)
	}
	c.a.Tell(&grown, c.now)
	c.run(5 * time.Millisecond)
	same(t, "of age", do(v, 0, c.now), []string{"create"})
}

// TestReboot: after a reboot (not a restart) the peer does not know what it
// had; nothing of it is ended.
func TestReboot(t *testing.T) {
	for _, rebooted := range []bool{false, true} {
		c := coupleWith(10)
		do(c.ba.View(), 0, c.now)
		cfg := Config{Policy: conntrack.DefaultPolicy(), Rand: seeded(99), Name: "a"}
		if rebooted {
			cfg.BootID[0] = 1
		}
		c.a = New(cfg)
		c.ab = c.a.AddPeer("to b", c.now)
		c.a.Tell(tcpFlow(1), c.now)
		c.run(500 * time.Millisecond)
		v := c.ba.View()
		if rebooted && (v.Len() != 10 || v.Uncommitted() != 0) || !rebooted && (v.Len() != 1 || v.Uncommitted() != 9) || !v.Complete() {
			t.Errorf("rebooted %v: view of %d, %d to be deleted", rebooted, v.Len(), v.Uncommitted())
		}
		k := tcpFlow(5).Key()
		if gone := v.Lost(&k); gone != rebooted {
			t.Errorf("rebooted %v: Lost says %v", rebooted, gone)
		}
	}
}

func TestState(t *testing.T) {
	c := newCouple()
	c.run(50 * time.Millisecond)
	c.b.Events()
	buf := make([]byte, 1472)
	c.a.SetState([]byte("active"), c.now)
	if n := c.ab.Fill(buf, c.now); n == 0 {
		t.Fatal("a new state does not go out at once")
	} // and is lost
	if c.ab.StateHeld() {
		t.Error("the peer has the state that was lost")
	}
	c.run(8 * time.Millisecond)
	events := c.b.Events()
	if len(events) != 1 || events[0].Kind != PeerState || string(events[0].Blob) != "active" {
		t.Errorf("events %+v", events)
	}
	if !c.ab.StateHeld() {
		t.Error("the echo did not come")
	}
	sent := c.ab.Stats().SentDatagrams
	c.run(time.Second)
	if n := c.ab.Stats().SentDatagrams - sent; n > 25 {
		t.Errorf("%d datagrams in a second with nothing to say", n)
	}
}

// TestSilenceNoticedLate: who slept itself reads first what came meanwhile.
func TestSilenceNoticedLate(t *testing.T) {
	for name, alive := range map[string]bool{"the peer spoke all the time": true, "it is dead": false} {
		t.Run(name, func(t *testing.T) {
			c := newCouple()
			c.run(50 * time.Millisecond)
			c.b.Events()
			c.now += 900 * ms
			c.b.Tick(c.now)
			if ev := c.b.Events(); len(ev) != 0 {
				t.Fatalf("judged without having read: %+v", ev)
			}
			if next := c.b.NextDeadline(); next > c.now+60*ms {
				t.Fatalf("judged not before %v later", time.Duration(next-c.now))
			}
			if alive {
				c.run(100 * time.Millisecond)
			} else {
				c.now += 60 * ms
				c.b.Tick(c.now)
			}
			if ev := c.b.Events(); c.ba.Up() != alive || alive == (len(ev) > 0) {
				t.Errorf("up %v, events %+v", c.ba.Up(), ev)
			}
		})
	}
}

func TestSilence(t *testing.T) {
	c := newCouple()
	c.run(50 * time.Millisecond)
	c.b.Events()
	for range 400 {
		c.now += ms
		c.b.Tick(c.now)
	}
	ev := c.b.Events()
	if len(ev) != 1 || ev[0].Kind != PeerDown || c.ba.Up() {
		t.Fatalf("events %+v", ev)
	}
	c.b.Tell(tcpFlow(1), c.now)
	c.run(100 * time.Millisecond)
	if !c.ba.Up() || c.ab.View().Len() != 1 || c.ba.Stats().Sessions != 1 {
		t.Errorf("after silence: up %v, view %d, %d sessions", c.ba.Up(), c.ab.View().Len(), c.ba.Stats().Sessions)
	}
}

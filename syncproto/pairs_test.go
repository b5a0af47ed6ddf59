// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"bytes"
	"testing"
	"time"
)

// between runs the couple and gives what each side sent, in order.
func (c *couple) between(d time.Duration, each func(from *Peer, payload []byte)) {
	buf := make([]byte, 1472)
	for end := c.now + int64(d); c.now < end; c.now += ms {
		for _, way := range [][2]*Peer{{c.ab, c.ba}, {c.ba, c.ab}} {
			way[0].n.Tick(c.now)
			for n := way[0].Fill(buf, c.now); n > 0; n = way[0].Fill(buf, c.now) {
				each(way[0], buf[:n])
				_ = way[1].Receive(buf[:n], c.now)
			}
		}
	}
}

// TestRecordedHelloOfThePair: it is no sign of life, and its sequence stands
// for no other: a datagram that was lost is not acknowledged for it.
func TestRecordedHelloOfThePair(t *testing.T) {
	c := newCouple()
	var recorded []byte // b's hello of the pair
	c.between(100*time.Millisecond, func(from *Peer, payload []byte) {
		if from == c.ba && payload[3] == typeHello && c.ba.session.confirmed {
			recorded = bytes.Clone(payload)
		}
	})
	if recorded == nil || !c.ab.Up() {
		t.Fatal("no hello of the pair was said")
	}
	var h header
	if _, err := parseDatagram(recorded, &h); err != nil {
		t.Fatal(err)
	}
	if theirs, mine, ok := c.ab.Pair(); !ok || theirs != h.sender || mine != h.receiver {
		t.Fatalf("the hello names (%v, %v), the pair is (%v, %v)", h.sender, h.receiver, theirs, mine)
	}
	// A window later, with the place of its sequence free.
	c.ab.in.mark(h.seq + window - 1)
	c.ab.in.mark(h.seq + window + 7)
	heard, refused := c.ab.Heard(), c.ab.Stats().RefusedReplay
	c.now += ms
	if err := c.ab.Receive(recorded, c.now); err != errReplayed {
		t.Errorf("a recorded hello of the pair: %v, want %v", err, errReplayed)
	}
	if c.ab.in.has(h.seq+window) || c.ab.Heard() != heard || c.ab.Stats().RefusedReplay != refused+1 {
		t.Errorf("it stands for another one: %v; heard %d, before %d", c.ab.in.has(h.seq+window), c.ab.Heard(), heard)
	}
}

// TestPairsAreToldInTime: whoever lets pass only what Pair and Spare name, as
// they were before each datagram that this side sent, loses nothing of the
// peer's: not at the start, nor when either side restarts or renews.
func TestPairsAreToldInTime(t *testing.T) {
	c := newCouple()
	type named struct {
		theirs, mine Session
		ok           bool
	}
	told := map[*Peer]named{}
	lost, data := 0, 0
	each := func(from *Peer, payload []byte) {
		to := c.ab
		if from == c.ab {
			to = c.ba
		}
		n := named{}
		n.theirs, n.mine, n.ok = from.Pair()
		told[from] = n
		var h header
		if _, err := parseDatagram(payload, &h); err != nil {
			t.Fatal(err)
		}
		if h.kind != typeData {
			return
		}
		data++
		// What the receiver would take must be what it told last.
		theirs, mine, ok := to.Pair()
		if g := told[to]; ok && h.sender == theirs && h.receiver == mine && g != (named{theirs, mine, true}) {
			lost++
		}
	}
	for i := range 20 {
		for f := range uint32(10) {
			c.a.Tell(tcpFlow(uint32(i)*10+f), c.now)
		}
		c.between(60*time.Millisecond, each)
		switch i % 4 {
		case 1:
			c.ab.session.renew(c.now)
		case 2:
			c.b.RemovePeer(c.ba)
			c.b = testNode("b", uint64(100+i))
			c.ba = c.b.AddPeer("to a", c.now)
		case 3:
			c.ba.session.renew(c.now)
		}
	}
	if data < 100 || c.ab.Stats().Sessions < 5 {
		t.Fatalf("%d datagrams of data, %d sessions: too few to tell", data, c.ab.Stats().Sessions)
	}
	if lost != 0 {
		t.Errorf("%d of %d datagrams would have been lost", lost, data)
	}
	t.Logf("%d datagrams of data in %d sessions", data, c.ab.Stats().Sessions)
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

const ms = int64(time.Millisecond)

// chance is a source of randomness that replays.
type chance struct{ *rand.Rand }

func (c chance) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(c.Uint32())
	}
	return len(b), nil
}

func seeded(seed uint64) chance { return chance{rand.New(rand.NewPCG(seed, 1))} }

func testNode(name string, seed uint64) *Node {
	return New(Config{Policy: conntrack.DefaultPolicy(), Rand: seeded(seed), Name: name})
}

// tcpFlow is a translated TCP connection, told apart by i.
func tcpFlow(i uint32) *conntrack.Flow {
	f := &conntrack.Flow{Family: conntrack.IPv4, Proto: unix.IPPROTO_TCP}
	f.Orig.Src = conntrack.Addr{10, 0, byte(i >> 16), byte(i >> 8)}
	f.Orig.Dst = conntrack.Addr{192, 0, 2, 1}
	f.Orig.SrcPort, f.Orig.DstPort = uint16(1024+i&0xff), 80
	f.Reply.Src, f.Reply.SrcPort = f.Orig.Dst, 80
	f.Reply.Dst = conntrack.Addr{198, 51, 100, byte(i >> 16)}
	f.Reply.DstPort = uint16(i)
	f.Status = conntrack.SeenReply | conntrack.Assured | conntrack.Confirmed | conntrack.SrcNAT
	f.TCP = conntrack.TCP{State: conntrack.TCPEstablished, Flags: [2]uint8{0x23, 0x23}, Scale: [2]uint8{7, 8}}
	f.Timeout = 432000
	return f
}

// udpFlow6 is one over IPv6 without translation.
func udpFlow6(i uint32) *conntrack.Flow {
	f := &conntrack.Flow{Family: conntrack.IPv6, Proto: unix.IPPROTO_UDP}
	f.Orig.Src, f.Orig.Dst = conntrack.Addr{0x20, 1, 0xd, 0xb8, 15: 1}, conntrack.Addr{0x20, 1, 0xd, 0xb8, 15: 2}
	binary.BigEndian.PutUint32(f.Orig.Src[8:], i)
	f.Orig.SrcPort, f.Orig.DstPort = 5000, 53
	f.Reply = conntrack.Tuple{Src: f.Orig.Dst, Dst: f.Orig.Src, SrcPort: 53, DstPort: 5000}
	f.Status = conntrack.SeenReply | conntrack.Confirmed
	f.Timeout = 30
	return f
}

// couple is two nodes over a wire that loses nothing.
type couple struct {
	now  int64
	a, b *Node
	ab   *Peer // a's idea of b
	ba   *Peer
}

func newCouple() *couple {
	c := &couple{now: 1e12, a: testNode("a", 1), b: testNode("b", 2)}
	c.ab, c.ba = c.a.AddPeer("to b", c.now), c.b.AddPeer("to a", c.now)
	return c
}

// run lets time pass in steps of 1 ms.
func (c *couple) run(d time.Duration) {
	buf := make([]byte, 1472)
	for end := c.now + int64(d); c.now < end; c.now += ms {
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

func flowsOf(v *View) map[conntrack.Key]conntrack.Flow {
	m := map[conntrack.Key]conntrack.Flow{}
	v.Each(func(f *conntrack.Flow) bool {
		m[f.Key()] = *f
		return true
	})
	return m
}

func normalised(flows ...*conntrack.Flow) map[conntrack.Key]conntrack.Flow {
	m := map[conntrack.Key]conntrack.Flow{}
	for _, f := range flows {
		nf := *f
		normal(&nf)
		m[nf.Key()] = nf
	}
	return m
}

func TestReplicates(t *testing.T) {
	c := newCouple()
	f1, f2, f3 := tcpFlow(1), tcpFlow(2), udpFlow6(3)
	c.a.Tell(f1, c.now)
	c.run(50 * time.Millisecond)
	if !c.ab.Up() || !c.ba.Up() || c.ba.Name() != "a" {
		t.Fatalf("not up: %+v %+v", c.ab.Stats(), c.ba.Stats())
	}
	if !c.ba.View().Complete() || !c.ab.Drained() {
		t.Errorf("joined view is not complete: %+v", c.ab.Stats())
	}
	c.a.Tell(f2, c.now)
	c.a.Tell(f3, c.now)
	c.run(5 * time.Millisecond)
	if diff := cmp.Diff(normalised(f1, f2, f3), flowsOf(c.ba.View())); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
	f1.TCP.State, f1.Timeout = conntrack.TCPFinWait, 120
	c.a.Tell(f1, c.now)
	c.a.Gone(f2, c.now)
	c.run(5 * time.Millisecond)
	if diff := cmp.Diff(normalised(f1, f3), flowsOf(c.ba.View())); diff != "" {
		t.Errorf("view after changes (-want +got):\n%s", diff)
	}
	if s := c.ab.Stats(); s.SentFull != 3 || s.SentShort != 1 || s.SentDeletes != 1 || s.LostDatagrams != 0 {
		t.Errorf("sent %+v", s)
	}
}

// TestManyRecords: a datagram may hold more records than are kept at once when
// it is judged.
func TestManyRecords(t *testing.T) {
	c := newCouple()
	buf := make([]byte, 9000)
	most := uint64(0) // full records and deletions in a datagram
	received := func() uint64 { s := c.ba.Stats(); return s.ReceivedFull + s.ReceivedDeletes }
	run := func() {
		for range 500 {
			c.now += ms
			for n := c.ab.Fill(buf, c.now); n > 0; n = c.ab.Fill(buf, c.now) {
				before := received()
				_ = c.ba.Receive(buf[:n], c.now)
				most = max(most, received()-before)
			}
			for n := c.ba.Fill(buf, c.now); n > 0; n = c.ba.Fill(buf, c.now) {
				_ = c.ab.Receive(buf[:n], c.now)
			}
		}
	}
	run()
	var flows []*conntrack.Flow
	for i := range uint32(3 * readAtOnce) {
		flows = append(flows, tcpFlow(i))
		c.a.Tell(flows[i], c.now)
	}
	run()
	if most <= readAtOnce {
		t.Fatalf("at most %d flows in a datagram, want more than %d", most, readAtOnce)
	}
	if diff := cmp.Diff(normalised(flows...), flowsOf(c.ba.View())); diff != "" {
		t.Errorf("view (-want +got):\n%s", diff)
	}
	for _, f := range flows {
		c.a.Gone(f, c.now)
	}
	run()
	if left := c.ba.View().Len(); left != 0 || received() != 6*readAtOnce {
		t.Errorf("%d flows left after %d records", left, received())
	}
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/rand"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/internal/takeover"
	"github.com/tandem-ha/tandem/syncproto"
)

// pair is two machines and what carries between them.
type pair struct {
	a, b     *syncproto.Node
	toA, toB *syncproto.Path
	now      int64
}

func newPair() *pair {
	p := &pair{now: int64(time.Hour)}
	made := func(name string) (*syncproto.Node, *syncproto.Path) {
		n := syncproto.New(syncproto.Config{Policy: conntrack.DefaultPolicy(), Rand: rand.Reader, Name: name})
		return n, n.AddPeer("peer", p.now).AddPath(0, p.now)
	}
	p.a, p.toB = made("a")
	p.b, p.toA = made("b")
	return p
}

// carry lets half a second pass.
func (p *pair) carry() {
	buf := make([]byte, 1400)
	for range 500 {
		p.now += int64(time.Millisecond)
		p.a.Tick(p.now)
		p.b.Tick(p.now)
		if n := p.toB.Fill(buf, p.now); n > 0 {
			_ = p.toA.Receive(buf[:n], p.now) // refused is lost
		}
		if n := p.toA.Fill(buf, p.now); n > 0 {
			_ = p.toB.Receive(buf[:n], p.now)
		}
	}
}

func (p *pair) tell(port uint16) {
	c, s := conntrack.AddrFrom(netip.MustParseAddr("10.0.0.7")), conntrack.AddrFrom(netip.MustParseAddr("198.51.100.9"))
	p.a.Tell(&conntrack.Flow{Family: conntrack.IPv4, Proto: unix.IPPROTO_UDP, Timeout: 30, Status: conntrack.Confirmed | conntrack.SeenReply,
		Orig:  conntrack.Tuple{Src: c, Dst: s, SrcPort: port, DstPort: 53},
		Reply: conntrack.Tuple{Src: s, Dst: c, SrcPort: 53, DstPort: port}}, p.now)
	p.carry()
}

// Two lots may be out at a time: each outcome is that of its own flow.
func TestTwoLotsOut(t *testing.T) {
	p := newPair()
	for port := range uint16(5) {
		p.tell(port + 1)
	}
	r := &replica{node: &link.Locked{Node: p.b}, now: func() int64 { return p.now }}
	take := func() []conntrack.Op {
		ops, _ := r.Take(make([]conntrack.Op, 0, 2), 0)
		return ops
	}
	ports := func(ops []conntrack.Op) (out []uint16) {
		for i := range ops {
			out = append(out, ops[i].Flow.Orig.SrcPort)
		}
		slices.Sort(out)
		return out
	}
	first, second := take(), take()
	first[1].Err = unix.ENOMEM // it will be tried again, those of the second lot will not
	r.Done(first)
	third := take()
	r.Done(second)
	r.Done(third)
	got := [][]uint16{ports(first), ports(second), ports(third)}
	if want := [][]uint16{{1, 2}, {3, 4}, {2, 5}}; !cmp.Equal(got, want) {
		t.Errorf("the lots were of the client ports %v, want %v", got, want)
	}
	if s := p.b.Peers()[0].View().Stats(); s.Committed != 5 || s.Retried != 1 || r.Uncommitted() != 0 || r.taken != 0 {
		t.Errorf("%+v, %d left, %d lots out; want 5 committed, 1 retried", s, r.Uncommitted(), r.taken)
	}
}

// An Active goes on adopting, whenever the link has ticked: without news that
// must not wake the link, or the two keep a processor busy for ever.
func TestAdoptWakesForNewsOnly(t *testing.T) {
	p := newPair()
	p.a.SetActive(true)
	p.tell(1)
	if n := p.toA.Peer().View().Len(); n != 1 {
		t.Fatalf("the view has %d flows, want 1", n)
	}
	p.b.SetActive(true)
	wakes := 0
	r := &replica{node: &link.Locked{Node: p.b}, now: func() int64 { return p.now }, wake: func() { wakes++ }}
	for range 10 {
		r.Adopt()
		p.carry()
	}
	if wakes != 1 {
		t.Errorf("one flow to adopt, ten times: the link was woken %d times, want once", wakes)
	}
	p.tell(2) // the former Active's last word
	for range 10 {
		r.Adopt()
	}
	if wakes < 2 || wakes > 3 { // the flow of before may be told again with it
		t.Errorf("another flow: woken %d times in all, want two or three", wakes)
	}
}

// Two links hear one state after the other, and the first is slow to say so: the
// machine has them in their order, whichever link is faster.
func TestStatesInTheirOrder(t *testing.T) {
	p := newPair()
	p.carry()
	var mu sync.Mutex
	var terms []uint32
	second := make(chan struct{})
	r := &replica{node: &link.Locked{Node: p.b}, now: func() int64 { return p.now }, sends: map[*syncproto.Peer]bool{},
		stream: event.New(1), log: slog.New(slog.DiscardHandler)}
	r.commit = takeover.NewCommitter(r, nil, false, 0, nil)
	r.post = func(ev takeover.Event) {
		if ev.Kind != takeover.EvPeerState {
			return
		}
		if ev.State.Term == 1 {
			close(second)
			time.Sleep(50 * time.Millisecond)
		}
		mu.Lock()
		defer mu.Unlock()
		terms = append(terms, ev.State.Term)
	}
	hears := func(term uint32) {
		r.node.Lock()
		p.a.SetState(takeover.State{Term: term}.Append(nil), p.now)
		p.carry()
		r.node.Unlock()
		r.notify()
	}
	r.notify() // the peer is up
	var wg sync.WaitGroup
	wg.Go(func() { hears(1) })
	<-second
	hears(2)
	wg.Wait()
	if want := []uint32{1, 2}; !slices.Equal(terms, want) {
		t.Errorf("the machine heard of the terms %v, want %v", terms, want)
	}
}

// SPDX-License-Identifier: Apache-2.0

package link

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/syncproto"
)

// bench is a link that is not open, with a clock in the test's hand.
type bench struct {
	*Link
	now int64
}

func newBench(peers ...string) *bench {
	b := &bench{now: int64(time.Hour)}
	cfg := Config{Interface: "sync0", Now: func() int64 { return b.now }}
	for _, p := range peers {
		cfg.Peers = append(cfg.Peers, netip.MustParseAddr(p))
	}
	b.Link = New(cfg, &Locked{Node: newNamed("r1")})
	return b
}

// hear gives the link a datagram as if it had come from an address.
func (b *bench) hear(from string, payload []byte) (valid bool, seen Stats) {
	b.node.Lock()
	defer b.node.Unlock()
	return b.deliver(&received{payload: payload, src: netip.AddrPortFrom(netip.MustParseAddr(from), DefaultPort)}, &seen, b.now), seen
}

func callOf(name string, asks bool) []byte {
	buf := make([]byte, syncproto.MinPayload)
	return buf[:newNamed(name).FillCall(buf, asks)]
}

// namesakeOf is a call of a node of that name in another network namespace.
func namesakeOf(name string) []byte {
	buf := make([]byte, syncproto.MinPayload)
	n := syncproto.New(syncproto.Config{Policy: conntrack.DefaultPolicy(), Rand: rand.Reader, Name: name, NetNS: 7})
	return buf[:n.FillCall(buf, true)]
}

func (b *bench) station(a string) *station { return at(b.stations(), netip.MustParseAddr(a)) }

// TestNextCall: when a station is called, by what is known of it.
func TestNextCall(t *testing.T) {
	const fast, slow = int64(callEvery), int64(callSlow)
	p := newNamed("r1").AddPeer("r2", 1)
	silent := p.AddPath(0, 1)
	hello := make([]byte, syncproto.MinPayload)
	other := newNamed("r2").AddPeer("r1", 1).AddPath(0, 1)
	heard := newNamed("r1").AddPeer("r2", 1).AddPath(0, 1)
	for at := int64(1); at < int64(time.Second); at += int64(10 * time.Millisecond) { // until both are paired
		_ = heard.Receive(hello[:other.Fill(hello, at)], at)
		_ = other.Receive(hello[:heard.Fill(hello, at)], at)
	}
	if !heard.Hearing() {
		t.Fatal("the pair does not hear each other")
	}
	for _, tt := range []struct {
		name string
		st   station
		want int64
	}{
		{"configured, unknown, for long", station{given: true, eager: 5}, fast},
		{"found, silent, lately", station{peer: p, path: silent, eager: 1e18}, fast},
		{"found, silent, for long", station{peer: p, path: silent}, slow},
		{"configured, silent, for long", station{given: true, peer: p, path: silent}, slow},
		{"heard", station{given: true, path: heard, eager: 1e18}, never - 1000},
		{"heard, and it asks", station{given: true, path: heard, owes: true}, fast},
		{"silent, and it asks", station{path: silent, owes: true}, fast},
	} {
		tt.st.called = 1000
		if got := tt.st.nextCall(1e15) - 1000; got != tt.want {
			t.Errorf("%s: called after %v, want %v", tt.name, time.Duration(got), time.Duration(tt.want))
		}
	}
}

// TestIntroduced: who becomes a peer, and who does not.
func TestIntroduced(t *testing.T) {
	b := newBench("10.9.0.2")
	if ok, seen := b.hear("10.9.0.3", callOf("r3", true)); ok || seen.DroppedStranger != 1 || len(b.stations()) != 1 {
		t.Errorf("an address that is not configured: %t, %+v", ok, seen)
	}
	if ok, seen := b.hear("10.9.0.2", callOf("r1", true)); ok || seen.DroppedOwn != 1 {
		t.Errorf("our own call: %t, %+v", ok, seen)
	}
	data := append([]byte(nil), callOf("r2", true)...)
	data[3] = 2
	if ok, seen := b.hear("10.9.0.2", data); ok || seen.DroppedStranger != 1 || len(b.node.Peers()) != 0 {
		t.Errorf("data of nobody: %t, %+v", ok, seen)
	}
	if ok, seen := b.hear("10.9.0.2", namesakeOf("r1")); ok || seen.DroppedNamesake != 1 || seen.NamesakeName != "r1" {
		t.Errorf("a namesake: %t, %+v", ok, seen)
	}
	if ok, _ := b.hear("10.9.0.2", callOf("r2", true)); !ok || b.station("10.9.0.2").peer.Name() != "r2" {
		t.Errorf("a call: %t, %+v", ok, b.station("10.9.0.2"))
	}
	// Another node may have the address later, but not as often as one likes.
	b.hear("10.9.0.2", callOf("r3", true))
	if n := b.station("10.9.0.2").peer.Name(); n != "r2" {
		t.Errorf("the name changed to %s at once", n)
	}
	b.now += int64(callEvery)
	b.hear("10.9.0.2", callOf("r3", true))
	if n := b.station("10.9.0.2").peer.Name(); n != "r3" || len(b.node.Peers()) != 2 {
		t.Errorf("the silent address is still %s's", n)
	}
	if st := b.node.Named("r2"); st == nil {
		t.Error("the peer of before, and its view, is gone")
	}
}

// TestFloodOfCalls: whoever calls from many addresses, or under many names, makes
// few stations and few peers, and moves others out slowly.
func TestFloodOfCalls(t *testing.T) {
	b := newBench()
	for i := range 10000 {
		b.hear(fmt.Sprintf("10.9.%d.%d", i>>8, i&0xff), callOf(fmt.Sprintf("ghost%d", i), true))
		b.now += int64(time.Millisecond)
	}
	if n, m := len(b.stations()), len(b.node.Peers()); n > maxFound || m > maxPeers {
		t.Errorf("%d stations, %d peers", n, m)
	}
	b.now += int64(callEvery)
	if b.hear("10.9.200.2", callOf("ghost3", true)); b.station("10.9.200.2") == nil {
		t.Error("after the flood nobody is found")
	}
}

// TestOneNodeOnTwoLinks: a name is one peer, whatever the link.
func TestOneNodeOnTwoLinks(t *testing.T) {
	b := newBench()
	second := &bench{Link: New(Config{Interface: "sync1", Now: b.cfg.Now}, b.node), now: b.now}
	b.hear("10.9.0.2", callOf("r2", true))
	second.hear("fe80::2", callOf("r2", true))
	one, two := b.station("10.9.0.2"), second.station("fe80::2")
	if len(b.node.Peers()) != 1 || one.peer != two.peer || one.path == two.path || !one.path.InUse() || two.path.InUse() {
		t.Errorf("%+v, %+v", one, two)
	}
	if b.order != 0 || second.order != 1 {
		t.Errorf("orders %d and %d", b.order, second.order)
	}
}

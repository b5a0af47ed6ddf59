// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/syncproto"
)

// An Active goes on adopting, whenever the link has ticked: without news that
// must not wake the link, or the two keep a processor busy for ever.
func TestAdoptWakesForNewsOnly(t *testing.T) {
	now := int64(time.Hour)
	made := func(name string) (*syncproto.Node, *syncproto.Path) {
		n := syncproto.New(syncproto.Config{Policy: conntrack.DefaultPolicy(), Rand: rand.Reader, Name: name})
		return n, n.AddPeer("peer", now).AddPath(0, now)
	}
	a, toB := made("a")
	b, toA := made("b")
	carry := func() {
		buf := make([]byte, 1400)
		for range 500 {
			now += int64(time.Millisecond)
			a.Tick(now)
			b.Tick(now)
			if n := toB.Fill(buf, now); n > 0 {
				_ = toA.Receive(buf[:n], now) // refused is lost
			}
			if n := toA.Fill(buf, now); n > 0 {
				_ = toB.Receive(buf[:n], now)
			}
		}
	}
	tell := func(port uint16) {
		c, s := conntrack.AddrFrom(netip.MustParseAddr("10.0.0.7")), conntrack.AddrFrom(netip.MustParseAddr("198.51.100.9"))
		a.Tell(&conntrack.Flow{Family: conntrack.IPv4, Proto: unix.IPPROTO_UDP, Timeout: 30, Status: conntrack.Confirmed | conntrack.SeenReply,
			Orig:  conntrack.Tuple{Src: c, Dst: s, SrcPort: port, DstPort: 53},
			Reply: conntrack.Tuple{Src: s, Dst: c, SrcPort: 53, DstPort: port}}, now)
		carry()
	}
	a.SetActive(true)
	tell(1)
	if n := toA.Peer().View().Len(); n != 1 {
		t.Fatalf("the view has %d flows, want 1", n)
	}
	b.SetActive(true)
	wakes := 0
	r := &replica{node: &link.Locked{Node: b}, now: func() int64 { return now }, wake: func() { wakes++ }}
	for range 10 {
		r.Adopt()
		carry()
	}
	if wakes != 1 {
		t.Errorf("one flow to adopt, ten times: the link was woken %d times, want once", wakes)
	}
	tell(2) // the former Active's last word
	for range 10 {
		r.Adopt()
	}
	if wakes < 2 || wakes > 3 { // the flow of before may be told again with it
		t.Errorf("another flow: woken %d times in all, want two or three", wakes)
	}
}

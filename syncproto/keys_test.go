// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// TestKernelKeys: those flows of a view that were committed, and not lost since.
func TestKernelKeys(t *testing.T) {
	c := coupleWith(10)
	v := c.ba.View()
	count := func() (n int) {
		for from := v.KernelKeys(0, 3, func(*conntrack.Key) { n++ }); from != 0; {
			from = v.KernelKeys(from, 3, func(*conntrack.Key) { n++ })
		}
		return n
	}
	if n := count(); n != 0 {
		t.Errorf("%d before any was committed", n)
	}
	do(v, 0, c.now)
	if n := count(); n != 10 {
		t.Errorf("%d of 10", n)
	}
	k := tcpFlow(3).Key()
	v.Lost(&k)
	if n := count(); n != 9 {
		t.Errorf("%d after one was lost", n)
	}
}

// TestOwnKeys: every own flow of both families once, whatever the slices.
func TestOwnKeys(t *testing.T) {
	n := New(Config{Policy: conntrack.DefaultPolicy(), Rand: seeded(5), Name: "a"})
	want := map[conntrack.Key]bool{}
	for i := range 300 {
		f := conntrack.Flow{Family: conntrack.IPv4, Proto: unix.IPPROTO_UDP, Timeout: 100,
			Status: conntrack.SeenReply | conntrack.Confirmed}
		src := "10.0.0.1"
		if i%3 == 0 {
			f.Family, src = conntrack.IPv6, "2001:db8::1"
		}
		a := conntrack.AddrFrom(netip.MustParseAddr(src))
		f.Orig = conntrack.Tuple{Src: a, Dst: a, SrcPort: uint16(i), DstPort: 53}
		f.Reply = conntrack.Tuple{Src: a, Dst: a, SrcPort: 53, DstPort: uint16(i)}
		n.Tell(&f, 1)
		want[f.Key()] = true
	}
	for _, max := range []int{1, 7, 100, 100_000} {
		got, calls := map[conntrack.Key]int{}, 0
		for from := uint32(0); ; {
			from = n.OwnKeys(from, max, func(k *conntrack.Key) { got[*k]++ })
			if calls++; from == 0 || calls > 10_000 {
				break
			}
		}
		if len(got) != len(want) {
			t.Errorf("slices of %d: %d keys, want %d", max, len(got), len(want))
		}
		for k, times := range got {
			if !want[k] || times != 1 {
				t.Errorf("slices of %d: %+v came %d times", max, k, times)
			}
		}
	}
}

// Own walks own flows until fn says false; f is reused. owner says whether
// this node owns it.
func (n *Node) Own(fn func(f *conntrack.Flow, owner bool) bool) {
	var f conntrack.Flow
	for k := range n.own.tabs {
		t := &n.own.tabs[k]
		for i := range t.size {
			if b := t.at(i); b.has(flagUsed) {
				t.load(i, &f)
				if !fn(&f, b.has(ownOwner)) {
					return
				}
			}
		}
	}
}

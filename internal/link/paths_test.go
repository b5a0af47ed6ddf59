// SPDX-License-Identifier: Apache-2.0

package link

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/syncproto"
)

// address gives a side's interface an address, and sets it up.
func (s *side) address(iface, addr string) {
	s.t.Helper()
	p := netip.MustParsePrefix(addr)
	s.must(func() error {
		dev, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(dev); err != nil {
			return err
		}
		ipnet := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		return netlink.AddrAdd(dev, &netlink.Addr{IPNet: ipnet, Flags: unix.IFA_F_NODAD})
	})
}

// newTwice makes two sides with two cables between them, sync0 and sync1.
func newTwice(t testing.TB) (a, b *side) {
	t.Helper()
	a, b = newSides(t)
	cable(a, b, "sync1")
	a.address("sync1", "192.168.254.1/24")
	b.address("sync1", "192.168.254.2/24")
	return a, b
}

// twoLinks are links on both cables; empty peers are found.
func twoLinks(peers ...string) []Config {
	out := []Config{{Interface: "sync0"}, {Interface: "sync1"}}
	for i, p := range peers {
		out[i].Peers = []netip.Addr{netip.MustParseAddr(p)}
	}
	return out
}

// paths gives how the ways to the only peer do, by link.
func (s *side) paths() (out []PeerStats) {
	for _, l := range s.more {
		out = append(out, l.Stats().Peers...)
	}
	return out
}

// bothWays says whether both sides have one peer, and hear it by n paths.
func bothWays(n int, sides ...*side) bool {
	for _, s := range sides {
		well := 0
		for _, p := range s.paths() {
			if p.Hearing && p.Echoed {
				well++
			}
		}
		s.node.Lock()
		peers := len(s.node.Peers())
		s.node.Unlock()
		if well != n || peers != 1 {
			return false
		}
	}
	return true
}

// inUse is the link by which a side sends, -1: none.
func (s *side) inUse() int {
	return slices.IndexFunc(s.paths(), func(p PeerStats) bool { return p.InUse })
}

// TestFailover: two links, flows that change thousands of times a second. The
// link in use fails in every way there is; changes arrive over the other one in
// less than 300 ms, the peer never goes down and nothing is joined anew.
func TestFailover(t *testing.T) {
	const runs = 5
	a, b := newTwice(t)
	a.startLinks(twoLinks("192.168.255.2", "192.168.254.2")...)
	b.startLinks(twoLinks("192.168.255.1", "192.168.254.1")...)
	a.tell(0, 5000)
	wait(t, patience, "joined", func() bool { n, c := b.view(); return n == 5000 && c && bothWays(2, a, b) })
	a.node.Lock()
	a.node.Events()
	a.node.Unlock()
	b.node.Lock()
	b.node.Events()
	b.node.Unlock()
	c := change(a, b)
	defer c.stop()
	for _, tt := range []struct {
		name      string
		cut, mend func(iface string)
	}{
		{"peer's interface down", func(i string) { b.setUp(i, false) }, func(i string) { b.setUp(i, true) }},
		{"nothing to the peer", func(i string) { b.dropFrom("cut", i) }, func(string) { b.undrop("cut") }},
		{"nothing from the peer", func(i string) { a.dropFrom("cut", i) }, func(string) { a.undrop("cut") }},
		{"nothing both ways", func(i string) { a.dropFrom("cut", i); b.dropFrom("cut", i) }, func(string) { a.undrop("cut"); b.undrop("cut") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var gaps []time.Duration
			for range runs {
				iface := fmt.Sprintf("sync%d", a.inUse())
				c.reset()
				tt.cut(iface)
				time.Sleep(500 * time.Millisecond)
				gaps = append(gaps, c.reset())
				tt.mend(iface)
				wait(t, patience, "mended", func() bool { return bothWays(2, a, b) })
			}
			slices.Sort(gaps)
			t.Logf("nothing arrived for %v", gaps)
			if m := gaps[len(gaps)/2]; m > 300*time.Millisecond {
				t.Errorf("median %v, want at most 300 ms", m)
			}
		})
	}
	told := c.stop()
	wait(t, patience, "all there", func() bool { return b.marks(told) })
	for _, s := range []*side{a, b} {
		s.node.Lock()
		for _, ev := range s.node.Events() {
			t.Errorf("%s: event %d: %s", s.addr, ev.Kind, ev.Why)
		}
		p := s.node.Peers()[0].Stats()
		s.node.Unlock()
		t.Logf("%s: %d changes of path, %d datagrams lost", s.addr, p.PathChanges, p.LostDatagrams)
		if p.Sessions != 1 {
			t.Errorf("%d sessions, want 1", p.Sessions)
		}
	}
}

func (s *side) setUp(iface string, up bool) {
	s.t.Helper()
	s.must(func() error {
		dev, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		if up {
			return netlink.LinkSetUp(dev)
		}
		return netlink.LinkSetDown(dev)
	})
}

// dropFrom drops what comes in by one interface.
func (s *side) dropFrom(table, iface string) {
	s.t.Helper()
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, iface)
	s.drop(table, nftables.ChainHookInput,
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name})
}

// TestLinkLocal: IPv6 addresses of link scope, the same on both links.
func TestLinkLocal(t *testing.T) {
	a, b := newTwice(t)
	one, two := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")
	for _, iface := range []string{"sync0", "sync1"} {
		a.address(iface, "fe80::1/64")
		b.address(iface, "fe80::2/64")
	}
	links := func(own, peer netip.Addr) []Config {
		return []Config{{Interface: "sync0", Listen: own, Peers: []netip.Addr{peer}}, {Interface: "sync1", Listen: own, Peers: []netip.Addr{peer}}}
	}
	a.startLinks(links(one, two)...)
	b.startLinks(links(two, one)...)
	a.tell(0, 1000)
	wait(t, patience, "joined", func() bool { n, c := b.view(); return n == 1000 && c && bothWays(2, a, b) })
	b.setUp("sync0", false)
	a.tell(1000, 1000)
	took := wait(t, 3*time.Second, "there by the other link", func() bool { n, _ := b.view(); return n == 2000 })
	t.Logf("there after %v", took)
	if s := a.more[1].Stats(); s.Local != one || s.Peers[0].Address != two || !s.Peers[0].InUse || !s.Peers[0].Up {
		t.Errorf("the second link: %+v", s)
	}
}

// TestFoundOnTwoLinks: nobody is configured; a node that is found on two links,
// by IPv4 on one and by IPv6 of link scope on the other, is one peer.
func TestFoundOnTwoLinks(t *testing.T) {
	a, b := newSides(t)
	a.name, b.name = "r1", "r2"
	cable(a, b, "sync1")
	a.address("sync1", "fe80::1/64")
	b.address("sync1", "fe80::2/64")
	links := twoLinks()
	links[0].Group, links[1].Group = netip.MustParseAddr("225.0.0.51"), group6
	a.startLinks(links...)
	b.startLinks(links...)
	a.tell(0, 1000)
	took := wait(t, patience, "one peer by two paths", func() bool { n, c := b.view(); return n == 1000 && c && bothWays(2, a, b) })
	t.Logf("found after %v", took)
	for _, p := range a.paths() {
		if p.Name != "r2" {
			t.Errorf("path %+v", p)
		}
	}
	b.stop()
	b.startLinks(links...) // it has forgotten, and a calls seldom
	took = wait(t, patience, "found again", func() bool { n, c := b.view(); return n == 1000 && c && bothWays(2, a, b) })
	t.Logf("found again after %v", took) // 0.1 s as a rule; a's next call by itself may be a second away
}

// TestStartsWithoutOneLink: a card that is missing does not keep a node with
// another link from starting, and is used when it is there.
func TestStartsWithoutOneLink(t *testing.T) {
	a, b := newSides(t)
	links := twoLinks("192.168.255.2", "192.168.254.2")
	a.startLinks(links...)
	b.startLinks(Config{Interface: "sync0", Peers: []netip.Addr{a.addr}}, Config{Interface: "sync1", Listen: netip.MustParseAddr("192.168.254.2")})
	wait(t, patience, "joined by the first", func() bool { return bothWays(1, a, b) })
	cable(a, b, "sync1")
	a.address("sync1", "192.168.254.1/24")
	b.address("sync1", "192.168.254.2/24")
	wait(t, patience, "joined by the second", func() bool { return bothWays(2, a, b) })
}

// TestLinksToDifferentPeers: each of a's links leads to another node; what a
// tells arrives at both at once, and one that is gone holds up nobody.
func TestLinksToDifferentPeers(t *testing.T) {
	a, b := newSides(t)
	c := &side{t: t, addr: netip.MustParseAddr("192.168.253.3"), ns: newNamespace(t)}
	cable(a, c, "sync2")
	a.address("sync2", "192.168.253.1/24")
	c.address("sync2", "192.168.253.3/24")
	a.startLinks(Config{Interface: "sync0"}, Config{Interface: "sync2"})
	b.startLinks(Config{Interface: "sync0"})
	c.startLinks(Config{Interface: "sync2"})
	a.tell(0, 1000)
	have := func(n int) func() bool {
		return func() bool {
			nb, cb := b.view()
			nc, cc := c.view()
			return nb == n && nc == n && cb && cc
		}
	}
	wait(t, patience, "at both", have(1000))
	var took []time.Duration
	for i := range 20 {
		time.Sleep(7 * time.Millisecond)
		a.tell(1000+i, 1)
		took = append(took, wait(t, patience, "at both", have(1001+i)))
	}
	within100(t, took)
	b.setUp("sync0", false)
	a.tell(1020, 5000)
	wait(t, 3*time.Second, "at the one that is left", func() bool { n, _ := c.view(); return n == 6020 })
	b.setUp("sync0", true)
	wait(t, patience, "at both again", have(6020))
}

// TestNamesake: a node of the same name is not listened to, counted and shown.
func TestNamesake(t *testing.T) {
	a, b := newSides(t)
	a.name, b.name = "r1", "r1"
	a.start()
	b.start(a.addr)
	wait(t, patience, "counted", func() bool { return a.link.Stats().DroppedNamesake > 2 && b.link.Stats().DroppedNamesake > 2 })
	if s := a.link.Stats(); s.Namesake != b.addr || s.NamesakeHeard.IsZero() || a.thePeer() != nil {
		t.Errorf("stats %+v", s)
	}
}

// TestCallsBeginNothing: calls of somebody who was, played from everywhere, make
// no session, and no more stations than there is room for; who lives is found.
func TestCallsBeginNothing(t *testing.T) {
	a, b := newSides(t)
	a.start()
	call := make([]byte, syncproto.MinPayload)
	call = call[:newNamed("ghost").FillCall(call, true)]
	for i := range 40 {
		src := fmt.Sprintf("192.168.255.%d", 100+i)
		b.address("sync0", src+"/24")
		b.sendAs(netip.MustParseAddr(src), a.addr, call)
	}
	wait(t, patience, "heard", func() bool { return len(a.link.Stats().Peers) == maxFound })
	time.Sleep(300 * time.Millisecond)
	s := a.link.Stats()
	if up, stats := a.peerNow(); a.thePeer().Name() != "ghost" || up || stats.Sessions != 0 || len(s.Peers) != maxFound {
		t.Errorf("%d stations, peer %+v", len(s.Peers), stats)
	}
	b.start()
	wait(t, patience, "found", func() bool {
		a.node.Lock()
		defer a.node.Unlock()
		p := a.node.Named(b.addr.String())
		return p != nil && p.Up()
	})
}

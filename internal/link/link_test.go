// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// joined starts both sides and waits until each view is complete.
func joined(t testing.TB, a, b *side) {
	t.Helper()
	a.start(b.addr)
	b.start(a.addr)
	wait(t, patience, "joined", func() bool {
		_, ca := a.view()
		_, cb := b.view()
		return ca && cb
	})
}

// within100 judges the median: a host that stands still once is not the link's.
func within100(t *testing.T, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	middle, worst := took[len(took)/2], took[len(took)-1]
	t.Logf("median of %d: %v, worst: %v", len(took), middle, worst)
	if middle > 100*time.Millisecond {
		t.Errorf("a flow took %v in the median, want at most 100 ms", middle)
	}
}

func TestFlowArrivesWithinMilliseconds(t *testing.T) {
	a, b := newSides(t)
	joined(t, a, b)
	var took []time.Duration
	for i := range 20 {
		time.Sleep(7 * time.Millisecond)
		a.tell(i, 1)
		took = append(took, wait(t, patience, "there", func() bool { n, _ := b.view(); return n == i+1 }))
	}
	within100(t, took)
	wait(t, patience, "carrier, and heard lately", func() bool {
		s := a.link.Stats()
		return s.Carrier && time.Since(s.LastHeard) < time.Second
	})
	s := a.link.Stats()
	if !s.Carrier || s.MTU != 1500 || s.Local != a.addr || len(s.Peers) != 1 || !s.Peers[0].Up {
		t.Errorf("stats %+v", s)
	}
}

func TestFoundWithoutConfiguration(t *testing.T) {
	a, b := newSides(t)
	a.start()
	b.start()
	a.tell(0, 10)
	wait(t, patience, "found", func() bool { n, c := b.view(); return n == 10 && c })
	if s := a.link.Stats(); len(s.Peers) != 1 || s.Peers[0].Address != b.addr || s.Peers[0].Name != b.addr.String() {
		t.Errorf("peers %+v", s.Peers)
	}
}

func TestLossAndRestart(t *testing.T) {
	a, b := newSides(t)
	a.lose(20)
	b.lose(20)
	joined(t, a, b)
	const flows = 20000
	for i := 0; i < flows; i += 100 {
		a.tell(i, 100)
		time.Sleep(time.Millisecond)
	}
	took := wait(t, patience, "all there", func() bool { n, _ := b.view(); return n == flows })
	a.node.Lock()
	s := a.node.Peers()[0].Stats()
	a.node.Unlock()
	t.Logf("%d flows under 20 %% loss: %v after the last; lost %d of %d datagrams, %d full records",
		flows, took, s.LostDatagrams, s.SentDatagrams, s.SentFull)
	if s.LostDatagrams == 0 {
		t.Error("nothing was lost: the rule does not work")
	}

	b.stop()
	b.start(a.addr)
	took = wait(t, patience, "all there again", func() bool { n, c := b.view(); return n == flows && c })
	t.Logf("the receiver restarted: whole view after %v", took)

	a.stop()
	a.start(b.addr)
	a.tell(0, flows/2)
	took = wait(t, patience, "swept", func() bool { n, c := b.view(); return n == flows/2 && c })
	t.Logf("the sender restarted with half of its flows: swept after %v", took)
}

func TestMTU(t *testing.T) {
	a, b := newSides(t)
	for _, s := range []*side{a, b} {
		s.must(func() error {
			dev, err := netlink.LinkByName("sync0")
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(dev, 9000)
		})
	}
	joined(t, a, b)
	a.tell(0, 20000)
	wait(t, patience, "all there", func() bool { n, _ := b.view(); return n == 20000 })
	if s := b.link.Stats(); s.ReceivedBytes/s.ReceivedDatagrams < 500 || s.MTU != 9000 {
		t.Errorf("jumbo frames are not used: %+v", s)
	}
	jumbo := b.link.Stats().ReceivedDatagrams
	for _, s := range []*side{a, b} {
		s.must(func() error {
			dev, err := netlink.LinkByName("sync0")
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(dev, 1280)
		})
	}
	wait(t, patience, "noticed", func() bool { return a.link.Stats().MTU == 1280 })
	a.tell(20000, 20000)
	wait(t, patience, "all there", func() bool { n, _ := b.view(); return n == 40000 })
	if small := b.link.Stats().ReceivedDatagrams - jumbo; small < 150 {
		t.Errorf("%d datagrams for 20,000 flows: they were fragmented", small)
	}
}

func TestRefuses(t *testing.T) {
	a, b := newSides(t)
	joined(t, a, b)
	b.stop() // its port is free for forgeries
	a.quiet()
	before := a.link.Stats()
	peer := a.thePeer()
	a.node.Lock()
	stats := peer.Stats()
	a.node.Unlock()

	a.mustCount(t, func() { b.sendFrom(a.addr, DefaultPort, 64, []byte("far")) }, func(s Stats) bool { return s.DroppedHops == before.DroppedHops+1 })
	a.mustCount(t, func() { b.sendFrom(a.addr, 4000, 255, []byte("port")) }, func(s Stats) bool { return s.DroppedStranger == before.DroppedStranger+1 })
	a.mustCount(t, func() { b.sendFrom(a.addr, DefaultPort, 255, []byte("noise")) },
		func(Stats) bool {
			a.node.Lock()
			defer a.node.Unlock()
			return peer.Stats().RefusedShort == stats.RefusedShort+1
		})
	if n, c := a.view(); n != 0 || !c {
		t.Errorf("forgeries changed the view: %d %v", n, c)
	}
}

// quiet waits until nothing of the peer that stopped is on its way, and gives how
// many datagrams came.
func (s *side) quiet() uint64 {
	for last := s.link.Stats().ReceivedDatagrams; ; {
		time.Sleep(400 * time.Millisecond)
		n := s.link.Stats().ReceivedDatagrams
		if n == last {
			return n
		}
		last = n
	}
}

func (s *side) mustCount(t testing.TB, do func(), moved func(Stats) bool) {
	t.Helper()
	do()
	wait(t, patience, "counted", func() bool { return moved(s.link.Stats()) })
}

func TestOtherInterface(t *testing.T) {
	a, b := newSides(t)
	a.must(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan0"}, PeerName: "lan0", PeerNamespace: netlink.NsFd(b.ns)})
	})
	for i, s := range []*side{a, b} {
		s.must(func() error {
			dev, err := netlink.LinkByName("lan0")
			if err != nil {
				return err
			}
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 0, byte(i+1)), Mask: net.CIDRMask(24, 32)}}
			if err := netlink.AddrAdd(dev, addr); err != nil {
				return err
			}
			return netlink.LinkSetUp(dev)
		})
	}
	joined(t, a, b)
	b.stop()
	before := a.quiet()
	b.must(func() error { // to the sync address by way of the other cable
		dev, err := netlink.LinkByName("lan0")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: dev.Attrs().Index,
			Dst: &net.IPNet{IP: a.addr.AsSlice(), Mask: net.CIDRMask(32, 32)}, Scope: unix.RT_SCOPE_LINK})
	})
	b.sendFrom(a.addr, DefaultPort, 255, []byte("by another way"))
	time.Sleep(100 * time.Millisecond)
	if s := a.link.Stats(); s.ReceivedDatagrams != before {
		t.Errorf("a datagram by another interface was received: %+v", s)
	}
}

func TestNothingHeardThoughCarrier(t *testing.T) {
	a, b := newSides(t)
	a.drop("filter", nftables.ChainHookInput, udpPort(DefaultPort)...)
	a.start(b.addr)
	b.start(a.addr)
	wait(t, patience, "heard by the other side", func() bool { return a.link.Stats().Carrier && !b.link.Stats().LastHeard.IsZero() })
	time.Sleep(300 * time.Millisecond)
	if s := a.link.Stats(); !s.LastHeard.IsZero() || !s.Carrier || s.Peers[0].Up || s.SentDatagrams == 0 {
		t.Errorf("behind a filter: %+v", s)
	}
	if s := b.link.Stats(); s.LastHeard.IsZero() || s.Peers[0].Up {
		t.Errorf("the other side: %+v", s)
	}
	a.undrop("filter")
	wait(t, patience, "up", func() bool { return a.link.Stats().Peers[0].Up && b.link.Stats().Peers[0].Up })
}

func TestInterfaceComesAndGoes(t *testing.T) {
	a, b := newSides(t)
	joined(t, a, b)
	a.must(func() error {
		dev, err := netlink.LinkByName("sync0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(dev)
	})
	wait(t, patience, "noticed", func() bool { return !a.link.Stats().Carrier })
	a.must(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sync0"}, PeerName: "sync0", PeerNamespace: netlink.NsFd(b.ns)})
	})
	a.up()
	b.up()
	up := func(s Stats) bool { return s.Carrier && s.Peers[0].Up } // Up alone is that of before for a while
	wait(t, patience, "up again", func() bool { return up(a.link.Stats()) && up(b.link.Stats()) })
	a.tell(0, 5)
	wait(t, patience, "there", func() bool { n, _ := b.view(); return n == 5 })
}

func TestRunRefuses(t *testing.T) {
	a, b := newSides(t)
	run := func(c Config) error {
		c.Peers = append(c.Peers, b.addr)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return in(a.ns, func() error { return New(c, newNode()).Run(ctx) })
	}
	if err := run(Config{Interface: "eth77"}); !contains(err, `interface "eth77"`) {
		t.Errorf("missing interface: %v", err)
	}
	a.must(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "bare0"}, PeerName: "bare1"})
	})
	if err := run(Config{Interface: "bare0"}); !contains(err, "no address", "listen-address") {
		t.Errorf("no address: %v", err)
	}
	a.start(b.addr)
	if err := run(Config{Interface: "sync0"}); !contains(err, "UDP port 3781", "address already in use") {
		t.Errorf("port taken: %v", err)
	}
}

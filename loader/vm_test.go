// SPDX-License-Identifier: Apache-2.0

//go:build vm

package loader

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// These run under Linux 6.1 (test/vm) and have no ip, nft or conntrack tool.

// link61 adds a link and sets it up with addresses.
func link61(t testing.TB, l netlink.Link, prefixes ...string) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(l); err != nil {
		t.Errorf("add %s: %v", l.Attrs().Name, err)
		return l
	}
	return up61(t, l.Attrs().Name, prefixes...)
}

func veth61(t *testing.T, name, peer string, to netns.NsHandle) {
	t.Helper()
	link61(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer, PeerNamespace: netlink.NsFd(to)})
}

func route61(t *testing.T, gateway string) {
	t.Helper()
	if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)}); err != nil {
		t.Errorf("add default route: %v", err)
	}
}

// lab61 is the lab without tools and without NAT; its out port is a VLAN on a
// bond.
//
//	client 10.1.0.2 --- in [router] bond0.7 - bond0 - port0 --- eth0.7 10.2.0.2 server
func lab61(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, client: newNS61(t), router: newNS61(t), server: newNS61(t)}
	l.in(l.router, func() {
		veth61(t, "in", "eth0", l.client)
		up61(t, "in", "10.1.0.1/24")
		bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: "bond0"})
		bond.Mode = netlink.BOND_MODE_ACTIVE_BACKUP
		bond.Miimon = 10
		b := link61(t, bond)
		for i, name := range []string{"port0", "port1"} {
			v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth" + string(rune('0'+i)), PeerNamespace: netlink.NsFd(l.server)}
			if err := netlink.LinkAdd(v); err != nil {
				t.Error(err)
			}
			if err := netlink.LinkSetMaster(v, b); err != nil {
				t.Errorf("enslave %s: %v", name, err)
			}
			up61(t, name)
		}
		link61(t, &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "bond0.7", ParentIndex: b.Attrs().Index}, VlanId: 7}, "10.2.0.1/24")
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
			t.Error(err)
		}
		track61(t)
	})
	l.in(l.client, func() { up61(t, "eth0", "10.1.0.2/24"); route61(t, "10.1.0.1"); awaitUp(t, "eth0") })
	l.in(l.router, func() { awaitUp(t, "in") })
	l.in(l.server, func() {
		e := up61(t, "eth0")
		up61(t, "eth1") // second: the bond stays with the port that had a carrier first
		link61(t, &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "eth0.7", ParentIndex: e.Attrs().Index}, VlanId: 7}, "10.2.0.2/24")
		route61(t, "10.2.0.1")
	})
	return l
}

// settle61 waits until packets pass: a bond looks for the carrier of its ports
// at intervals, and drops what comes before.
func settle61(t *testing.T, l *lab, server string) {
	t.Helper()
	conn := l.dial("udp", server)
	for begin := time.Now(); tryExchange(conn, 100*time.Millisecond) != nil; {
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("nothing passed to %s in 20 s", server)
		}
	}
}

// track61 makes a ruleset need conntrack.
func track61(t *testing.T) {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Error(err)
		return
	}
	table := c.AddTable(&nftables.Table{Name: "lab", Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{Name: "f", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}}})
	if err := c.Flush(); err != nil {
		t.Errorf("nftables: %v", err)
	}
}

// TestVMVLANOnBond: on 6.1 every program loads and attaches by clsact, flows of
// a VLAN on a bond are copied once, and the fence at TC holds.
func TestVMVLANOnBond(t *testing.T) {
	l := lab61(t)
	l.serve(80)
	settle61(t, l, "10.2.0.2:80")
	c, sink := l.capture(Options{Policy: conntrack.DefaultPolicy()})
	if rung, why := c.Mode(); rung != rungClsact {
		t.Errorf("rung %q (%s), want clsact", rung, why)
	}
	if c.fast {
		t.Error("direct reads on 6.1: is this 6.1?")
	}
	if got, want := c.Stats().Interfaces, []string{"bond0", "bond0.7", "in"}; !slices.Equal(got, want) {
		t.Errorf("captured %v, want %v", got, want)
	}
	most := 1 + l.exchanges(5, "10.2.0.2:80")
	sink.find(t, "UDP told", func(e *entry) bool { return e.told > 0 })
	tcp := l.dial("tcp", "10.2.0.2:80")
	e := sink.find(t, "ASSURED told", func(e *entry) bool { return e.flow.Status&conntrack.Assured != 0 && e.flow.Proto == 6 })
	if e.flow.TCP.State != conntrack.TCPEstablished || e.flow.Timeout < 400_000 || e.flow.Orig.DstPort != 80 {
		t.Errorf("content: %+v", e.flow)
	}
	time.Sleep(50 * time.Millisecond)
	if s := c.Stats(); s.Packets.Told < 2 || s.Packets.Told > most || s.Packets.Full != 0 {
		t.Errorf("two flows were told %d times: %+v", s.Packets.Told, s.Packets)
	}

	var f *Fence
	l.in(l.router, func() {
		var err error
		if f, err = OpenFence(logger(t)); err != nil {
			t.Error(err)
		}
	})
	defer f.Close()
	if f.Kind() != rungClsact {
		t.Errorf("fence is %q, want clsact", f.Kind())
	}
	f.Up(time.Minute)
	exchange(t, tcp)
	late := l.dial("udp", "10.2.0.2:80")
	if tryExchange(late, 100*time.Millisecond) == nil {
		t.Error("a new flow passed the fence")
	}
	begin := time.Now()
	f.Up(300 * time.Millisecond)
	for tryExchange(late, 20*time.Millisecond) != nil && time.Since(begin) < patience {
	}
	if d := time.Since(begin); d < 300*time.Millisecond || d >= patience {
		t.Errorf("a new flow passed the fence after %v", d)
	}
	if s := f.Stats(); s.DroppedNew == 0 || s.PassedKnown == 0 {
		t.Errorf("stats: %+v", s)
	}
	l.in(l.router, func() {
		links, err := Links()
		if err != nil {
			t.Error(err)
		}
		count := 0
		for _, lk := range links {
			if lk.Type == rungClsact {
				count++
			}
		}
		if count != 6 { // three interfaces, egress and ingress
			t.Errorf("%d filters are listed, want 6: %+v", count, links)
		}
	})
}

// TestVMGate: it loads on 6.1, attaches to the driver and to a VLAN, and drops.
func TestVMGate(t *testing.T) {
	for _, mtu := range []int{1500, 9000} {
		testGateTraffic(t, newCable(t, mtu), mtu, xdpNative)
	}
	c := newCable(t, 1500)
	g := looseGate(t, GateOptions{}) // where no neighbour says anything meanwhile
	live(g)
	for name, f := range map[string]frame{
		"passed_data":      {payload: data(6000).bytes()},
		"dropped_replay":   {payload: data(9).bytes()},
		"dropped_session":  {src: peer6, dst: own6, extensions: []byte{60, 60}, payload: dgram{kind: 2, sequence: 1}.bytes()},
		"dropped_fragment": {src: peer6, dst: own6, extensions: []byte{44}, fragment: 1, payload: data(6000).bytes()},
	} {
		if _, moved := g.judge(t, f.bytes()); len(moved) != 1 || moved[name] != 1 {
			t.Errorf("counters %v, want %s", moved, name)
		}
	}
	c.in(c.here, func() {
		for _, what := range []func() error{haveXDP, tryGate} {
			if err := what(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestVMGateBelowVLAN: an interface that carries another one is not the link's
// alone; the VLAN itself is.
func TestVMGateBelowVLAN(t *testing.T) {
	c := newCable(t, 1500)
	c.in(c.here, func() {
		link61(t, &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "sync0.7", ParentIndex: device(t, "sync0").Attrs().Index}, VlanId: 7})
	})
	g := c.gate()
	awaitMode(t, g, 0, "left alone", func(mode, why string) bool {
		return mode == "" && strings.Contains(why, `vlan "sync0.7" lies on it`)
	})
	c.in(c.here, func() {
		upper, err := OpenGate(GateOptions{Interface: "sync0.7", Port: gatePort, Log: logger(t)})
		if err != nil {
			t.Error(err)
			return
		}
		defer upper.Close()
		if mode, why := upper.Mode(); mode != xdpGeneric {
			t.Errorf("on the VLAN: mode %q (%s)", mode, why)
		}
	})
}

// TestVMAdverts: adverts by clsact, with kernel time.
func TestVMAdverts(t *testing.T) {
	l := lab61(t)
	testAdverts(t, l, "")
}

// TestVMAdvertFrames: by clsact and by XDP, which loads on 6.1.
func TestVMAdvertFrames(t *testing.T) {
	for _, r := range rungs[1:] {
		testAdvertFrames(t, r.name, r.way, r.tc)
	}
}

// TestVMAdvertsXDPAndVLAN: what is below a VLAN is TC's, since packets of the VLAN
// may have no tag at XDP any more; the VLAN itself has XDP without a driver.
func TestVMAdvertsXDPAndVLAN(t *testing.T) {
	c := newCable(t, 1500)
	vlan := func(parent string) {
		l := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: parent + ".7", ParentIndex: device(t, parent).Attrs().Index}, VlanId: 7}
		if err := netlink.LinkAdd(l); err != nil {
			t.Error(err)
		}
		up61(t, parent+".7")
	}
	c.in(c.there, func() { vlan("sync0") })
	a, ring := c.adverts(true, "", "sync0")
	awaitWay(t, a, "sync0", "xdp (native)", "")
	tagged := c.packetSocket(true, "sync0.7")
	send := func() {
		if _, err := unix.Write(tagged, wire{pdu: advert(12)}.bytes()); err != nil {
			t.Error(err)
		}
	}
	// Why: nothing in the packet says that it is the VLAN's.
	send()
	readAdverts(t, ring, 1)
	c.in(c.here, func() { vlan("sync0") })
	awaitWay(t, a, "sync0", "tc", `vlan "sync0.7" lies on it`)
	send()
	time.Sleep(50 * time.Millisecond)
	if n := ring.Drain(func([]byte) {}); n != 0 {
		t.Errorf("%d adverts of the VLAN were told as the interface's", n)
	}
	c.heard(ring, "by TC below a VLAN")

	b, ring := c.adverts(true, "", "sync0", "sync0.7")
	awaitWay(t, b, "sync0", "tc", `vlan "sync0.7" lies on it`)
	awaitWay(t, b, "sync0.7", "xdp (generic)", "not supported")
	send()
	got := readAdverts(t, ring, 1)
	c.in(c.here, func() {
		if want := device(t, "sync0.7").Attrs().Index; got[0].IfIndex != uint32(want) {
			t.Errorf("told of interface %d, want %d", got[0].IfIndex, want)
		}
	})
}

// TestVMAdvertsXDPOnBond: a bond's members have no part in it, so that adverts
// are told of the bond, and of a member that it does not use not at all.
func TestVMAdvertsXDPOnBond(t *testing.T) {
	c := newCable(t, 1500)
	index := 0
	c.in(c.here, func() {
		bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: "bond0"})
		bond.Mode = netlink.BOND_MODE_ACTIVE_BACKUP
		b := link61(t, bond)
		l := device(t, "sync0")
		if err := errors.Join(netlink.LinkSetDown(l), netlink.LinkSetMaster(l, b), netlink.LinkSetUp(l)); err != nil {
			t.Error(err)
		}
		index = b.Attrs().Index
		awaitUp(t, "sync0", "bond0")
	})
	c.in(c.there, func() { awaitUp(t, "sync0") })
	a, ring := c.adverts(true, "", "bond0")
	awaitWay(t, a, "bond0", "xdp (generic)", "the driver of a bond hands the program on to its members")
	c.heard(ring, "on a bond")
	out := c.packetSocket(true, "sync0")
	if _, err := unix.Write(out, wire{pdu: advert(12)}.bytes()); err != nil {
		t.Fatal(err)
	}
	if got := readAdverts(t, ring, 1); got[0].IfIndex != uint32(index) {
		t.Errorf("told of interface %d, want the bond's %d", got[0].IfIndex, index)
	}
}

// TestVMFeatures says what 6.1 has.
func TestVMFeatures(t *testing.T) {
	want := map[string]bool{
		"btf": true, "ctnetlink": true, "ring-buffer": true, "capture-tc": true, "direct-reads": false,
		"tcx": false, "adverts-tc": true, "adverts-xdp": true, "fence-netfilter": false, "accept-mode": false, "gate-xdp": true, "fence-tc": true,
	}
	for _, f := range Features() {
		if f.OK != want[f.Name] || f.Detail == "" || f.Needs == "" {
			t.Errorf("%+v, want %v", f, want[f.Name])
		}
	}
}

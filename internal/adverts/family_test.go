// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

// groups6 is one group of IPv6 on the LAN.
func groups6(priority uint8, interval time.Duration) []config.Group {
	return []config.Group{{
		Name: "LAN6", Interface: "eth0", VRID: 10, Priority: priority, AdvertInterval: interval, Version: 3,
		Addresses: []config.Address{
			{Prefix: netip.MustParsePrefix("fe80::100/64"), Interface: "eth0"},
			{Prefix: netip.MustParsePrefix("2001:db8:1::100/64"), Interface: "eth0"},
		},
	}}
}

var alone = []config.SyncGroup{}

// six gives both routers a link-local and a global address on the LAN at
// once: fe80::r and 2001:db8:1::r.
func (l *lab) six() {
	for r := 1; r <= 2; r++ {
		for _, p := range []string{"fe80::%d/64", "2001:db8:1::%d/64"} {
			run(l.t, "ip", "-n", l.r[r], "addr", "add", fmt.Sprintf(p, r), "dev", "eth0", "nodad")
		}
	}
}

func (n *router) has6(addr string) bool {
	return strings.Contains(run(n.t, "ip", "-n", n.ns, "-6", "addr", "show", "dev", "eth0"), " "+addr+"/")
}

// IPv6 by both rungs: the election, the addresses, the takeover in time.
func TestElection6(t *testing.T) {
	for _, ring := range []bool{false, true} {
		t.Run("ring "+strconv.FormatBool(ring), func(t *testing.T) {
			const interval = 100 * ms
			l := newLab(t)
			l.six()
			// The kernel's own link-local addresses stay tentative for a second: ours are there.
			a := l.start(1, Config{Groups: groups6(200, interval), SyncGroups: alone})
			await[AddressesIn](a, "AddressesIn", nil)
			if !a.has6("fe80::100") || !a.has6("2001:db8:1::100") {
				t.Error("the Active's addresses are not in")
			}
			cfg := Config{Groups: groups6(100, interval), SyncGroups: alone}
			if ring {
				cfg.Ring = l.ring(2)
			}
			b := l.start(2, cfg)
			await[Ready](b, "Ready", nil)
			none[Promoting](b, 600*ms)
			if out := run(t, "ip", "-n", l.r[2], "maddr", "show", "dev", "eth0"); !strings.Contains(out, "ff02::12") {
				t.Errorf("not joined:\n%s", out)
			}
			g := b.Status().Groups[0]
			if g.State != vrrp.Backup || !g.Active.IsLinkLocalUnicast() || g.ActivePriority != 200 || g.ActiveInterval != interval || g.Counters.RcvdAdvertisements < 3 {
				t.Errorf("the Backup: %+v", g)
			}
			if n := b.Status().RingMissed; n != 0 {
				t.Errorf("the ring missed %d adverts", n)
			}
			l.malformed6(b)
			machine := beside(t)
			l.cut("r1")
			e := await[Promoting](b, "Promoting", nil)
			if limit := 3*interval + interval*156/256; e.Silence < limit || e.Silence > limit+slack+machine.stood() {
				t.Errorf("took over after %v, want %v at most %v later; the machine stood still for %v", e.Silence, limit, slack, machine.stood())
			}
			await[AddressesIn](b, "AddressesIn", nil)
		})
	}
}

// malformed6 has a third router speak on r1's side: each check that IPv6 has
// its own way to, by its counter; nothing else moves.
func (l *lab) malformed6(b *router) {
	l.t.Helper()
	evil, src := l.attack(1, "eth0", true), netip.MustParseAddr("fe80::66")
	packet := func(change func(p []byte), first string) []byte {
		adv := vrrp.Advert{Version: 3, VRID: 10, Priority: 250, Interval: int64(100 * ms), Addresses: netip.MustParseAddr(first).AsSlice()}
		p := appendPacket(nil, &adv, vrrp.ChecksumAuto, src, vrrp.Group6, 0)
		change(p)
		return p
	}
	before := b.Status().Groups[0].Counters
	evil.send(packet(func(p []byte) { p[7] = 254 }, "fe80::100"))
	evil.send(packet(func(p []byte) { p[ipv6Header+6] ^= 1 }, "fe80::100"))
	evil.send(packet(func([]byte) {}, "2001:db8:1::100"))
	evil.send(packet(func(p []byte) { p[ipv6Header] = 2<<4 | 1 }, "fe80::100"))
	eventually(l.t, 5*time.Second, "counters", func() bool {
		c := b.Status().Groups[0].Counters
		return c.IPTTLErrors == before.IPTTLErrors+1 && c.ChecksumErrors == before.ChecksumErrors+1 &&
			c.LinkLocalErrors == before.LinkLocalErrors+1 && c.VersionErrors == before.VersionErrors+1
	})
	if g := b.Status().Groups[0]; g.State != vrrp.Backup || g.ActivePriority != 200 {
		l.t.Errorf("a malformed advert moved the Backup: %+v", g)
	}
}

// A group of IPv6 waits for a link-local address, says why, and goes on by
// itself: none, tentative, there; again after the link was down.
func TestWaitsForLinkLocal(t *testing.T) {
	l := newLab(t)
	run(t, "ip", "-n", l.r[1], "link", "set", "eth0", "addrgenmode", "none")
	run(t, "ip", "-n", l.r[1], "-6", "addr", "flush", "dev", "eth0")
	a := l.start(1, Config{Groups: groups6(200, 50*ms), SyncGroups: alone})
	await[Ready](a, "Ready", nil)
	reason := func(want string) func() bool {
		return func() bool { return strings.Contains(a.Status().Groups[0].Reason, want) }
	}
	eventually(t, 5*time.Second, "reason: none", reason("no IPv6 link-local address on eth0"))
	run(t, "ip", "netns", "exec", l.r[1], "sysctl", "-qw", "net.ipv6.conf.eth0.dad_transmits=1")
	run(t, "ip", "-n", l.r[1], "addr", "add", "fe80::1/64", "dev", "eth0")
	eventually(t, 5*time.Second, "reason: tentative", reason("the link-local address of eth0 is tentative"))
	await[AddressesIn](a, "AddressesIn", nil)
	run(t, "ip", "-n", l.r[1], "link", "set", "eth0", "down")
	await[Demoting](a, "Demoting", nil)
	run(t, "ip", "-n", l.r[1], "link", "set", "eth0", "up")
	eventually(t, 5*time.Second, "reason: none again", reason("no IPv6 link-local address on eth0"))
	run(t, "ip", "-n", l.r[1], "addr", "add", "fe80::2/64", "dev", "eth0", "nodad")
	await[AddressesIn](a, "AddressesIn", nil)
	if out := run(t, "ip", "-n", l.r[1], "maddr", "show", "dev", "eth0"); !strings.Contains(out, "ff02::12") {
		t.Errorf("not joined after the link came back:\n%s", out)
	}
	// Another host has the address.
	run(t, "ip", "-n", l.r[1], "addr", "del", "fe80::2/64", "dev", "eth0")
	run(t, "ip", "-n", l.r[2], "addr", "add", "fe80::66/64", "dev", "eth0", "nodad")
	run(t, "ip", "-n", l.r[1], "addr", "add", "fe80::66/64", "dev", "eth0")
	eventually(t, 5*time.Second, "reason: duplicate", reason("the link-local address of eth0 is a duplicate"))
}

// unicast makes a group one of peers.
func unicast(g []config.Group, self, peer string) []config.Group {
	g[0].HelloSource, g[0].Peers = netip.MustParseAddr(self), []config.Peer{{Addr: netip.MustParseAddr(peer), TTL: vrrp.TTL}}
	return g
}

// By unicast, of both families and by both rungs: the election works without a
// multicast packet, and nobody but a peer is heard.
func TestUnicast(t *testing.T) {
	for _, c := range []struct {
		name         string
		self, peer   string
		groups       func(uint8, time.Duration) []config.Group
		ring, source bool
	}{
		{"IPv4, ring", "10.1.0.1", "10.1.0.2", lan, true, false},
		{"IPv6", "fe80::1", "fe80::2", groups6, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			const interval = 100 * ms
			l := newLab(t)
			l.six()
			a := l.start(1, Config{Groups: unicast(c.groups(200, interval), c.self, c.peer), SyncGroups: alone})
			await[AddressesIn](a, "AddressesIn", nil)
			cfg := Config{Groups: unicast(c.groups(100, interval), c.peer, c.self), SyncGroups: alone}
			if !c.source {
				cfg.Groups[0].HelloSource = netip.Addr{}
			}
			if c.ring {
				cfg.Ring = l.ring(2)
			}
			b := l.start(2, cfg)
			await[Ready](b, "Ready", nil)
			none[Promoting](b, 600*ms)
			if g := b.Status().Groups[0]; g.State != vrrp.Backup || g.Active.String() != c.self || g.Counters.RcvdAdvertisements < 3 || g.Counters.PeerErrors != 0 {
				t.Errorf("the Backup: %+v", g)
			}
			// A stranger of higher priority, by multicast: counted, not heard.
			v6 := netip.MustParseAddr(c.self).Is6()
			adv := vrrp.Advert{Version: 3, VRID: 10, Priority: 250, Interval: int64(interval), Addresses: []byte{10, 1, 0, 100}}
			src := netip.MustParseAddr("10.1.0.2")
			if v6 {
				adv.Addresses, src = netip.MustParseAddr("fe80::100").AsSlice(), netip.MustParseAddr("fe80::2")
			}
			l.attack(2, "eth0", v6).send(appendPacket(nil, &adv, vrrp.ChecksumAuto, src, multicast(v6), 1))
			eventually(t, 5*time.Second, "a stranger's advert counted", func() bool { return a.Status().Groups[0].Counters.PeerErrors == 1 })
			none[Demoting](a, 50*ms)
			a.Stop()
			if e := await[Promoting](b, "Promoting", nil); e.Cause != vrrp.CausePriorityZero {
				t.Errorf("promotion: %+v", e)
			}
		})
	}
}

// Two peers at different distances: what has come two routers far is taken from
// the one that may be there, and is counted from the other.
func TestPeerTTL(t *testing.T) {
	for _, ring := range []bool{false, true} {
		t.Run("ring "+strconv.FormatBool(ring), func(t *testing.T) {
			l := newLab(t)
			self, near, far := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.9.0.3")
			g := lan(100, time.Second)
			g[0].Peers = []config.Peer{{Addr: near, TTL: vrrp.TTL}, {Addr: far, TTL: 253}}
			cfg := Config{Groups: g, SyncGroups: alone}
			if ring {
				cfg.Ring = l.ring(1)
			}
			run(t, "ip", "-n", l.r[1], "route", "add", "10.9.0.0/24", "via", near.String()) // the reverse path is looked at
			a := l.start(1, cfg)
			await[Ready](a, "Ready", nil)
			sender := l.attack(2, "eth0", false)
			send := func(src netip.Addr, ttl, priority uint8) {
				adv := vrrp.Advert{Version: 3, VRID: 10, Priority: priority, Interval: int64(time.Second), Addresses: []byte{10, 1, 0, 100}}
				p := appendPacket(nil, &adv, vrrp.ChecksumAuto, src, self, 1)
				p[8], p[10], p[11] = ttl, 0, 0
				binary.BigEndian.PutUint16(p[10:], headerSum(p[:ipv4Header]))
				sender.send(p)
			}
			state := func() GroupStatus { return a.Status().Groups[0] }
			send(far, 253, 200)
			eventually(t, 5*time.Second, "the far peer heard", func() bool { return state().Active == far && state().ActivePriority == 200 })
			send(near, 253, 201)
			eventually(t, 5*time.Second, "the near peer's counted", func() bool { return state().Counters.IPTTLErrors == 1 })
			send(far, 252, 202)
			eventually(t, 5*time.Second, "the far peer's counted", func() bool { return state().Counters.IPTTLErrors == 2 })
			if s := state(); s.Active != far || s.ActivePriority != 200 || s.Counters.PeerErrors != 0 {
				t.Errorf("a dropped advert moved the group: %+v", s)
			}
			send(near, 255, 203)
			eventually(t, 5*time.Second, "the near peer heard", func() bool { return state().Active == near && state().ActivePriority == 203 })
		})
	}
}

// lan is the first of groups.
func lan(priority uint8, interval time.Duration) []config.Group {
	return groups(priority, interval)[:1]
}

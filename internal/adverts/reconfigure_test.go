// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

// other is behindMAC with changed addresses: one of the LAN's more, and another
// one in place of those of the WAN and the excluded ones.
func other(interval time.Duration) []config.Group {
	g := behindMAC(200, interval)
	g[0].Addresses = prefixes("eth0", "10.1.0.102/24", "10.1.0.100/24")
	g[0].Excluded = prefixes("eth0", "2001:db8::103/64")
	g[1].Addresses = prefixes("eth1", "10.2.0.102/24")
	return g
}

// An Active's addresses change while it is Active: those that are gone go out,
// new ones come in and are announced, those that stay are never out; no role
// changes and no advert is missing. Back and forth, and for a Backup, too.
func TestReconfigure(t *testing.T) {
	l := newLab(t)
	host := l.host()
	before := behindMAC(200, 50*ms)
	a := l.start(1, Config{Groups: before})
	await[AddressesIn](a, "AddressesIn", nil)
	b := l.start(2, Config{Groups: behindMAC(100, 50*ms)})
	await(b, "Backup", func(e Changed) bool { return e.To == vrrp.Backup })
	first := l.capture("r1lan")
	sent, began, machine := a.Status().Groups[0].Counters.SentAdvertisements, time.Now(), beside(t)
	for turn := range 3 {
		first.from(lanMAC)
		if err := a.Reconfigure(other(50 * ms)); err != nil {
			t.Fatal(err)
		}
		a.eventuallyHas("eth0v10v4", "10.1.0.102", true)
		a.eventuallyHas("eth1", "10.2.0.102", true)
		a.eventuallyHas("eth1", "10.2.0.100", false)
		a.eventuallyHas("eth1", "10.2.0.101", false)
		a.wantAddress("eth0v10v4", "10.1.0.100", true)
		eventually(t, 5*time.Second, "the new address answers", func() bool { ok, _ := l.pings(host, "10.1.0.102"); return ok })
		if len(first.from(lanMAC)) == 0 {
			t.Errorf("turn %d: nothing announced", turn)
		}
		if err := a.Reconfigure(before); err != nil {
			t.Fatal(err)
		}
		a.eventuallyHas("eth0v10v4", "10.1.0.102", false)
		a.eventuallyHas("eth1", "10.2.0.102", false)
		a.eventuallyHas("eth1", "10.2.0.100", true)
		a.eventuallyHas("eth1", "10.2.0.101", true)
		a.wantAddress("eth0v10v4", "10.1.0.100", true)
	}
	if n, want := a.Status().Groups[0].Counters.SentAdvertisements-sent, uint64((time.Since(began)-machine.lost())/(50*ms)); n+2 < want {
		t.Errorf("%d adverts sent, want %d", n, want)
	}
	for _, n := range []*router{a, b} {
		if err := n.Reconfigure(other(50 * ms)); err != nil {
			t.Fatal(err)
		}
		none[Changed](n, 200*ms)
	}
	if got := b.Status().Groups[0].Counters.AddressListErrors; got == 0 {
		t.Error("no other list was counted")
	}
	a.HandOver("MAIN")
	await[AddressesOut](a, "AddressesOut", nil)
	b.TakeOver("MAIN", 0)
	await[AddressesIn](b, "AddressesIn", nil)
	for addr, want := range map[string]bool{"10.2.0.102": true, "10.2.0.100": false, "10.2.0.101": false} {
		b.wantAddress("eth1", addr, want)
		a.eventuallyHas("eth1", addr, false) // they linger, since a virtual MAC was handed over
	}
}

// An address that cannot go in, and its alarm, end with the address.
func TestReconfigureEndsAlarm(t *testing.T) {
	l := newLab(t)
	bad := groups(200, 50*ms)
	bad[1].Addresses = append(bad[1].Addresses, prefixes("eth7", "10.7.0.1/24")...)
	a := l.start(1, Config{Groups: groups(200, 50*ms)})
	await[AddressesIn](a, "AddressesIn", nil)
	for range 2 {
		if err := a.Reconfigure(bad); err != nil {
			t.Fatal(err)
		}
		e := await(a, "an alarm", func(e Alarm) bool { return e.Kind == AlarmAddress && e.On })
		if want := "virtual address 10.7.0.1/24: no such device"; e.Text != want || e.Group != "WAN" {
			t.Errorf("%s: %q, want %q", e.Group, e.Text, want)
		}
		if err := a.Reconfigure(groups(200, 50*ms)); err != nil {
			t.Fatal(err)
		}
		await(a, "its end", func(e Alarm) bool { return e.Kind == AlarmAddress && !e.On })
	}
}

func (n *router) eventuallyHas(dev, addr string, want bool) {
	n.t.Helper()
	eventually(n.t, 5*time.Second, fmt.Sprintf("%s on %s in %s: %v", addr, dev, n.ns, want), func() bool { return n.has(dev, addr) == want })
}

// Another interval, and adverts to each other alone, while both run: roles stay,
// the Backup follows, and a group beside them has every advert on time.
func TestReconfigureWire(t *testing.T) {
	l := newLab(t)
	const kept = 50 * ms
	with := func(r int, interval time.Duration, peer string) []config.Group {
		g := groups(uint8(300-100*r), interval)
		g[0].AdvertInterval = kept
		if peer != "" {
			g[1].Peers = []config.Peer{{Addr: netip.MustParseAddr(peer), TTL: 255}}
		}
		return g
	}
	a := l.start(1, Config{Groups: with(1, kept, ""), SyncGroups: alone})
	for range 2 {
		await[AddressesIn](a, "AddressesIn", nil)
	}
	b := l.start(2, Config{Groups: with(2, kept, ""), SyncGroups: alone})
	for range 2 {
		await(b, "Backup", func(e Changed) bool { return e.To == vrrp.Backup })
	}
	line, machine := l.ear("r1lan", 10), beside(t)
	for _, interval := range []time.Duration{400 * ms, 40 * ms, 200 * ms, kept} {
		for r, n := range []*router{a, b} {
			if err := n.Reconfigure(with(r+1, interval, "")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * interval)
		}
		eventually(t, 5*time.Second, "a Backup that follows", func() bool {
			g := b.group("WAN")
			return g.State == vrrp.Backup && g.ActiveInterval == interval
		})
	}
	for r, n := range []*router{a, b} {
		if err := n.Reconfigure(with(r+1, kept, []string{"10.2.0.2", "10.2.0.1"}[r])); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * ms)
	before := b.group("WAN").Counters // adverts may have come by the other way amid the change
	none[Changed](a, 300*ms)
	none[Changed](b, 0)
	if now := b.group("WAN").Counters; now.PeerErrors != before.PeerErrors || now.RcvdAdvertisements == before.RcvdAdvertisements {
		t.Errorf("adverts refused: %+v, before %+v", now, before)
	}
	if n := b.group("LAN").Counters.PeerErrors; n != 0 {
		t.Errorf("%d adverts refused of the group beside it", n)
	}
	if gap, n := line.widest(); n == 0 || gap > 2*kept+machine.stood() {
		t.Errorf("%d adverts of the group beside it, nothing for %v", n, gap)
	}
}

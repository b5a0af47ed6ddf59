// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

func prefixes(iface string, list ...string) (out []config.Address) {
	for _, p := range list {
		out = append(out, config.Address{Prefix: netip.MustParsePrefix(p), Interface: iface})
	}
	return out
}

// behindMAC are groups whose LAN addresses are on a virtual MAC, an excluded one of
// IPv6 too, and one on another interface.
func behindMAC(priority uint8, interval time.Duration) []config.Group {
	g := groups(priority, interval)
	g[0].VirtualMAC = true
	g[0].NoPreempt, g[1].NoPreempt = true, true
	g[0].Excluded = append(prefixes("eth0", "2001:db8::100/64"), prefixes("eth1", "10.2.0.101/24")...)
	return g
}

// frames captures what comes into the switch from one port, by source MAC.
type frames struct{ fd int }

func (l *lab) capture(port string) (f *frames) {
	l.t.Helper()
	in(l.t, l.sw, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, 0) // nothing before it is bound
		if err == nil {
			var link netlink.Link
			if link, err = netlink.LinkByName(port); err == nil {
				err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index})
			}
		}
		if err != nil {
			l.t.Error(err)
		}
		f = &frames{fd}
	})
	l.t.Cleanup(func() { unix.Close(f.fd) })
	return f
}

// from empties the capture, and gives what came from a MAC.
func (f *frames) from(mac [6]byte) (out []string) {
	b := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(f.fd, b, 0)
		if err != nil {
			return out
		}
		if sa, ok := from.(*unix.SockaddrLinklayer); ok && sa.Pkttype != unix.PACKET_OUTGOING && bytes.Equal(b[6:12], mac[:]) {
			out = append(out, fmt.Sprintf("%x", b[:min(n, 80)]))
		}
	}
}

// host is a third station on the LAN.
func (l *lab) host() string {
	name := l.ns("host")
	run(l.t, "ip", "-n", l.sw, "link", "add", "hostlan", "type", "veth", "peer", "name", "eth0", "netns", name)
	run(l.t, "ip", "-n", l.sw, "link", "set", "hostlan", "master", "lan", "up")
	run(l.t, "ip", "-n", name, "addr", "add", "10.1.0.9/24", "dev", "eth0")
	run(l.t, "ip", "-n", name, "addr", "add", "2001:db8::9/64", "dev", "eth0", "nodad")
	run(l.t, "ip", "-n", name, "link", "set", "eth0", "up")
	for r := 1; r <= 2; r++ {
		run(l.t, "ip", "-n", l.r[r], "addr", "add", fmt.Sprintf("2001:db8::%d/64", r), "dev", "eth0", "nodad")
	}
	return name
}

// pings says whether an address answers before the host would ask for it once
// more, and how it was resolved.
func (l *lab) pings(host, addr string) (bool, string) {
	err := exec.Command("ip", "netns", "exec", host, "ping", "-c1", "-W1", addr).Run()
	return err == nil, run(l.t, "ip", "-n", host, "neigh", "show", addr)
}

var lanMAC = [6]byte{0, 0, 0x5e, 0, 1, 10}

const lanText = "00:00:5e:00:01:0a"

// Addresses on a virtual MAC, of both families and on another interface, come
// and go with the role. Both ARP and ND resolve to the virtual MAC, at once
// after a takeover without the host's caches being told; a Backup sends
// nothing from it, neither before it was Active nor after.
func TestVirtualMAC(t *testing.T) {
	l := newLab(t)
	host := l.host()
	second := l.capture("r2lan")
	a := l.start(1, Config{Groups: behindMAC(200, 100*ms), ReleaseTimeout: 10 * time.Second})
	await[AddressesIn](a, "AddressesIn", nil)
	b := l.start(2, Config{Groups: behindMAC(100, 100*ms)})
	await(b, "Backup", func(e Changed) bool { return e.To == vrrp.Backup })
	eventually(t, 5*time.Second, "link-local addresses to ask for neighbours from", func() bool {
		return run(t, "ip", "-n", l.r[1], "-6", "addr", "show", "dev", "eth0", "tentative")+run(t, "ip", "-n", l.r[2], "-6", "addr", "show", "dev", "eth0", "tentative") == ""
	})
	for _, addr := range []string{"10.1.0.100", "2001:db8::100"} {
		eventually(t, 5*time.Second, addr+" answers at the virtual MAC", func() bool {
			ok, neigh := l.pings(host, addr)
			return ok && strings.Contains(neigh, lanText)
		})
	}
	a.wantAddress("eth0v10v4", "10.1.0.100", true)
	a.wantAddress("eth1", "10.2.0.101", true)
	b.wantAddress("eth1", "10.2.0.101", false)
	time.Sleep(300 * ms)
	if got := second.from(lanMAC); len(got) > 0 {
		t.Errorf("the Backup sent from the virtual MAC: %v", got)
	}
	first := l.capture("r1lan")
	a.slow.Store(true) // its addresses stay until we release them, and it must not speak for them any more
	a.HandOver("MAIN")
	demoted := await[Demoting](a, "Demoting", nil)
	b.TakeOver("MAIN", 0)
	await[AddressesIn](b, "AddressesIn", nil)
	eventually(t, 5*time.Second, "the former Active's device is mute", func() bool {
		return strings.Contains(run(t, "ip", "-n", l.r[1], "link", "show", "eth0v10v4"), "qdisc blackhole")
	})
	first.from(lanMAC)
	run(t, "ip", "-n", host, "neigh", "flush", "dev", "eth0")
	for _, addr := range []string{"2001:db8::100", "10.1.0.100"} {
		if ok, neigh := l.pings(host, addr); !ok || !strings.Contains(neigh, lanText) {
			t.Errorf("after the takeover, %s: answers %v, at %s", addr, ok, neigh)
		}
	}
	if len(second.from(lanMAC)) == 0 {
		t.Error("the Active sent nothing from the virtual MAC")
	}
	a.slow.Store(false)
	a.Released("MAIN", demoted.Term)
	await[AddressesOut](a, "AddressesOut", nil)
	run(t, "ip", "-n", l.r[1], "link", "set", "eth0v10v4", "up") // what nobody should do
	eventually(t, 5*time.Second, "down again", func() bool {
		return strings.Contains(run(t, "ip", "-n", l.r[1], "link", "show", "eth0v10v4"), "state DOWN")
	})
	time.Sleep(1200 * ms) // MLD repeats within a second
	if got := first.from(lanMAC); len(got) > 0 {
		t.Errorf("the former Active sent from the virtual MAC: %v", got)
	}
	// Active once more, and the fence does not stand yet: its adverts do not call
	// frames to a device that is down.
	a.silent.Store(true)
	b.HandOver("MAIN")
	a.TakeOver("MAIN", 0)
	await[Promoting](a, "Promoting", nil)
	time.Sleep(100 * ms)
	if got := first.from(lanMAC); len(got) > 0 {
		t.Errorf("sent from the virtual MAC before its device is up: %v", got)
	}
	a.stop()
	b.stop()
	for r := 1; r <= 2; r++ {
		links := run(t, "ip", "-n", l.r[r], "-o", "link")
		arp := run(t, "ip", "netns", "exec", l.r[r], "sysctl", "-n", "net.ipv4.conf.eth0.arp_ignore", "net.ipv4.conf.eth0.arp_announce")
		if strings.Contains(links, "v10v4") || strings.Fields(arp)[0] != "0" || strings.Fields(arp)[1] != "0" {
			t.Errorf("left in %s: %s, arp_ignore and arp_announce %s", l.r[r], links, arp)
		}
	}
}

// Two Actives with the same virtual MAC hear each other, by the raw socket
// too: the parting heals. Somebody removes the device of the winner, and sets
// it down: it is back.
func TestVirtualMACHeals(t *testing.T) {
	l := newLab(t)
	host := l.host()
	run(t, "ip", "-n", l.sw, "link", "set", "r2lan", "nomaster")
	run(t, "ip", "-n", l.sw, "link", "set", "r2wan", "nomaster")
	a := l.start(1, Config{Groups: behindMAC(200, 50*ms)})
	b := l.start(2, Config{Groups: behindMAC(100, 50*ms)})
	await[AddressesIn](a, "AddressesIn", nil)
	await[AddressesIn](b, "AddressesIn", nil)
	run(t, "ip", "-n", l.sw, "link", "set", "r2lan", "master", "lan")
	run(t, "ip", "-n", l.sw, "link", "set", "r2wan", "master", "wan")
	await[AddressesOut](b, "AddressesOut", nil)
	for harm, says := range map[string]string{
		"link set eth0v10v4 down":  "network is down",
		"link del eth0v10v4":       "network is down",
		"addr flush dev eth0v10v4": "removed by others",
	} {
		for time.Sleep(250 * ms); len(a.log) > 0; { // repairEvery
			<-a.log
		}
		run(t, append([]string{"ip", "-n", l.r[1]}, strings.Fields(harm)...)...)
		await(a, says+" after "+harm, func(e Alarm) bool { return e.On && e.Group == "LAN" && strings.Contains(e.Text, says) })
		eventually(t, 5*time.Second, "answers after "+harm, func() bool { ok, _ := l.pings(host, "10.1.0.100"); return ok })
	}
	none[Promoting](b, 200*ms)
}

// The interface goes and comes back, and its virtual MAC with it. What was
// killed leaves nothing for the next one.
func TestVirtualMACAfterKill(t *testing.T) {
	l := newLab(t)
	a := l.start(1, Config{Groups: behindMAC(200, 50*ms)})
	await[AddressesIn](a, "AddressesIn", nil)
	run(t, "ip", "-n", l.r[1], "link", "del", "eth0")
	await[AddressesOut](a, "AddressesOut", nil)
	l.plug(1, 0, "lan")
	await[AddressesIn](a, "AddressesIn", nil)
	a.wantAddress("eth0v10v4", "10.1.0.100", true)
	unix.Kill(a.PID(), unix.SIGKILL)
	await[Exited](a, "Exited", nil)
	a = l.start(1, Config{Groups: groups(200, 50*ms)}) // without one
	await[AddressesIn](a, "AddressesIn", nil)
	if links := run(t, "ip", "-n", l.r[1], "-o", "link"); strings.Contains(links, "v10v4") {
		t.Errorf("left:\n%s", links)
	}
	if arp := run(t, "ip", "netns", "exec", l.r[1], "sysctl", "-n", "net.ipv4.conf.eth0.arp_ignore"); strings.TrimSpace(arp) != "0" {
		t.Errorf("arp_ignore is %s", arp)
	}
}

// An IPv6 group has the MAC of its family, for its adverts and its addresses.
func TestVirtualMAC6(t *testing.T) {
	l := newLab(t)
	host := l.host()
	heard := l.capture("r1lan")
	a := l.start(1, Config{Groups: []config.Group{{Name: "LAN6", Interface: "eth0", VRID: 10, Priority: 200, AdvertInterval: 50 * ms, Version: 3,
		Addresses: prefixes("eth0", "fe80::10/64", "2001:db8::100/64"), VirtualMAC: true, GARP: garp}}, SyncGroups: []config.SyncGroup{}})
	await[AddressesIn](a, "AddressesIn", nil)
	adverts, announced := 0, map[string]bool{}
	eventually(t, 5*time.Second, "adverts, and each address announced, from the virtual MAC", func() bool {
		for _, f := range heard.from([6]byte{0, 0, 0x5e, 0, 2, 10}) {
			switch {
			case strings.HasPrefix(f, "333300000012"):
				adverts++
			case strings.HasPrefix(f, "333300000001") && strings.HasPrefix(f[28:], "6c") && f[40:42] == "3a":
				announced[f[44:76]] = true
			}
		}
		return adverts > 0 && announced["fe800000000000000000000000000010"] && announced["20010db8000000000000000000000100"]
	})
	eventually(t, 5*time.Second, "2001:db8::100 answers at the virtual MAC", func() bool {
		ok, neigh := l.pings(host, "2001:db8::100")
		return ok && strings.Contains(neigh, "00:00:5e:00:02:0a")
	})
}

// Announcements come as the garp options say, and all over again when the
// interface has another MAC address.
func TestAnnouncedByOptions(t *testing.T) {
	calmly(t, 20*ms, func() string { return announcedByOptions(t) })
}

func announcedByOptions(t *testing.T) (wrong string) {
	l := newLab(t)
	g := groups(200, 50*ms)
	for i := range g {
		g[i].GARP = config.GARP{Delay: 300 * ms, Refresh: 400 * ms, Repeat: 3, RefreshRepeat: 1}
	}
	heard := l.ear("r1lan", 10)
	mac := l.mac(1, "eth0")
	other := mac
	other[5] ^= 0x55
	var last int64
	var rest []int64
	// off waits for announcements, and says which came otherwise than so long after
	// the one before.
	off := func(mac [6]byte, want ...time.Duration) (wrong string) {
		eventually(t, 5*time.Second, fmt.Sprintf("%d announcements", len(want)), func() bool {
			rest = append(rest, heard.announced(mac)...)
			return len(rest) >= len(want)
		})
		for i, d := range want {
			if got := time.Duration(rest[i] - last); d >= 0 && (got-d).Abs() > 100*ms {
				wrong += fmt.Sprintf("announcement %d of %x came %v after the one before, want %v; ", i, mac, got, d)
			}
			last = rest[i]
		}
		rest = rest[len(want):]
		return wrong
	}
	const first = -1
	a := l.start(1, Config{Groups: g})
	defer a.stop()
	wrong += off(mac, first, 20*ms, 20*ms, 260*ms, 20*ms, 20*ms, 400*ms, 400*ms)
	run(t, "ip", "-n", l.r[1], "link", "set", "eth0", "address", fmt.Sprintf("%x:%x:%x:%x:%x:%x", other[0], other[1], other[2], other[3], other[4], other[5]))
	rest = nil // a refresh from the former one
	wrong += off(other, first, 20*ms, 20*ms)
	a.Announce("MAIN")
	return wrong + off(other, 20*ms, 20*ms, 20*ms, 260*ms)
}

// A suspend is what CLOCK_BOOTTIME counts and CLOCK_MONOTONIC does not.
func TestSleeps(t *testing.T) {
	var s sleeps
	for i, c := range []struct {
		monotonic, boot int64
		want            int64
	}{
		{1000, 5_000_000_000, 0}, // whatever was before the start
		{2000, 5_000_002_000, 0},
		{1_000_000_000, 6_049_000_000, 0}, // read 49 ms apart
		{2_000_000_000, 7_100_000_000, 51_000_000},
		{3_000_000_000, 8_100_000_000, 0},
		{4_000_000_000, 9_000_000_000, 0},
	} {
		if got := s.slept(c.monotonic, c.boot); got != c.want {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
	}
}

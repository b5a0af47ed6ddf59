// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

// ear has the kernel's times of the adverts of one VRID that left a router.
type ear struct {
	fd   int
	vrid byte
}

// ear listens at a port of the switch.
func (l *lab) ear(port string, vrid byte) *ear {
	l.t.Helper()
	a := &ear{vrid: vrid}
	in(l.t, l.sw, func() {
		var err error
		if a.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0); err != nil {
			l.t.Error(err)
			return
		}
		link, err := netlink.LinkByName(port)
		if err != nil {
			l.t.Error(err)
			return
		}
		for _, err := range []error{
			unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.Bind(a.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index}),
		} {
			if err != nil {
				l.t.Error(err)
			}
		}
	})
	l.t.Cleanup(func() { unix.Close(a.fd) })
	return a
}

// each gives the packets that left the router since the last call.
func (a *ear) each(fn func(packet []byte, at int64)) {
	b, c := make([]byte, 2048), make([]byte, 128)
	for {
		size, ctrl, _, from, err := unix.Recvmsg(a.fd, b, c, 0)
		if err != nil {
			return
		}
		if sa, _ := from.(*unix.SockaddrLinklayer); sa != nil && sa.Pkttype != unix.PACKET_OUTGOING {
			fn(b[:size], readControl(c[:ctrl]).stamp)
		}
	}
}

// widest is the longest time between two adverts since the last call, and how
// many there were.
func (a *ear) widest() (gap time.Duration, n int) {
	last := int64(0)
	a.each(func(packet []byte, at int64) {
		_, pdu, ok := parseIPv4(packet)
		if !ok || len(pdu) < 2 || pdu[1] != a.vrid {
			return
		}
		if n++; last != 0 {
			gap = max(gap, time.Duration(at-last))
		}
		last = at
	})
	return gap, n
}

// mac is that of a router's interface.
func (l *lab) mac(r int, dev string) (mac [6]byte) {
	l.t.Helper()
	in(l.t, l.r[r], func() {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			l.t.Error(err)
			return
		}
		mac = [6]byte(link.Attrs().HardwareAddr)
	})
	return mac
}

// announced are the times of gratuitous ARP for 10.1.0.100 from a MAC since the
// last call.
func (a *ear) announced(mac [6]byte) (out []int64) {
	vip := []byte{10, 1, 0, 100}
	a.each(func(p []byte, at int64) {
		arp := len(p) >= 28 && bytes.Equal(p[:6], []byte{0, 1, 8, 0, 6, 4})
		if arp && bytes.Equal(p[8:14], mac[:]) && bytes.Equal(p[14:18], vip) && bytes.Equal(p[24:28], vip) {
			out = append(out, at)
		}
	})
	return out
}

// lone is a set of one group.
func lone(name, iface string, vrid, priority uint8, addr string) config.Set {
	return config.Set{Name: name, Groups: []config.Group{{Name: name, Interface: iface, VRID: vrid, Priority: priority, AdvertInterval: 50 * ms,
		Version: 3, GARP: garp, Addresses: prefixes(iface, addr)}}}
}

// keeps waits until the child has as many files open as it had. The socket of an
// interface that nobody uses any more is closed after the last word of its set.
func (n *router) keeps(files int) {
	n.t.Helper()
	eventually(n.t, 5*time.Second, fmt.Sprintf("%d open files", files), func() bool { return n.files() == files })
}

// files is how many the child keeps open: the fewest of some looks, since it
// opens settings in /proc for a moment.
func (n *router) files() int {
	fewest := math.MaxInt
	for range 10 {
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
		if err != nil {
			n.t.Fatal(err)
		}
		fewest = min(fewest, len(all))
		time.Sleep(ms)
	}
	return fewest
}

// arpIgnore is a setting of an interface that a virtual MAC changes.
func (n *router) arpIgnore(dev string) string {
	n.t.Helper()
	return strings.TrimSpace(run(n.t, "ip", "netns", "exec", n.ns, "cat", "/proc/sys/net/ipv4/conf/"+dev+"/arp_ignore"))
}

func (n *router) begin(sets ...config.Set) {
	n.t.Helper()
	if err := n.Begin(sets); err != nil {
		n.t.Fatal(err)
	}
	for _, s := range sets {
		await(n, s.Name+" in", func(e AddressesIn) bool { return e.Set == s.Name })
	}
}

func (n *router) end(sets ...string) {
	n.t.Helper()
	for _, s := range sets {
		if err := n.End(s); err != nil {
			n.t.Fatal(err)
		}
		out := await(n, s+" out", func(e AddressesOut) bool { return e.Set == s })
		if e := await(n, s+" ended", func(e Ended) bool { return e.Set == s }); e.At < out.At {
			n.t.Errorf("%s ended before its addresses were out", s)
		}
	}
}

// Sets come, go, move to another interface and form sync groups, again and
// again, on the interface of one that stays and on another: that one's adverts
// are on time, nothing is said of it, and nothing is left of the others.
func TestSetsComeAndGo(t *testing.T) {
	l := newLab(t)
	keep := lone("KEEP", "eth0", 10, 200, "10.1.0.100/24")
	a := l.start(1, Config{Groups: keep.Groups, SyncGroups: alone})
	await[AddressesIn](a, "AddressesIn", nil)
	keep.Groups[0].Priority = 100
	b := l.start(2, Config{Groups: keep.Groups, SyncGroups: alone})
	await(b, "Backup", func(e Changed) bool { return e.To == vrrp.Backup })

	told, since, files := [2]int64{a.events("KEEP"), b.events("KEEP")}, a.group("KEEP").Since, a.files()
	sent, line := a.group("KEEP").Counters.SentAdvertisements, l.ear("r1lan", 10)
	began, machine := time.Now(), beside(t)

	guest := lone("GUEST", "eth1", 20, 200, "10.2.0.101/24")
	moved := lone("GUEST", "eth0", 21, 200, "10.1.0.101/24")
	mac := lone("DMZ", "eth1", 30, 200, "10.2.0.102/24")
	mac.Groups[0].VirtualMAC = true
	main := config.Set{Name: "MAIN", Groups: []config.Group{guest.Groups[0], mac.Groups[0]}}
	second := lone("LAB", "eth1", 31, 200, "10.2.0.103/24")
	second.Groups[0].VirtualMAC = true
	arp := a.arpIgnore("eth1")
	for turn := range 4 {
		a.begin(guest)
		a.wantAddress("eth1", "10.2.0.101", true)
		a.end("GUEST")
		a.wantAddress("eth1", "10.2.0.101", false)
		a.begin(moved, mac)
		a.wantAddress("eth0", "10.1.0.101", true)
		a.wantAddress("eth1v30v4", "10.2.0.102", true)
		a.end("GUEST", "DMZ")
		a.begin(main)
		if g := a.group("DMZ"); g == nil || g.Set != "MAIN" || g.State != vrrp.Active || g.Counters.MasterTransitions != 1 {
			t.Errorf("turn %d: a member: %+v", turn, g)
		}
		a.begin(second)
		a.end("MAIN")
		if now := a.arpIgnore("eth1"); now != "1" {
			t.Errorf("turn %d: arp_ignore is %s while another virtual MAC is on the interface", turn, now)
		}
		a.end("LAB")
		a.keeps(files)
		if got := a.Status().Groups; len(got) != 1 {
			t.Errorf("turn %d: groups left: %+v", turn, got)
		}
	}
	if links := run(t, "ip", "-n", a.ns, "link"); strings.Contains(links, "eth1v") {
		t.Errorf("a device is left:\n%s", links)
	}
	if groups := run(t, "ip", "-n", a.ns, "maddr", "show", "dev", "eth1"); strings.Contains(groups, "224.0.0.18") { // its socket is closed
		t.Errorf("a membership is left:\n%s", groups)
	}
	if now := a.arpIgnore("eth1"); now != arp {
		t.Errorf("arp_ignore of the parent is %s, was %s", now, arp)
	}

	elapsed := time.Since(began)
	gap, n := line.widest()
	t.Logf("%d adverts in %v, the widest gap %v; lateness %d us at most; the machine stood still for %v at most",
		n, elapsed.Round(ms), gap, a.Status().Sent.Max, machine.stood())
	if n := a.group("KEEP").Counters.SentAdvertisements - sent; n+2 < uint64((elapsed-machine.lost())/(50*ms)) {
		t.Errorf("%d adverts in %v", n, elapsed)
	}
	if n == 0 || gap > 100*ms+machine.stood() {
		t.Errorf("an advert is missing: nothing for %v", gap)
	}
	if now := [2]int64{a.events("KEEP"), b.events("KEEP")}; now != told || a.group("KEEP").Since != since {
		t.Errorf("events about the set that stayed: %v, were %v", now, told)
	}
}

// A whole configuration comes at once, and goes, and comes: the adverts of the set
// that stays are on time, no message is lost, and no slot is.
func TestManySets(t *testing.T) {
	const many, turns = 200, 5
	l := newLab(t)
	a := l.start(1, Config{Groups: lone("KEEP", "eth0", 10, 200, "10.1.0.100/24").Groups, SyncGroups: alone})
	await[AddressesIn](a, "AddressesIn", nil)
	var sets []config.Set
	for i := range many {
		sets = append(sets, lone(fmt.Sprintf("G%d", i), "eth1", byte(20+i), 200, fmt.Sprintf("10.2.0.%d/32", 20+i)))
	}
	files, line, machine := a.files(), l.ear("r1lan", 10), beside(t)
	for turn := range turns {
		if err := a.Begin(sets); err != nil {
			t.Fatal(err)
		}
		if turn == turns-1 {
			for range many {
				await[AddressesIn](a, "AddressesIn", nil)
			}
		}
		for _, s := range sets {
			if err := a.End(s.Name); err != nil {
				t.Fatal(err)
			}
		}
		for range many {
			await[Ended](a, "Ended", nil)
		}
	}
	gap, n := line.widest()
	t.Logf("%d adverts, the widest gap %v; the machine stood still for %v at most", n, gap, machine.stood())
	if n == 0 || gap > 100*ms+machine.stood() {
		t.Errorf("an advert is missing: nothing for %v", gap)
	}
	if st := a.Status(); st.Unsent != 0 || len(st.Groups) != 1 {
		t.Errorf("%d messages unsent, %d groups left", st.Unsent, len(st.Groups))
	}
	a.keeps(files)
	if n := a.names.Load(); len(n.groups) != 1+many || len(n.sets) != 1+many || len(n.ports) != 2 {
		t.Errorf("%d, %d and %d slots, for %d groups at most", len(n.groups), len(n.sets), len(n.ports), 1+many)
	}
}

// A set that ends as the Active gives its role to the peer at once; where there
// is no daemon to answer it does not wait for ever; and what was meant for it
// does not reach the next one of that name.
func TestEndGivesRoleAway(t *testing.T) {
	_, a, b := pair(t, 100*ms)
	a.slow.Store(true)
	if err := a.End("MAIN"); err != nil {
		t.Fatal(err)
	}
	gone := await[Demoting](a, "Demoting", nil)
	if gone.Cause != vrrp.CauseShutdown {
		t.Errorf("demoted: %+v", gone)
	}
	if e := await(b, "Promoting", promoted); e.Cause != vrrp.CausePriorityZero || e.Silence > 300*ms {
		t.Errorf("promotion: %+v", e)
	}
	if e := await[Ended](a, "Ended", nil); e.Set != "MAIN" || len(e.Groups) != 2 {
		t.Errorf("ended: %+v", e)
	}
	a.wantAddress("eth0", "10.1.0.100", false)
	a.Released("MAIN", gone.Term) // nobody there
	if a.End("MAIN") == nil {
		t.Error("ended twice")
	}

	a.silent.Store(true)
	a.Track("LAN", Tracked{Priority: 250})
	if err := a.Begin([]config.Set{{Name: "MAIN", Groups: groups(220, 100*ms)}}); err != nil {
		t.Fatal(err)
	}
	if a.Begin([]config.Set{{Name: "MAIN", Groups: groups(220, 100*ms)}}) == nil {
		t.Error("begun twice")
	}
	back := await(a, "Promoting", promoted)
	if g := a.group("LAN"); back.Term <= gone.Term || g.Priority != 250 {
		t.Errorf("promoted: %+v with priority %d, the last term was %d", back, g.Priority, gone.Term)
	}
	a.Fenced("MAIN", gone.Term)
	none[AddressesIn](a, 50*ms)
	a.silent.Store(false) // should the gate have closed meanwhile
	a.Fenced("MAIN", back.Term)
	await[AddressesIn](a, "AddressesIn", nil)
}

// There is a bound, and what does not fit does not begin by halves.
func TestNoRoom(t *testing.T) {
	n := named(t, groups(1, 10*ms))
	if _, err := n.with(lone("DMZ", "eth2", 1, 1, "10.3.0.1/24")); err == nil {
		t.Error("a third group found room for two")
	}
	n = n.without(0)
	if n, err := n.with(lone("DMZ", "eth2", 1, 1, "10.3.0.1/24")); err != nil || n.sets[0] != "DMZ" || len(n.members(0)) != 1 || n.ports[0].name != "eth2" {
		t.Errorf("%v %+v", err, n)
	}
}

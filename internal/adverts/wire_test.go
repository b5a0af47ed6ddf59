// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

// attacker is a packet socket on the other router's side of a segment.
type attacker struct {
	t  *testing.T
	fd int
	to unix.SockaddrLinklayer
}

func (l *lab) attack(r int, dev string, v6 bool) *attacker {
	l.t.Helper()
	a := &attacker{t: l.t}
	in(l.t, l.r[r], func() {
		var err error
		if a.fd, err = openSender(); err != nil {
			l.t.Error(err)
			return
		}
		var index int
		fmt.Sscan(run(l.t, "ip", "netns", "exec", l.r[r], "cat", "/sys/class/net/"+dev+"/ifindex"), &index)
		a.to = destination(int32(index), v6).link
	})
	l.t.Cleanup(func() { unix.Close(a.fd) })
	return a
}

func (a *attacker) send(packet []byte) {
	a.t.Helper()
	if err := unix.Sendto(a.fd, packet, 0, &a.to); err != nil {
		a.t.Error(err)
	}
}

// Every malformed advert moves its counter and nothing else.
func TestMalformedAdverts(t *testing.T) {
	for _, ring := range []bool{false, true} {
		t.Run(fmt.Sprintf("ring %v", ring), func(t *testing.T) {
			l := newLab(t)
			cfg := Config{Groups: groups(100, time.Second)[:1], SyncGroups: []config.SyncGroup{}}
			if ring {
				cfg.Ring = l.ring(1)
			}
			a := l.start(1, cfg)
			await[AddressesIn](a, "AddressesIn", nil)
			evil := l.attack(2, "eth0", false)
			good := func() []byte {
				adv := vrrp.Advert{Version: 3, VRID: 10, Priority: 250, Interval: int64(time.Second), Addresses: []byte{10, 1, 0, 100}}
				return appendPacket(nil, &adv, vrrp.ChecksumAuto, netip.MustParseAddr("10.1.0.2"), vrrp.Group4, 1)
			}
			reseal := func(p []byte) []byte { // IP header after a change
				p[10], p[11] = 0, 0
				s := headerSum(p[:20])
				p[10], p[11] = byte(s>>8), byte(s)
				return p
			}
			pdu := func(at int, b byte) []byte { p := good(); p[20+at] = b; return p }
			ttl := good()
			ttl[8] = 64
			short := good()[:24]
			short[3] = 24
			for name, p := range map[string][]byte{
				"version": pdu(0, 0x41), "type": pdu(0, 0x32), "vrid": pdu(1, 11), "version of the group": pdu(0, 0x21),
				"checksum": pdu(6, good()[26]^0x10), "ttl": reseal(ttl), "truncated": reseal(short),
			} {
				_ = name
				evil.send(p)
			}
			want := vrrp.Counters{VersionErrors: 1, ChecksumErrors: 1, IPTTLErrors: 1}
			wantIf := vrrp.InterfaceCounters{Truncated: 1, VersionErrors: 1, InvalidType: 1, VRIDErrors: 1}
			var st Status
			eventually(t, 5*time.Second, "counters", func() bool {
				st = a.Status()
				c := st.Groups[0].Counters
				c.MasterTransitions, c.SentAdvertisements = 0, 0
				return c == want && st.Interfaces[0].Counters == wantIf
			})
			none[Demoting](a, 50*ms)
			// The good one counts, so the others failed for what they were.
			evil.send(good())
			await[Demoting](a, "Demoting", nil)
		})
	}
}

// silentRing is a ring that nobody writes to.
func (l *lab) silentRing() *os.File {
	l.t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "silent", Type: ebpf.RingBuf, MaxEntries: 1 << 16})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { m.Close() })
	fd, err := syscall.Dup(m.FD())
	if err != nil {
		l.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "ring")
	l.t.Cleanup(func() { f.Close() })
	return f
}

// A ring that falls silent (its program was removed) is no silent Active:
// the raw sockets hear on.
func TestDeafRing(t *testing.T) {
	l := newLab(t)
	a := l.start(1, Config{Groups: groups(200, 50*ms)})
	await[AddressesIn](a, "AddressesIn", nil)
	cfg := Config{Groups: groups(100, 50*ms)}
	f := l.silentRing()
	cfg.Ring = f
	b := l.start(2, cfg)
	await[Ready](b, "Ready", nil)
	none[Promoting](b, 700*ms)
	if n := b.Status().RingMissed; n == 0 {
		t.Error("nothing was missed")
	}
}

// An address that someone removes is back at once, and announced again.
func TestDriftRepair(t *testing.T) {
	l := newLab(t)
	heard, mac := l.ear("r1lan", 10), l.mac(1, "eth0")
	a := l.start(1, Config{Groups: groups(200, 50*ms)})
	await[AddressesIn](a, "AddressesIn", nil)
	said := 0
	eventually(t, 5*time.Second, "the first announcements", func() bool { said += len(heard.announced(mac)); return said >= garp.Repeat })
	run(t, "ip", "-n", l.r[1], "addr", "del", "10.1.0.100/32", "dev", "eth0")
	if e := await[Alarm](a, "Alarm", nil); e.Kind != AlarmAddress || e.Group != "LAN" || !strings.Contains(e.Text, "removed by others") {
		t.Errorf("alarm: %+v", e)
	}
	eventually(t, 5*time.Second, "address back", func() bool { return a.has("eth0", "10.1.0.100") })
	eventually(t, 2*time.Second, "announced again", func() bool { return len(heard.announced(mac)) > 0 }) // before garp.Delay
	none[Demoting](a, 200*ms)
}

// A device that refuses adverts is an alarm, and so is its end.
func TestSendRefused(t *testing.T) {
	l := newLab(t)
	a := l.start(1, Config{Groups: groups(200, 50*ms)})
	await[AddressesIn](a, "AddressesIn", nil)
	run(t, "ip", "netns", "exec", l.r[1], "tc", "qdisc", "add", "dev", "eth0", "root", "pfifo", "limit", "0")
	e := await(a, "Alarm", func(e Alarm) bool { return e.Kind == AlarmSend })
	if !e.On || e.Group != "LAN" || !strings.Contains(e.Text, "cannot be sent on eth0") {
		t.Errorf("alarm: %+v", e)
	}
	run(t, "ip", "netns", "exec", l.r[1], "tc", "qdisc", "del", "dev", "eth0", "root")
	if e := await(a, "Alarm", func(e Alarm) bool { return e.Kind == AlarmSend }); e.On {
		t.Errorf("alarm: %+v", e)
	}
	if n := a.Status().Groups[0].Counters.SendErrors; n == 0 {
		t.Error("no send error counted")
	}
}

// What leaves the wire, by tshark: adverts with the right header and a
// checksum that it agrees with; announcements of each address, five at once.
func TestWireByTshark(t *testing.T) {
	l := newLab(t)
	pcap := t.TempDir() + "/lan.pcap"
	dump := exec.CommandContext(t.Context(), "ip", "netns", "exec", l.sw, "tcpdump", "-i", "lan", "-U", "-w", pcap, "-c", "25", "proto 112 or arp")
	says, err := dump.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(says); lines.Scan() && !strings.Contains(lines.Text(), "listening on"); {
	}
	a := l.start(1, Config{Groups: groups(200, 50*ms)})
	await[AddressesIn](a, "AddressesIn", nil)
	dump.Wait()
	out := tshark(t, pcap, "vrrp", "-e", "ip.src", "-e", "ip.dst", "-e", "ip.ttl", "-e", "ip.dsfield.dscp",
		"-e", "eth.dst", "-e", "vrrp.prio", "-e", "vrrp.checksum.status", "-e", "vrrp.ip_addr", "-e", "ip.checksum.status", "-o", "ip.check_checksum:TRUE")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) < 5 {
		t.Errorf("%d adverts", len(lines))
	}
	for _, line := range lines {
		if f := strings.Join(strings.Fields(line), " "); f != "10.1.0.1 224.0.0.18 255 48 01:00:5e:00:00:12 200 1 10.1.0.100 1" {
			t.Errorf("advert: %s", f)
		}
	}
	out = tshark(t, pcap, "arp.isgratuitous", "-e", "arp.src.proto_ipv4", "-e", "frame.time_relative")
	if n := strings.Count(out, "10.1.0.100"); n != garp.Repeat {
		t.Errorf("%d announcements, want %d:\n%s", n, garp.Repeat, out)
	}
}

func tshark(t *testing.T, pcap, filter string, fields ...string) string {
	t.Helper()
	args := append([]string{"-r", pcap, "-Y", filter, "-T", "fields"}, fields...)
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	return string(out)
}

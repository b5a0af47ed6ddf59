// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// withIPv6 adds a group of IPv6 on either side to a router's sync group.
func withIPv6(router, text string) string {
	priority := map[string]int{"r1": 200, "r2": 100}[router]
	group := func(name, iface string, vrid int, addresses ...netip.Prefix) string {
		return fmt.Sprintf("[vrrp.group.%s]\ninterface = %q\nvrid = %d\naddress = [\"%s\", \"%s\"]\npriority = %d\nadvertise-interval = \"100ms\"\n\n",
			name, iface, vrid, addresses[0], addresses[1], priority)
	}
	return strings.NewReplacer(
		"[vrrp.sync-group.MAIN]\n", group("LAN6", "eth0", 10, netlab.LANRouter6, netlab.LANVIP6)+
			group("WAN6", "eth1", 20, netlab.WANRouter6, netlab.WANVIP6)+"[vrrp.sync-group.MAIN]\n",
		`member = ["LAN", "WAN"]`, `member = ["LAN", "WAN", "LAN6", "WAN6"]`,
	).Replace(text)
}

// Groups of both families in one sync group, flows of both through the pair: the
// power of the Active is cut, it comes back, and a planned switchover follows.
// Nothing breaks, and hosts find the new Active by its neighbour advertisements.
func TestIPv6(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(router, text string) string
		macs func(r *netlab.Router) map[string]string // that hold the virtual addresses
	}{
		{"own MAC", withIPv6, func(r *netlab.Router) map[string]string {
			return map[string]string{netlab.LAN: r.MAC(0).String(), netlab.WAN: r.MAC(1).String()}
		}},
		{"virtual MAC", func(r, text string) string { return withVirtualMACs(r, withIPv6(r, text)) }, func(*netlab.Router) map[string]string {
			return map[string]string{netlab.LAN: "00:00:5e:00:02:0a", netlab.WAN: "00:00:5e:00:02:14"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := play(t, netlab.Options{IPv6: true}, drill.PairOptions{Edit: c.edit}, load.Mix{Steady: 12, Idle: 8, Bulk: 8, UDP: 24}, 0)
			r1, r2 := s.Lab.R1, s.Lab.R2
			s.knowsVirtual6()
			s.virtual6("r1 is Active", c.macs(r1))
			s.translated6(r2)

			heard := hearAdvertisements(t, s.Lab)
			at, err := r1.PowerOff()
			if err != nil {
				t.Fatal(err)
			}
			s.mark(at)
			s.become(r2, control.RoleActive, 10*time.Second)
			s.virtual6("power cut", c.macs(r2))
			heard.judge(t, at, c.macs(r2)[netlab.LAN])
			s.judge("power cut")

			if err := r1.PowerOn(); err != nil {
				t.Fatal(err)
			}
			at = netlab.Now()
			s.mark(at)
			start(t, s.Pair, r1)
			s.become(r1, control.RoleActive, 30*time.Second)
			s.virtual6("r1 is back", c.macs(r1))
			s.judge("r1 is back")
			if err := s.AwaitReady(t.Context(), r1, 30*time.Second); err != nil {
				t.Fatal(err)
			}
			s.mark(netlab.Now())
			order(t, s.Pair, r1, "switchover")
			s.become(r2, control.RoleActive, 10*time.Second)
			s.virtual6("switchover", c.macs(r2))
			s.judge("switchover")
		})
	}
}

// virtuals6 are the virtual addresses of IPv6, by switch.
var virtuals6 = map[string][]netip.Addr{
	netlab.LAN: {netlab.LANRouter6.Addr(), netlab.LANVIP6.Addr()},
	netlab.WAN: {netlab.WANRouter6.Addr(), netlab.WANVIP6.Addr()},
}

// knowsVirtual6 has the hosts speak to all virtual addresses of their side: an
// advertisement that nobody asked for makes no new entry in a cache.
func (s *scene) knowsVirtual6() {
	s.t.Helper()
	for sw, host := range map[string]*netlab.Namespace{netlab.LAN: s.Lab.Client, netlab.WAN: s.Lab.Server} {
		for _, ip := range virtuals6[sw] {
			err := host.Run(func() error {
				c, err := net.Dial("udp", netip.AddrPortFrom(ip.WithZone(zone(ip)), 9).String())
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte("discard"))
				return err
			})
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

func zone(ip netip.Addr) string {
	if ip.IsLinkLocalUnicast() {
		return "eth0"
	}
	return ""
}

// virtual6: the hosts have the virtual addresses at the right router at once (long
// before they would ask by themselves: DELAY_FIRST_PROBE_TIME is 5 s, RFC 4861
// section 10), and no other answers for them.
func (s *scene) virtual6(what string, macs map[string]string) {
	s.t.Helper()
	for sw, host := range map[string]*netlab.Namespace{netlab.LAN: s.Lab.Client, netlab.WAN: s.Lab.Server} {
		for _, ip := range virtuals6[sw] {
			var line string
			eventually(s.t, time.Second, fmt.Sprintf("%s: a host's entry for %s at %s", what, ip, macs[sw]), func() bool {
				out, err := host.Output(s.t.Context(), "ip", "-6", "neigh", "show", ip.String(), "dev", "eth0")
				if err != nil {
					s.t.Fatal(err)
				}
				line = string(out)
				return strings.Contains(line, "lladdr "+macs[sw])
			})
		}
	}
	for sw, all := range virtuals6 {
		for _, ip := range all {
			var answers []net.HardwareAddr
			eventually(s.t, 5*time.Second, fmt.Sprintf("%s: an answer for %s", what, ip), func() (any bool) {
				var err error
				if answers, err = s.Lab.WhoHas(sw, ip, 200*time.Millisecond); err != nil {
					s.t.Fatal(err)
				}
				return len(answers) > 0
			})
			if len(answers) != 1 || answers[0].String() != macs[sw] {
				s.t.Errorf("%s: %s on the %s is answered for by %v, want %s alone", what, ip, sw, answers, macs[sw])
			}
		}
	}
}

// translated6 wants the flows of IPv6, translated both ways, in a router's copy.
func (s *scene) translated6(r *netlab.Router) {
	s.t.Helper()
	snat, dnat := 0, 0
	err := s.Client(r).Flows(s.t.Context(), control.FlowQuery{Source: control.SourceView}, func(f *control.Flow) error {
		switch vip := netlab.WANVIP6.Addr().String(); {
		case f.Reply.Dst == vip && f.NAT == "snat":
			snat++
		case f.Original.Dst == vip && f.NAT == "dnat":
			dnat++
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if snat < 10 || dnat < 10 {
		s.t.Errorf("%s has %d flows of IPv6 with the source translated and %d with the destination", r.Name, snat, dnat)
	}
}

// advertisements are those that came to the LAN's host unasked, by target.
type advertisements struct {
	mu    sync.Mutex
	first map[netip.Addr]advertisement // of each sender's target
}

type advertisement struct {
	at    int64 // CLOCK_MONOTONIC ns
	flags byte
	mac   net.HardwareAddr
}

func hearAdvertisements(t *testing.T, l *netlab.Lab) *advertisements {
	t.Helper()
	fd, err := l.Client.PacketSocket("eth0", nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &advertisements{first: map[netip.Addr]advertisement{}}
	stop, done := make(chan struct{}), make(chan struct{})
	tv := unix.Timeval{Usec: 100_000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if n, _, err := unix.Recvfrom(fd, b, 0); err == nil {
				a.take(b[:n], netlab.Now())
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done; unix.Close(fd) })
	return a
}

// take keeps the first advertisement to all nodes of each target and MAC: ICMPv6
// type 136 behind Ethernet's 14 and IPv6's 40 bytes, RFC 4861 section 4.4.
func (a *advertisements) take(b []byte, at int64) {
	if len(b) < 86 || b[12] != 0x86 || b[13] != 0xdd || b[20] != unix.IPPROTO_ICMPV6 || b[54] != 136 || b[38] != 0xff {
		return
	}
	target := netip.AddrFrom16([16]byte(b[62:78]))
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.first[target]; !known {
		a.first[target] = advertisement{at, b[58], slices.Clone(net.HardwareAddr(b[80:86]))}
	}
}

// judge: the new Active told both addresses unasked, as a router, to overwrite
// what hosts have.
func (a *advertisements) judge(t *testing.T, at int64, mac string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	down := drill.ActiveDown(100, 100*time.Millisecond)
	for _, ip := range virtuals6[netlab.LAN] {
		got, ok := a.first[ip]
		after := time.Duration(got.at - at)
		t.Logf("%s is told %v after the cut (Active_Down_Interval %v)", ip, after, down)
		if !ok || got.mac.String() != mac || got.flags != 0xa0 || after > down+time.Second {
			t.Errorf("%s: unsolicited advertisement %+v, want flags R and O, %s, right after %v", ip, got, mac, down)
		}
	}
}

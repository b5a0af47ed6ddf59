// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
	"github.com/tandem-ha/tandem/vrrp"
)

// A router of another kind that outranks both: each stays Backup while it
// speaks, though one of them has just told the other that it is no longer
// Active; and the better of the two is Active again once it is silent.
func TestForeignRouterOutranksBoth(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	r1, r2 := p.Lab.R1, p.Lab.R2
	became := func(r *netlab.Router) uint64 { return ask(t, p, r).Groups[0].Counters.BecomeActive }
	var say []func()
	for i, sw := range []string{netlab.LAN, netlab.WAN} {
		say = append(say, foreignRouter(t, p.Lab, sw, i))
	}
	played(t, func(t *testing.T) bool {
		first, second := became(r1), became(r2)
		var longest time.Duration // silence of the other router
		last := time.Now()
		for end := last.Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(90 * time.Millisecond) {
			for _, fn := range say {
				fn()
			}
			longest, last = max(longest, time.Since(last)), time.Now()
		}
		roles := [2]string{ask(t, p, r1).Sets[0].Role, ask(t, p, r2).Sets[0].Role}
		a, b := became(r1)-first, became(r2)-second
		if longest = max(longest, time.Since(last)); longest > 250*time.Millisecond {
			t.Logf("the other router was silent for %v: then it is right to take over", longest)
		} else if roles != [2]string{control.RoleBackup, control.RoleBackup} || a+b != 0 {
			t.Errorf("while another router outranked them r1 became Active %d times, r2 %d times; they are %v", a, b, roles)
		}
		if err := p.AwaitReady(t.Context(), r1, 10*time.Second); err != nil {
			t.Error(err)
		}
		return longest <= 250*time.Millisecond
	})
}

// foreignRouter plugs a router of priority 250 into a switch; what it gives
// sends one advert.
func foreignRouter(t *testing.T, l *netlab.Lab, sw string, i int) (say func()) {
	t.Helper()
	st, err := l.Station(sw, "rival"+sw[:1])
	if err != nil {
		t.Fatal(err)
	}
	fd, err := st.NS.PacketSocket(st.Iface, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	vip := []netip.Addr{netlab.LANVIP.Addr(), netlab.WANVIP.Addr()}[i]
	src := []netip.Addr{netip.MustParseAddr("10.0.0.66"), netip.MustParseAddr("203.0.113.66")}[i]
	a := vrrp.Advert{Version: 3, VRID: uint8(10 + 10*i), Priority: 250, Interval: int64(100 * time.Millisecond), Addresses: vip.AsSlice()}
	pdu := a.Append(nil, vrrp.ChecksumMessage, vrrp.Meta{Src: src, Dst: vrrp.Group4, TTL: vrrp.TTL})
	frame := ipFrame([6]byte{1, 0, 0x5e, 0, 0, 0x12}, [6]byte(st.MAC), src, vrrp.Group4, vrrp.Protocol, vrrp.TTL, pdu)
	return func() {
		if _, err := unix.Write(fd, frame); err != nil {
			t.Errorf("send advert: %v", err)
		}
	}
}

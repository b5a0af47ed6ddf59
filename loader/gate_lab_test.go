// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// cable is two namespaces and a veth between them, sync0 at both ends. The gate
// is at the first.
//
//	[here] sync0 192.168.255.1 --- 192.168.255.2 sync0 [there]
//	             fe80::1           fe80::2
type cable struct {
	lab
	here, there netns.NsHandle
}

func newCable(t *testing.T, mtu int) *cable {
	t.Helper()
	c := &cable{lab: lab{t: t}, here: newNS61(t), there: newNS61(t)}
	c.connect(mtu)
	return c
}

func (c *cable) connect(mtu int) {
	c.t.Helper()
	c.in(c.here, func() {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sync0", MTU: mtu}, PeerName: "sync0", PeerNamespace: netlink.NsFd(c.there), PeerMTU: uint32(mtu)}
		if err := netlink.LinkAdd(v); err != nil {
			c.t.Errorf("add veth: %v", err)
		}
	})
	for ns, addrs := range map[netns.NsHandle][2]netip.Addr{c.here: {own4, own6}, c.there: {peer4, peer6}} {
		c.in(ns, func() {
			l := up61(c.t, "sync0", addrs[0].String()+"/24")
			a, err := netlink.ParseAddr(addrs[1].String() + "/64")
			if err == nil {
				a.Flags = unix.IFA_F_NODAD
				err = netlink.AddrAdd(l, a)
			}
			if err != nil {
				c.t.Errorf("add %s: %v", addrs[1], err)
			}
		})
	}
	for _, ns := range []netns.NsHandle{c.here, c.there} {
		c.in(ns, func() { awaitUp(c.t, "sync0") })
	}
}

func (c *cable) gate() (g *Gate) {
	c.t.Helper()
	c.in(c.here, func() {
		var err error
		if g, err = OpenGate(GateOptions{Interface: "sync0", Port: gatePort, Log: logger(c.t)}); err != nil {
			c.t.Error(err)
		}
	})
	if c.t.Failed() {
		c.t.FailNow()
	}
	c.t.Cleanup(func() { g.Close() })
	return g
}

// socket opens a UDP socket at the sync port with hop limit 255.
func (c *cable) socket(ns netns.NsHandle, a netip.Addr) (conn *net.UDPConn) {
	c.t.Helper()
	c.in(ns, func() {
		at := &net.UDPAddr{IP: a.AsSlice(), Port: gatePort}
		if a.Is6() {
			at.Zone = "sync0"
		}
		var err error
		if conn, err = net.ListenUDP("udp", at); err != nil {
			c.t.Error(err)
			return
		}
		raw, err := conn.SyscallConn()
		if err != nil {
			c.t.Error(err)
			return
		}
		_ = raw.Control(func(fd uintptr) {
			if a.Is4() {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 255)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255)
			}
		})
		if err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// passes sends a datagram and says whether it arrived, as wanted: what should
// not is not waited for as long.
func (c *cable) passes(from, to *net.UDPConn, payload []byte, want bool) bool {
	c.t.Helper()
	limit := patience
	if !want {
		limit = 150 * time.Millisecond
	}
	at := *to.LocalAddr().(*net.UDPAddr)
	if _, err := from.WriteToUDP(payload, &at); err != nil {
		c.t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	to.SetReadDeadline(time.Now().Add(limit))
	n, err := to.Read(buf)
	return err == nil && n == len(payload)
}

func awaitMode(t *testing.T, g *Gate, limit time.Duration, what string, ok func(mode, why string) bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		mode, why := g.Mode()
		if ok(mode, why) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: mode %q (%s)", what, mode, why)
		}
	}
}

// TestGateTraffic: on a real interface, jumbo frames too, what is of the live
// pair arrives, the rest does not, and other traffic is as it was.
func TestGateTraffic(t *testing.T) {
	for _, mtu := range []int{1500, 9000} {
		t.Run(fmt.Sprint("MTU ", mtu), func(t *testing.T) { testGateTraffic(t, newCable(t, mtu), mtu, xdpNative) })
	}
}

func testGateTraffic(t *testing.T, c *cable, mtu int, mode string) {
	t.Helper()
	g := c.gate()
	if got, why := g.Mode(); got != mode {
		t.Errorf("mode %q (%s), want %q", got, why, mode)
	}
	live(g)
	large := func(b []byte) []byte { return append(b, make([]byte, mtu-28-20-len(b))...) }
	for name, a := range map[string][2]netip.Addr{"IPv4": {own4, peer4}, "IPv6": {own6, peer6}} {
		to, from := c.socket(c.here, a[0]), c.socket(c.there, a[1])
		for _, tc := range []struct {
			name string
			d    dgram
			want bool
		}{
			{"data", data(6000), true},
			{"the largest", edited(data(6001), large), true},
			{"hello", dgram{kind: 1, sequence: 1, sender: other}, true},
			{"replayed", data(10), false},
			{"another session", dgram{kind: 2, sequence: 6000, sender: other, receiver: mine}, false},
			{"the largest of another session", edited(dgram{kind: 2, sequence: 6000, sender: other, receiver: mine}, large), false},
		} {
			if got := c.passes(from, to, tc.d.bytes(), tc.want); got != tc.want {
				t.Errorf("%s by %s arrived: %v, want %v", tc.name, name, got, tc.want)
			}
		}
	}
	s := g.Stats()
	if s.PassedData != 4 || s.PassedHello != 2 || s.DroppedReplay != 2 || s.DroppedSession != 4 {
		t.Errorf("counters: %+v", s)
	}
}

// TestGateStays: it is attached anew when somebody removes it, and when the
// interface is replaced.
func TestGateStays(t *testing.T) {
	c := newCable(t, 1500)
	g := c.gate()
	is := func(mode, _ string) bool { return mode == xdpNative }
	awaitMode(t, g, 0, "attached", is)
	c.in(c.here, func() {
		index := device(t, "sync0").Attrs().Index
		g.ports.mu.Lock()
		defer g.ports.mu.Unlock()
		forceOff(t, g.ports.byIndex[index].at.(xdpLink))
	})
	eventually(t, "attached again", func() bool {
		g.ports.mu.Lock()
		defer g.ports.mu.Unlock()
		return g.ports.restored == 1
	})
	c.in(c.here, func() {
		if err := netlink.LinkDel(device(t, "sync0")); err != nil {
			t.Error(err)
		}
	})
	awaitMode(t, g, patience, "gone", func(mode, why string) bool { return mode == "" && strings.Contains(why, "is not there") })
	c.connect(1500)
	awaitMode(t, g, patience, "attached to the new one", is)
	c.in(c.here, func() {
		if x := device(t, "sync0").Attrs().Xdp; x == nil || !x.Attached {
			t.Errorf("the new interface has no program: %+v", x)
		}
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// TestForeignXDP: a program that is there stays, whoever attached it and in
// whatever mode; ours comes when it has gone.
func TestForeignXDP(t *testing.T) {
	for name, mode := range map[string]link.XDPAttachFlags{"native": link.XDPDriverMode, "generic": link.XDPGenericMode} {
		t.Run(name, func(t *testing.T) {
			c := newCable(t, 1500)
			prog, runs := foreign(t, ebpf.XDP, xdpPass)
			var lk link.Link
			c.in(c.here, func() {
				var err error
				if lk, err = attachXDP(prog, device(t, "sync0").Attrs().Index, mode); err != nil {
					t.Error(err)
				}
			})
			g := c.gate()
			awaitMode(t, g, 0, "left alone", func(mode, why string) bool {
				return mode == "" && strings.Contains(why, `the XDP program "foreign" (id `) && strings.HasSuffix(why, "is there already and is left alone")
			})
			to, from := c.socket(c.here, own4), c.socket(c.there, peer4)
			before := runs()
			if !c.passes(from, to, data(1).bytes(), true) || runs() == before {
				t.Error("a datagram does not pass the foreign program alone")
			}
			if err := lk.Close(); err != nil {
				t.Error(err)
			}
			awaitMode(t, g, patience, "attached when it had gone", func(mode, _ string) bool { return mode == xdpNative })
			if c.passes(from, to, data(1).bytes(), false) {
				t.Error("a datagram of no session passes our program")
			}
		})
	}
}

// TestForeignXDPByNetlink: ip link's way to attach knows no links.
func TestForeignXDPByNetlink(t *testing.T) {
	c := newCable(t, 1500)
	prog, _ := foreign(t, ebpf.XDP, xdpPass)
	c.in(c.here, func() {
		if err := netlink.LinkSetXdpFd(device(t, "sync0"), prog.FD()); err != nil {
			t.Error(err)
		}
	})
	g := c.gate()
	awaitMode(t, g, 0, "left alone", func(mode, why string) bool { return mode == "" && strings.Contains(why, "left alone") })
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	c.in(c.here, func() {
		if x := device(t, "sync0").Attrs().Xdp; x == nil || !x.Attached {
			t.Error("the foreign program was removed")
		}
	})
}

// TestGateIsListed, and nothing of it is left behind.
func TestGateIsListed(t *testing.T) {
	c := newCable(t, 1500)
	g := c.gate()
	info, err := g.coll.Programs["tandem_sync"].Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	find := func() (found *Program) {
		c.in(c.here, func() {
			programs, err := Programs()
			if err != nil {
				t.Error(err)
			}
			for _, p := range programs {
				if p.ID == uint32(id) {
					found = &p
				}
			}
		})
		return found
	}
	if p := find(); p == nil || p.Hook != "xdp (native)" || !slices.Equal(p.Interface, []string{"sync0"}) {
		t.Errorf("program: %+v", p)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	// The kernel frees a program a moment after its last user.
	eventually(t, "the program is gone", func() bool { return find() == nil })
	c.in(c.here, func() {
		if x := device(t, "sync0").Attrs().Xdp; x != nil && x.Attached {
			t.Errorf("left on the interface: %+v", x)
		}
	})
}

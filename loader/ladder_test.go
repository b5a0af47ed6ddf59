// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/maps"
)

// packetSocket is one of sync0 that says who sent what it receives.
func (c *cable) packetSocket(there bool, dev string) (fd int) {
	ns := c.here
	if there {
		ns = c.there
	}
	c.in(ns, func() {
		var err error
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL))); err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: device(c.t, dev).Attrs().Index})
		}
		if err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// adverts opens them on interfaces of here, with their ring.
func (c *cable) adverts(xdp bool, rung string, interfaces ...string) (a *Adverts, ring *maps.Ring) {
	c.t.Helper()
	c.in(c.here, func() {
		var err error
		if a, err = openAdverts(AdvertOptions{Interfaces: interfaces, XDP: xdp, Log: logger(c.t)}, rung); err != nil {
			c.t.Error(err)
		}
	})
	if c.t.Failed() {
		c.t.FailNow()
	}
	c.t.Cleanup(func() {
		if err := a.Close(); err != nil {
			c.t.Error(err)
		}
	})
	file, err := a.Ring()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { file.Close() })
	if ring, err = maps.OpenRing(int(file.Fd())); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { ring.Close() })
	return a, ring
}

// undriven attaches a program of XDP anew, generically.
func (c *cable) undriven(a *Adverts) {
	c.in(c.here, func() {
		l := device(c.t, "sync0")
		a.ports.mu.Lock()
		defer a.ports.mu.Unlock()
		if err := a.ports.byIndex[l.Attrs().Index].at.detach(); err != nil {
			c.t.Error(err)
		}
		h := *a.ladder.xdp
		h.generic = []string{"veth"}
		at, err := h.attach(device(c.t, "sync0"), nil)
		if err != nil {
			c.t.Error(err)
		}
		a.ports.byIndex[l.Attrs().Index] = port{"sync0", at}
	})
}

// awaitWay waits for the rung of an interface.
func awaitWay(t *testing.T, a *Adverts, iface, want, why string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		way, said := a.Way(iface)
		if way == want && strings.Contains(said, why) && (said == "") == (why == "") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %q (%s), want %q (%s)", iface, way, said, want, why)
		}
	}
}

// TestForeignXDPBeforeAdverts: a program that is there stays, and TC takes
// over; what came first at XDP is not replaced later.
func TestForeignXDPBeforeAdverts(t *testing.T) {
	c := newCable(t, 1500)
	prog, runs := foreign(t, ebpf.XDP, xdpPass)
	var lk link.Link
	c.in(c.here, func() {
		var err error
		if lk, err = attachXDP(prog, device(t, "sync0").Attrs().Index, link.XDPDriverMode); err != nil {
			t.Error(err)
		}
	})
	a, ring := c.adverts(true, "", "sync0")
	awaitWay(t, a, "sync0", "tc", `the XDP program "foreign" (id `)
	before := runs()
	c.heard(ring, "beside a foreign program")
	if runs() == before {
		t.Error("the foreign program did not run")
	}
	if err := lk.Close(); err != nil {
		t.Error(err)
	}
	time.Sleep(2 * portsSettle)
	awaitWay(t, a, "sync0", "tc", `the XDP program "foreign" (id `)
	c.heard(ring, "once it has gone")
}

// heard sends one advert and wants it in the ring once.
func (c *cable) heard(ring *maps.Ring, when string) {
	c.t.Helper()
	out := c.packetSocket(true, "sync0")
	if _, err := unix.Write(out, wire{pdu: advert(12)}.bytes()); err != nil {
		c.t.Fatal(err)
	}
	readAdverts(c.t, ring, 1)
	time.Sleep(10 * time.Millisecond)
	if n := ring.Drain(func([]byte) {}); n != 0 {
		c.t.Errorf("%s: told %d times", when, n+1)
	}
}

// TestAdvertsXDPRemoved: somebody detaches the program, and TC takes over.
func TestAdvertsXDPRemoved(t *testing.T) {
	c := newCable(t, 1500)
	a, ring := c.adverts(true, "", "sync0")
	awaitWay(t, a, "sync0", "xdp (native)", "")
	c.heard(ring, "by XDP")
	a.ports.mu.Lock()
	for _, p := range a.ports.byIndex {
		forceOff(t, p.at.(xdpLink))
	}
	a.ports.mu.Unlock()
	awaitWay(t, a, "sync0", "tc", "it is attached when the daemon starts, not later")
	c.heard(ring, "by TC")
}

// forceOff detaches a link as bpftool does; from any goroutine.
func forceOff(t *testing.T, lk link.Link) {
	t.Helper()
	info, err := lk.Info()
	if err != nil {
		t.Error(err)
		return
	}
	other, err := link.NewFromID(info.ID)
	if err == nil {
		err = errors.Join(other.Detach(), other.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// TestAdvertsXDPLate: an interface that comes once the election may run, or
// comes back, is TC's.
func TestAdvertsXDPLate(t *testing.T) {
	c := newCable(t, 1500)
	a, ring := c.adverts(true, "", "sync0")
	awaitWay(t, a, "sync0", "xdp (native)", "")
	c.in(c.here, func() {
		if err := netlink.LinkDel(device(t, "sync0")); err != nil {
			t.Error(err)
		}
	})
	awaitWay(t, a, "sync0", "", "")
	c.connect(1500)
	awaitWay(t, a, "sync0", "tc", "it is attached when the daemon starts, not later")
	c.heard(ring, "by TC")
}

// TestAdvertsXDPAreListed: one program on two interfaces, each with its mode.
func TestAdvertsXDPAreListed(t *testing.T) {
	c := newCable(t, 1500)
	c.in(c.here, func() {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "more0"}, PeerName: "more1"}); err != nil {
			t.Error(err)
		}
	})
	a, _ := c.adverts(true, "", "sync0", "more0")
	c.undriven(a)
	info, err := a.xdp.Programs["tandem_adv_xdp"].Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	got := map[string]string{}
	c.in(c.here, func() {
		links, err := Links()
		if err != nil {
			t.Error(err)
		}
		for _, l := range links {
			if l.Program == uint32(id) {
				got[l.Interface] = l.Hook
			}
		}
	})
	if d := cmp.Diff(map[string]string{"sync0": "xdp (generic)", "more0": "xdp (native)"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

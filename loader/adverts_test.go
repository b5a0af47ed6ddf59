// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/maps"
)

// advert is a VRRP PDU of length n; its content is the reader's business.
func advert(n int) []byte {
	b := make([]byte, n)
	b[0], b[1] = 0x31, 10
	return b
}

// multicast sends PDUs to 224.0.0.18 from the client's side.
func (l *lab) multicast(ttl int, pdus ...[]byte) {
	l.in(l.client, func() {
		c, err := net.ListenPacket("ip4:112", "10.1.0.2")
		if err != nil {
			l.t.Error(err)
			return
		}
		defer c.Close()
		p := ipv4.NewPacketConn(c)
		if err := p.SetMulticastTTL(ttl); err != nil {
			l.t.Error(err)
		}
		for _, b := range pdus {
			if _, err := c.WriteTo(b, &net.IPAddr{IP: net.IPv4(224, 0, 0, 18)}); err != nil {
				l.t.Error(err)
			}
		}
	})
}

func TestAdverts(t *testing.T) {
	for _, rung := range modes {
		t.Run(rung, func(t *testing.T) { testAdverts(t, newLab(t), rung) })
	}
}

// testAdverts: what the client sends stands in the ring, unchanged.
func testAdverts(t *testing.T, l *lab, rung string) {
	t.Helper()
	var a *Adverts
	l.in(l.router, func() {
		var err error
		if a, err = openAdverts(AdvertOptions{Interfaces: []string{"in"}, Log: logger(t)}, rung); err != nil {
			t.Error(err)
		}
	})
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	file, err := a.Ring()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ring, err := maps.OpenRing(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()

	begin := now()
	small, large := advert(12), advert(8+4*255)
	l.multicast(255, small, large)
	l.multicast(7, small)
	got := readAdverts(t, ring, 3)
	end := now()
	index := uint32(0)
	l.in(l.router, func() { index = uint32(device(t, "in").Attrs().Index) })
	for i, want := range []struct {
		ttl     uint8
		payload []byte
	}{{255, small}, {255, large}, {7, small}} {
		g := got[i]
		if g.TTL != want.ttl || !bytes.Equal(g.Payload, want.payload) || g.IfIndex != index ||
			g.Src != netip.MustParseAddr("10.1.0.2") || g.Dst != netip.MustParseAddr("224.0.0.18") || g.At < begin || g.At > end {
			t.Errorf("advert %d: %+v", i, g)
		}
	}
	if s := a.Stats(); s.Copied != 3 || s.Full != 0 || s.Malformed != 0 {
		t.Errorf("stats: %+v", s)
	}

	// Others in place of it, and both: lo is in every lab.
	for _, names := range [][]string{{"lo"}, {}, {"in", "lo"}, {"in"}} {
		a.Follow(names)
		deadline := time.Now().Add(patience)
		for !slices.Equal(a.ports.names(), names) && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		if got := a.ports.names(); !slices.Equal(got, names) {
			t.Errorf("attached to %v, want %v", got, names)
		}
	}
	l.multicast(255, small)
	readAdverts(t, ring, 1)
}

// readAdverts waits for n adverts as the adverts process does.
func readAdverts(t testing.TB, ring *maps.Ring, n int) (got []maps.Advert) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(got) < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d adverts, want %d", len(got), n)
		}
		fds := []unix.PollFd{{Fd: int32(ring.FD()), Events: unix.POLLIN}}
		unix.Poll(fds, 100)
		ring.Drain(func(rec []byte) {
			a, err := maps.ParseAdvert(rec)
			if err != nil {
				t.Error(err)
			}
			a.Payload = bytes.Clone(a.Payload)
			got = append(got, a)
		})
	}
	return got
}

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// fence opens the fence of the given kind in the lab's router.
func (l *lab) fence(kind string) *Fence {
	l.t.Helper()
	var f *Fence
	l.in(l.router, func() {
		var err error
		if kind == "netfilter" {
			f, err = OpenFence(logger(l.t))
		} else {
			f, err = openFenceTC(logger(l.t), kind)
		}
		if err != nil {
			l.t.Errorf("open fence: %v", err)
		}
	})
	l.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			l.t.Errorf("close fence: %v", err)
		}
	})
	if f.Kind() != kind {
		l.t.Fatalf("kind %q, want %q", f.Kind(), kind)
	}
	return f
}

var fences = []string{"netfilter", rungTCX, rungClsact}

func TestFence(t *testing.T) {
	for _, kind := range fences {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t)
			l.serve(80)
			known := l.dial("tcp", "10.1.0.1:80")
			exchange(t, known)
			f := l.fence(kind)
			f.Up(time.Minute)
			exchange(t, known)
			fresh := l.dial("udp", "10.1.0.1:80")
			if tryExchange(fresh, 200*time.Millisecond) == nil {
				t.Error("a new flow passed the fence")
			}
			f.Down()
			f.Renew(time.Minute) // late: must not raise it again
			exchange(t, fresh)

			late, begin := l.dial("udp", "10.1.0.1:80"), time.Now()
			f.Up(200 * time.Millisecond) // and nobody renews
			for tryExchange(late, 20*time.Millisecond) != nil {
				if time.Since(begin) > patience {
					t.Fatal("the fence outlived its deadline")
				}
			}
			if d := time.Since(begin); d < 200*time.Millisecond {
				t.Errorf("a new flow passed after %v", d)
			}
			if s := f.Stats(); s.DroppedNew == 0 || s.PassedKnown == 0 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

// TestFencePasses: what goes through while it is up, and that it never answers.
func TestFencePasses(t *testing.T) {
	l := newLab(t)
	l.serve(80)
	if !l.answers("10.2.0.2") {
		t.Error("a ping is not answered")
	}
	f := l.fence("netfilter")
	known := l.dial("tcp", "[fd02::2]:80")
	exchange(t, known)
	f.Up(time.Minute)
	if tryExchange(known, patience) != nil {
		t.Error("a known IPv6 connection is fenced")
	}
	if !l.silent("10.2.0.2") || !l.silent("-6", "fd02::2") {
		t.Error("a new ping passed")
	}
	if !l.silent("10.1.0.1") {
		t.Error("an address that is not named as own passed")
	}
	f.SetLocal([]netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd01::1")})
	if !l.answers("10.1.0.1") || !l.answers("-6", "fd01::1") {
		t.Error("an own address is fenced")
	}
	f.SetLocal([]netip.Addr{netip.MustParseAddr("fd01::1")})
	if !l.silent("10.1.0.1") {
		t.Error("an address that is no longer own passed")
	}
	l.in(l.router, func() { // IPv6 lives on neighbour discovery
		run(t, "ip", "-6", "neigh", "flush", "all")
	})
	if tryExchange(known, patience) != nil {
		t.Error("neighbour discovery is fenced")
	}
	s := f.Stats()
	if s.PassedLocal == 0 || s.DroppedNew == 0 || s.PassedKnown == 0 {
		t.Errorf("stats: %+v", s)
	}
	l.syncAndAdverts(f)
}

// syncAndAdverts: the sync link's multicast and adverts reach sockets of the
// router behind the fence.
func (l *lab) syncAndAdverts(f *Fence) {
	t := l.t
	t.Helper()
	send := func(proto, to string) {
		l.in(l.client, func() {
			c, err := net.Dial(proto, to)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.Write(make([]byte, 20))
		})
	}
	send("udp4", "225.0.0.50:3781")
	time.Sleep(50 * time.Millisecond)
	if s := f.Stats(); s.PassedSync != 0 {
		t.Errorf("the sync port passes before it is set: %+v", s)
	}
	f.SetPorts(3781)
	send("udp4", "225.0.0.50:3781")
	send("ip4:112", "224.0.0.18")
	send("udp4", "224.0.0.5:89")
	deadline := time.Now().Add(patience)
	for {
		s := f.Stats()
		if s.PassedSync > 0 && s.PassedAdvert > 0 && s.PassedLink > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("stats: %+v", s)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestFenceNeverAnswers: no RST and no ICMP error to what it drops, be it NEW,
// or INVALID, or a connection to a virtual address that this router would
// reset.
func TestFenceNeverAnswers(t *testing.T) {
	l := newLab(t)
	l.serve(80)
	l.in(l.router, func() {
		run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0")
		nft(t, "table ip lab { chain o { type filter hook output priority 0; ip protocol icmp icmp type destination-unreachable counter; tcp flags rst counter; }; }")
	})
	conn := l.dial("tcp", "10.1.0.1:80")
	exchange(t, conn)
	f := l.fence("netfilter")
	f.Up(time.Minute)
	l.in(l.router, func() { run(t, "conntrack", "-F") })
	if tryExchange(conn, 500*time.Millisecond) == nil {
		t.Error("a connection without an entry passed")
	}
	l.in(l.client, func() {
		for _, to := range []string{"10.1.0.1:99", "10.2.0.100:99"} {
			if c, err := (&net.Dialer{Timeout: 200 * time.Millisecond}).Dial("tcp", to); err == nil || !strings.Contains(err.Error(), "timeout") {
				t.Errorf("dial %s: %v, %v; want a timeout", to, c, err)
			}
		}
	})
	var out []byte
	l.in(l.router, func() { out, _ = exec.Command("nft", "list", "chain", "ip", "lab", "o").CombinedOutput() })
	if n := strings.Count(string(out), "packets 0"); n != 2 {
		t.Errorf("the router answered:\n%s", out)
	}
	if s := f.Stats(); s.DroppedInvalid == 0 || s.DroppedNew == 0 {
		t.Errorf("stats: %+v", s)
	}
}

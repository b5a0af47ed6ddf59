// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/tandem-ha/tandem/conntrack"
)

// lab is a client, a router and a server in namespaces without names: they end
// with the last descriptor.
//
//	client 10.1.0.2 --- in [router] out --- 10.2.0.2 server
//	       fd01::2                          fd02::2
//
// TCP and UDP port 80 of 10.1.0.1 is the server's port 80 (DNAT); what leaves
// by out comes from 10.2.0.100 (SNAT).
type lab struct {
	t                      testing.TB
	client, router, server netns.NsHandle
}

const ruleset = `
table ip lab {
	chain pre {
		type nat hook prerouting priority dstnat;
		ip daddr 10.1.0.1 meta l4proto { tcp, udp } th dport 80 dnat to 10.2.0.2
	}
	chain post {
		type nat hook postrouting priority srcnat;
		oifname "out" ip saddr 10.1.0.0/24 snat to 10.2.0.100
	}
}
table ip6 lab {
	chain f {
		type filter hook forward priority 0;
		ct state established accept
	}
}
`

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t, client: newNS61(t), router: newNS61(t), server: newNS61(t)}
	l.wire(l.client, "eth0", "in")
	l.wire(l.server, "eth0", "out")
	l.in(l.router, func() {
		run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
		addr(t, "in", "10.1.0.1/24", "fd01::1/64")
		addr(t, "out", "10.2.0.1/24", "10.2.0.100/32", "fd02::1/64")
		nft(t, ruleset)
	})
	l.in(l.client, func() {
		addr(t, "eth0", "10.1.0.2/24", "fd01::2/64")
		run(t, "ip", "route", "add", "default", "via", "10.1.0.1")
		run(t, "ip", "-6", "route", "add", "default", "via", "fd01::1")
	})
	l.in(l.server, func() {
		addr(t, "eth0", "10.2.0.2/24", "fd02::2/64")
		run(t, "ip", "route", "add", "default", "via", "10.2.0.1")
		run(t, "ip", "-6", "route", "add", "default", "via", "fd02::1")
	})
	l.in(l.client, func() { awaitUp(t, "eth0") })
	l.in(l.router, func() { awaitUp(t, "in", "out") })
	l.in(l.server, func() { awaitUp(t, "eth0") })
	return l
}

// onThread runs fn on a thread that ends with it.
func onThread(t testing.TB, fn func()) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		runtime.LockOSThread()
		fn()
	}()
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// in runs fn in a namespace.
func (l *lab) in(ns netns.NsHandle, fn func()) {
	l.t.Helper()
	onThread(l.t, func() {
		if err := netns.Set(ns); err != nil {
			l.t.Errorf("enter namespace: %v", err)
			return
		}
		fn()
	})
}

// wire connects an interface of ns to one of the router.
func (l *lab) wire(ns netns.NsHandle, there, here string) {
	l.in(l.router, func() {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: here}, PeerName: there, PeerNamespace: netlink.NsFd(ns)}
		if err := netlink.LinkAdd(v); err != nil {
			l.t.Errorf("add veth %s: %v", here, err)
		}
	})
}

func addr(t testing.TB, dev string, prefixes ...string) {
	t.Helper()
	run(t, "ip", "link", "set", dev, "up")
	for _, p := range prefixes {
		args := []string{"addr", "add", p, "dev", dev}
		if strings.Contains(p, ":") {
			args = append(args, "nodad")
		}
		run(t, "ip", args...)
	}
}

func nft(t testing.TB, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("nft: %v\n%s", err, out)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// answers pings from the client.
func (l *lab) answers(to ...string) bool { return l.ping("-W10", to) }

// silent is what does not answer within a second.
func (l *lab) silent(to ...string) bool { return !l.ping("-W1", to) }

func (l *lab) ping(limit string, to []string) (ok bool) {
	l.in(l.client, func() { ok = exec.Command("ping", append([]string{"-c1", limit}, to...)...).Run() == nil })
	return ok
}

// serve answers every TCP connection and every datagram to port with what it
// received, until the test ends.
func (l *lab) serve(port int) {
	l.in(l.server, func() {
		ln, err := net.Listen("tcp", fmt.Sprintf("[::]:%d", port))
		if err != nil {
			l.t.Errorf("listen: %v", err)
			return
		}
		l.t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); io.Copy(c, c) }()
			}
		}()
		pc, err := net.ListenPacket("udp", fmt.Sprintf("[::]:%d", port))
		if err != nil {
			l.t.Errorf("listen: %v", err)
			return
		}
		l.t.Cleanup(func() { pc.Close() })
		go func() {
			b := make([]byte, 2048)
			for {
				n, from, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				pc.WriteTo(b[:n], from)
			}
		}()
	})
}

// dial connects the client.
func (l *lab) dial(network, to string) net.Conn {
	l.t.Helper()
	var c net.Conn
	l.in(l.client, func() {
		var err error
		d := net.Dialer{Timeout: patience}
		if c, err = d.Dial(network, to); err != nil {
			l.t.Errorf("dial %s: %v", to, err)
		}
	})
	l.t.Cleanup(func() { c.Close() })
	return c
}

// patience is for what should come, and at once: a busy machine takes longer.
const patience = 10 * time.Second

// exchange sends a payload and waits for its echo.
func exchange(t testing.TB, c net.Conn) {
	t.Helper()
	if err := tryExchange(c, patience); err != nil {
		t.Fatalf("exchange with %s: %v", c.RemoteAddr(), err)
	}
}

func tryExchange(c net.Conn, patience time.Duration) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("tandem")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 6))
	return err
}

// entry is what the sink learnt of a flow.
type entry struct {
	flow                     conntrack.Flow
	told, gone, seeded, died int
}

// memory is a Sink that remembers.
type memory struct {
	mu      sync.Mutex
	batch   bool
	flows   map[conntrack.Key]*entry
	changed chan struct{}
}

func newMemory() *memory {
	return &memory{flows: map[conntrack.Key]*entry{}, changed: make(chan struct{}, 1)}
}

func (m *memory) Begin()          { m.mu.Lock(); m.batch = true }
func (m *memory) Flush()          {}
func (m *memory) Unsettled() bool { return false }

func (m *memory) End() {
	m.batch = false
	m.mu.Unlock()
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func (m *memory) of(f *conntrack.Flow) *entry {
	if !m.batch {
		panic("call outside of Begin and End")
	}
	e := m.flows[f.Key()]
	if e == nil {
		e = &entry{}
		m.flows[f.Key()] = e
	}
	return e
}

func (m *memory) Told(f *conntrack.Flow, at int64) { e := m.of(f); e.flow = *f; e.told++ }
func (m *memory) Gone(f *conntrack.Flow, at int64) { e := m.of(f); e.flow = *f; e.gone++ }
func (m *memory) Seed(f *conntrack.Flow)           { e := m.of(f); e.seeded++ }
func (m *memory) Died(d *conntrack.Death)          { m.of(&d.Flow).died++ }

// OwnKeys lists what is told or seeded and did not end.
func (m *memory) OwnKeys(from uint32, max int, fn func(k *conntrack.Key)) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, e := range m.flows {
		if e.died == 0 && e.gone == 0 {
			fn(&k)
		}
	}
	return 0
}

// find waits until a flow satisfies want, and gives it.
func (m *memory) find(t testing.TB, what string, want func(e *entry) bool) entry {
	t.Helper()
	deadline := time.After(2 * patience)
	for {
		m.mu.Lock()
		for _, e := range m.flows {
			if want(e) {
				found := *e
				m.mu.Unlock()
				return found
			}
		}
		m.mu.Unlock()
		select {
		case <-m.changed:
		case <-deadline:
			m.mu.Lock()
			defer m.mu.Unlock()
			for k, e := range m.flows {
				t.Logf("%v: %+v", k, *e)
			}
			t.Fatalf("waited %v for: %s", 2*patience, what)
		}
	}
}

// logger writes to the test's log.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func ip(s string) conntrack.Addr { return conntrack.AddrFrom(netip.MustParseAddr(s)) }

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		println("loader: these tests ask the kernel and need root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

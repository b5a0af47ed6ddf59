// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

var (
	storm     = flag.Duration("storm", 8*time.Second, "length of TestStorm")
	stormSeed = flag.Uint64("storm.seed", 1, "what happens in TestStorm, and in which order")
)

// TestStorm is the model of syncproto on the real kernel: daemons are killed,
// stopped and started, entries deleted on either router, roles handed over, in
// an order drawn by chance, while flows are born and die with the same tuples
// again and again and the sync link is at its worst. No connection breaks, and
// when it is over both hold the same.
func TestStorm(t *testing.T) {
	const flows = 2000
	mix := load.Mix{Steady: 10, Idle: 5, Bulk: 4, UDP: 20}
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: commitSoon}, mix, flows)
	s.mark(netlab.Now())
	s.orphan = func(key string) bool { return strings.HasSuffix(key, " 9500") || strings.HasSuffix(key, " 20004") } // rebirths
	relay := s.relay()
	relay.Harm(cruel)
	calm := s.rebirths()
	rng := rand.New(rand.NewPCG(*stormSeed, 1))
	acts := s.acts()
	for end := time.Now().Add(*storm); time.Now().Before(end) && !t.Failed(); {
		time.Sleep(time.Duration(rng.IntN(800)) * time.Millisecond)
		act := acts[rng.IntN(len(acts))]
		t.Logf("%s", act.name)
		act.do()
	}
	calm()
	if err := s.AwaitReady(t.Context(), s.Lab.R1, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	s.same(s.Lab.R1, flows, 30*time.Second)
	s.before = s.wire.Stats() // the ends of a visit that failed may have reset it
	s.judge("the storm is over")
	s.mark(netlab.Now())
	s.takeover(flows)
	s.judge("the takeover after the storm")
}

// act is something that happens in the storm.
type act struct {
	name string
	do   func()
}

func (s *scene) acts() []act {
	r1, r2 := s.Lab.R1, s.Lab.R2
	return []act{
		{"kill -9 of the Backup", func() { s.killed(r2) }},
		{"the Backup stops and starts", func() { s.restarted(r2) }},
		{"deletions at the Active", func() { s.deleteSome(r1) }},
		{"deletions at the Backup", func() { s.deleteSome(r2) }},
		{"hand-over, there and back", func() {
			s.ready()
			s.restarted(r1)
			s.become(r1, control.RoleActive, 20*time.Second)
		}},
		{"kill -9 of the Active, when both views are complete", func() {
			s.ready()
			s.killed(r1)
			s.become(r1, control.RoleActive, 20*time.Second)
		}},
	}
}

func (s *scene) ready() {
	s.t.Helper()
	if err := s.AwaitReady(s.t.Context(), s.Lab.R1, 20*time.Second); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) killed(r *netlab.Router) {
	s.t.Helper()
	sigkill(s.t, s.Process(r).Process.Pid)
	<-s.Process(r).Done()
	start(s.t, s.Pair, r)
}

func (s *scene) restarted(r *netlab.Router) {
	s.t.Helper()
	if err := s.Stop(r); err != nil {
		s.t.Errorf("clean stop of %s: %v", r.Name, err)
	}
	start(s.t, s.Pair, r)
}

// deleteSome is an administrator who deletes what rebirths makes, on one of
// the routers.
func (s *scene) deleteSome(r *netlab.Router) {
	// Exit status 1: there was none, which is as well.
	_, _ = r.NS.Output(s.t.Context(), "conntrack", "-D", "-p", "udp", "--orig-src", netlab.ClientAddr.Addr().String(), "--orig-port-dst", "9500")
}

// rebirths has UDP flows die and begin again with their tuples, and TCP
// connections come and go, until the function that it returns is called.
func (s *scene) rebirths() (calm func()) {
	s.t.Helper()
	const sockets = 200
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	far := listenUDP(s.t, s.Lab.Server, netip.AddrPortFrom(netlab.ServerAddr.Addr(), 9500))
	go bounce(far)
	to := netip.AddrPortFrom(netlab.ServerAddr.Addr(), 9500)
	var near []*net.UDPConn
	for range sockets {
		near = append(near, listenUDP(s.t, s.Lab.Client, netip.AddrPortFrom(netlab.ClientAddr.Addr(), 0)))
	}
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = near[i%sockets].WriteToUDPAddrPort([]byte("again"), to)
			if i%sockets == 0 {
				for _, r := range s.Lab.Routers() {
					if i/sockets%3 == 0 {
						s.deleteSome(r)
					}
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	})
	path := drill.Paths(s.Lab)[0]
	path.Port += 4 // the load has those before
	receive(listen(s.t, path))
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = visit(path) // some meet the fence
			time.Sleep(10 * time.Millisecond)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

func bounce(c *net.UDPConn) {
	b := make([]byte, 64)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		_, _ = c.WriteToUDPAddrPort(b[:n], from)
	}
}

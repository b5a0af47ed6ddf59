// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// cruel is a sync link at its worst.
var cruel = netlab.Harm{Lose: 0.2, Duplicate: 0.2, Replay: 0.05, Corrupt: 0.1, Delay: time.Millisecond, Jitter: 10 * time.Millisecond}

// commitSoon spares a scene that compares kernel tables some waiting.
var commitSoon = within("[conntrack-sync]", `commit-after = "300ms"`)

// TestHostileLink: whatever the sync link does to datagrams, in the end both
// routers hold the same flows, and a takeover finds each of them. Flows are
// born, change and die meanwhile, and the Backup's daemon begins anew, so that
// sessions and a join go the same way.
func TestHostileLink(t *testing.T) {
	const flows = 10_000
	for _, c := range []struct {
		name string
		opts drill.PairOptions
		harm func(s *scene) *netlab.Relay
	}{
		{"20 % lost by nftables", drill.PairOptions{Edit: commitSoon}, func(s *scene) *netlab.Relay {
			if err := s.Lab.R1.Lose(netlab.Sync, 20); err != nil {
				t.Fatal(err)
			}
			return nil
		}},
		{"lost, repeated, reordered, damaged, and parted every second", drill.PairOptions{Edit: commitSoon}, func(s *scene) *netlab.Relay {
			relay := s.relay()
			relay.Harm(cruel)
			s.flap(relay)
			return relay
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{}, c.opts)}
			s.watch()
			relay := c.harm(s)
			s.gather(flows)
			s.churn()
			s.speak("on a bad link")
			s.same(s.Lab.R1, flows, 40*time.Second)
			if err := s.Stop(s.Lab.R2); err != nil {
				t.Error(err)
			}
			start(t, s.Pair, s.Lab.R2)
			s.become(s.Lab.R2, control.RoleBackup, 20*time.Second)
			s.speak("while the Backup joins")
			s.same(s.Lab.R1, flows, 40*time.Second)
			s.takeover(flows)
			if relay != nil {
				s.wasCruel(relay)
			}
		})
	}
}

// relay puts one into the sync link, for the length of the test.
func (s *scene) relay() *netlab.Relay {
	s.t.Helper()
	r, err := s.Lab.Relay(7)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = r.Close() })
	return r
}

// flap parts the link again and again, for longer and for less long than a
// peer waits, until the test ends.
func (s *scene) flap(relay *netlab.Relay) {
	stop, done := make(chan struct{}), make(chan struct{})
	s.t.Cleanup(func() {
		close(stop)
		<-done
	})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			for _, phase := range []struct {
				do    func()
				lasts time.Duration
			}{{relay.Part, time.Duration(100+i%4*150) * time.Millisecond}, {relay.Heal, 700 * time.Millisecond}} {
				phase.do()
				select {
				case <-stop:
					return
				case <-time.After(phase.lasts):
				}
			}
		}
	}()
}

// wasCruel says whether all of the harm was done, and refused.
func (s *scene) wasCruel(relay *netlab.Relay) {
	s.t.Helper()
	n, peer := relay.Stats(), s.status(s.Lab.R2).Sync
	s.t.Logf("relay %+v; r2 refused %v", n, peer.Links[0].Counters.Dropped)
	if min(n.Lost, n.Duplicated, n.Replayed, n.Corrupted, n.Overtook) == 0 {
		s.t.Errorf("some of the harm was not done: %+v", n)
	}
}

// sealed gives both routers a key.
func sealed(t *testing.T) func(router, text string) string {
	t.Helper()
	key, err := link.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sync.key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(router, text string) string {
		return strings.Replace(commitSoon(router, text), `authentication = "none"`, `key-file = "`+path+`"`, 1)
	}
}

// takeover cuts r1's power: r2 has all, answers for each of n flows, and its
// daemon owns just what its kernel table holds.
func (s *scene) takeover(n int) {
	s.t.Helper()
	r2 := s.Lab.R2
	s.before = s.wire.Stats()
	at, err := s.Lab.R1.PowerOff()
	if err != nil {
		s.t.Fatal(err)
	}
	s.become(r2, control.RoleActive, 10*time.Second)
	s.t.Logf("r2 is Active after %v", netlab.Since(at))
	s.speak("after the takeover")
	s.quiet("after the takeover")
	eventually(s.t, 20*time.Second, "r2 owns what it holds", func() bool {
		truth, own := kernelEntries(s.t, r2), s.believed(r2, control.SourceOwn)
		count, first := differences(truth, own)
		if count > 0 {
			s.t.Logf("r2: %d of %d differ: %v", count, len(truth), first)
			time.Sleep(500 * time.Millisecond)
		}
		return count == 0 && len(truth) >= n
	})
}

// churn is births and deaths: connections that come and go, and UDP flows of
// which an administrator deletes some.
func (s *scene) churn() {
	s.t.Helper()
	s.visits(200)
	made := mesh(s.t, s.Lab)
	for port := 9000; port < 9010; port++ {
		_, err := s.Lab.R1.NS.Output(s.t.Context(), "conntrack", "-D", "-p", "udp", "--orig-port-dst", strconv.Itoa(port))
		if err != nil {
			s.t.Fatalf("delete some of %d flows: %v", made, err)
		}
	}
}

// visits are connections of one request and its response each.
func (s *scene) visits(n int) {
	s.t.Helper()
	path := drill.Paths(s.Lab)[0]
	l := listen(s.t, path)
	receive(l)
	for range n {
		if err := visit(path); err != nil {
			s.t.Fatal(err)
		}
	}
	_ = l.Close()
}

// receive answers visits until the listener is closed.
func receive(l net.Listener) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
}

func visit(path load.Path) (err error) {
	var c net.Conn
	err = path.Client.Run(func() (err error) {
		d := net.Dialer{Timeout: answerLimit}
		c, err = d.Dial("tcp4", netip.AddrPortFrom(path.Dial, path.Port).String())
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(answerLimit))
	if _, err = c.Write([]byte("hello")); err == nil {
		err = c.(*net.TCPConn).CloseWrite()
	}
	if err == nil {
		_, err = io.ReadAll(c)
	}
	return err
}

// badTurns is how often; `make proof` takes more.
var badTurns = flag.Int("bad.turns", 1, "turns of TestHandOverOnABadLink")

// TestHandOverOnABadLink: with a key, a clean stop and a return go over a sync link that
// loses, repeats, reorders and damages. They take longer, or fall back to what
// the election does alone; they break nothing, and flows written to the peer
// meanwhile are not lost. Its damage is refused by the seal.
func TestHandOverOnABadLink(t *testing.T) {
	const flows = 2000
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: sealed(t)}, fast, flows)
	r1, r2 := s.Lab.R1, s.Lab.R2
	relay := s.relay()
	relay.Harm(cruel)
	for turn := range *badTurns {
		at := netlab.Now()
		s.mark(at)
		if err := s.Stop(r1); err != nil {
			t.Error(err)
		}
		st := s.become(r2, control.RoleActive, 10*time.Second)
		t.Logf("turn %d: r2 is Active %v after the stop: %s", turn+1, netlab.Since(at), st.Last.Reason)
		s.judge("stop")
		at = netlab.Now()
		s.mark(at)
		start(t, s.Pair, r1)
		st = s.become(r1, control.RoleActive, 30*time.Second)
		t.Logf("turn %d: r1 is Active %v after its start: %s", turn+1, netlab.Since(at), st.Last.Reason)
		handedOver(t, "return", &st)
		s.judge("return")
		soleHolder(t, s.Lab, r1, 5*time.Second)
	}
	s.same(r1, flows, 40*time.Second)
	s.takeover(flows)
	s.wasCruel(relay)
}

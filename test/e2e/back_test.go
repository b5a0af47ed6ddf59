// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// thereAndBack is how long A, B, A may take to be the case that is tried.
const thereAndBack = 5 * time.Second

// fast moves more than a whole TCP window within each turn.
var fast = load.Mix{Steady: 10, Idle: 5, Bulk: 12, UDP: 20, BulkRate: 1_500_000}

// A, B, A within five seconds under bulk TCP: the streams go on. When A is
// Active again its old entries have windows of seconds ago; unhealed, every
// segment is INVALID and the streams stand still.
func TestThereAndBack(t *testing.T) {
	for _, c := range []struct {
		name        string
		deadEnd     bool
		there, back func(s *scene) error
	}{
		{"stop and start", false, func(s *scene) error { return s.Stop(s.Lab.R1) },
			func(s *scene) error { return s.Start(s.Lab.R1) }},
		{"interface down and up", true, func(s *scene) error { _, err := s.Lab.R1.LinkDown("eth0"); return err },
			func(s *scene) error { return s.Lab.R1.LinkUp("eth0") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := play(t, netlab.Options{}, drill.PairOptions{}, fast, 0)
			s.deadEnd = c.deadEnd
			for turn, inTime := 1, 0; inTime < 2; turn++ {
				if turn > 6 {
					t.Fatalf("%d of %d turns took less than %v: the case was not the one to be tried", inTime, turn-1, thereAndBack)
				}
				if s.turn(fmt.Sprintf("%s, turn %d", c.name, turn), c.there, c.back) <= thereAndBack {
					inTime++
				}
			}
		})
	}
}

// turn is A, B, A once; it returns how long that took.
func (s *scene) turn(name string, there, back func(s *scene) error) time.Duration {
	s.t.Helper()
	r1, r2 := s.Lab.R1, s.Lab.R2
	if err := s.AwaitReady(s.t.Context(), r1, 10*time.Second); err != nil {
		s.t.Fatal(err)
	}
	at, before := netlab.Now(), [2]uint64{invalid(s.t, r1), invalid(s.t, r2)}
	s.mark(at)
	if err := there(s); err != nil {
		s.t.Fatal(err)
	}
	s.become(r2, control.RoleActive, 5*time.Second)
	atB := netlab.Since(at)
	if rest := time.Second - atB; rest > 0 {
		time.Sleep(rest) // B forwards for a while: A's windows grow stale
	}
	if err := back(s); err != nil {
		s.t.Fatal(err)
	}
	s.become(r1, control.RoleActive, 20*time.Second)
	took := netlab.Since(at)
	s.t.Logf("%s: B is Active after %v, A again after %v", name, atB, took)
	r := s.judge(name)
	s.t.Logf("%s: INVALID packets: A %d, B %d", name, invalid(s.t, r1)-before[0], invalid(s.t, r2)-before[1])
	if gap := standstill(&r); gap > 2*time.Second {
		s.t.Errorf("%s: a stream stood still for %v", name, gap)
	}
	// What stalls by stale windows stalls late: once more, with a new mark.
	s.mark(netlab.Now())
	time.Sleep(1500 * time.Millisecond)
	r = s.judge(name + ", a while later")
	if gap := standstill(&r); gap > 500*time.Millisecond {
		s.t.Errorf("%s: a while later a stream stood still for %v", name, gap)
	}
	return took
}

// standstill is the longest one of a stream, without that of everything: of the
// network while nobody is Active, or of the machine.
func standstill(r *load.Report) time.Duration { return r.BulkGap.Max - r.Silence.Length() }

// The power of an Active is cut moments after it was given the role: in the
// kernel table of the one that gave it every entry has stale windows, and its
// fence may stand too short a time to write them all anew. Windows are not judged
// in that term, so that no segment is INVALID and no router answers it.
func TestStaleWindowsAtATakeover(t *testing.T) {
	const flows = 60_000
	played(t, func(t *testing.T) bool {
		s := shortFence(t, flows)
		r1, r2 := s.Lab.R1, s.Lab.R2
		order(t, s.Pair, r1, "switchover")
		s.become(r2, control.RoleActive, 5*time.Second)
		time.Sleep(300 * time.Millisecond) // a window of the fast ones, no more: then r1 begins to write
		before, cut := s.status(r1).Sync.Commits.Replaced, time.Now()
		at, err := r2.PowerOff()
		if err != nil {
			t.Fatal(err)
		}
		s.mark(at)
		st, err := s.Await(t.Context(), r1, 10*time.Second, "the end of the takeover", func(st *control.Status) bool {
			return st.Last.Start.After(cut) && slices.ContainsFunc(st.Last.Steps, func(x control.Step) bool { return x.Name == "fence down" })
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d entries were written before the cut, %d behind the fence: %+v", before, st.Last.Committed, st.Last.Steps)
		if before > flows/2 || st.Last.Committed > flows-flows/8 {
			return false
		}
		if got := liberal(t, r1); got != "1" {
			t.Errorf("nf_conntrack_tcp_be_liberal is %s", got)
		}
		s.judge("power cut right after a switchover")
		if err := s.Stop(r1); err != nil {
			t.Error(err)
		}
		if got := liberal(t, r1); got != "0" {
			t.Errorf("nf_conntrack_tcp_be_liberal is %s after the end", got)
		}
		return true
	})
}

// The same where the one that was given the role had just been started: what the
// other one holds of it is of its former life, or told this moment.
func TestStaleWindowsAfterAReturn(t *testing.T) {
	const flows = 60_000
	s := shortFence(t, flows)
	r1, r2 := s.Lab.R1, s.Lab.R2
	if _, err := r2.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if err := r2.PowerOn(); err != nil {
		t.Fatal(err)
	}
	start(t, s.Pair, r2)
	if err := s.AwaitReady(t.Context(), r1, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	order(t, s.Pair, r1, "switchover")
	s.become(r2, control.RoleActive, 5*time.Second)
	time.Sleep(100 * time.Millisecond) // a window of the fast ones, no more
	before := 0
	eventually(t, 5*time.Second, "stale entries", func() bool { // half of all are TCP, these alone have windows, and r2 is still telling them
		before = s.status(r1).Sync.Peers[0].Uncommitted
		return before >= flows/20
	})
	at, err := r2.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r1, control.RoleActive, 5*time.Second)
	t.Logf("%d entries were known to be stale at the cut", before)
	if got := liberal(t, r1); got != "1" {
		t.Errorf("nf_conntrack_tcp_be_liberal is %s", got)
	}
	s.judge("power cut right after a return")
}

// What was restored judges no windows, so it is not written anew when the role
// leaves, however many changes there are, and whatever went by meanwhile.
func TestRestoredStayAsTheyAre(t *testing.T) {
	const crowd = 5000
	s := play(t, netlab.Options{}, drill.PairOptions{}, fast, crowd)
	r1, r2 := s.Lab.R1, s.Lab.R2
	cut := func() {
		t.Helper()
		at, err := r1.PowerOff()
		if err != nil {
			t.Fatal(err)
		}
		s.mark(at)
		s.become(r2, control.RoleActive, 5*time.Second)
		s.judge("power cut")
	}
	cut()
	before := s.status(r2).Sync.Commits.Replaced
	if err := r1.PowerOn(); err != nil {
		t.Fatal(err)
	}
	start(t, s.Pair, r1)
	s.become(r1, control.RoleActive, 30*time.Second)
	if err := s.AwaitReady(t.Context(), r1, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // r2 would have begun after one, and windows of the fast ones went by
	if st := s.status(r2); st.Sync.Commits.Replaced-before > crowd/10 || st.Sync.Peers[0].Uncommitted > crowd/10 {
		t.Errorf("r2 writes anew what it has: %+v, %d of them before, %d to come", st.Sync.Commits, before, st.Sync.Peers[0].Uncommitted)
	}
	cut()
}

// shortFence is a scene whose fence stands too short a time to write so many flows
// anew; those of fast are the last that are told and written.
func shortFence(t *testing.T, flows int) *scene {
	t.Helper()
	s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{}, drill.PairOptions{Edit: within("[conntrack-sync]", `fence-limit = "100ms"`)})}
	s.watch()
	s.gatherOf(load.CrowdConfig{UDPSNAT: flows / 2, TCPSNAT: flows / 2, Rate: crowdRate})
	s.connect(fast)
	if err := s.AwaitCopied(t.Context(), s.Lab.R1, flows, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	return s
}

func liberal(t *testing.T, r *netlab.Router) string {
	t.Helper()
	out, err := r.NS.Output(t.Context(), "sysctl", "-n", "net.netfilter.nf_conntrack_tcp_be_liberal")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// Masquerade, and the WAN interface of the Active goes down: the kernel kills
// thousands of entries that no packet ended. Their deaths are not told.
func TestMasqueradeLinkDown(t *testing.T) {
	const through = 2000
	s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{NAT: netlab.Masquerade}, drill.PairOptions{})}
	r1, r2 := s.Lab.R1, s.Lab.R2
	n := mesh(t, s.Lab)
	s.gatherOf(load.CrowdConfig{TCPDNAT: through / 2, UDPDNAT: through / 2})
	if err := s.AwaitCopied(t.Context(), r1, n+through, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	before := flowSet(t, s, r2, control.SourceView)
	at, err := r1.LinkDown("eth1")
	if err != nil {
		t.Fatal(err)
	}
	s.become(r2, control.RoleActive, 10*time.Second)
	t.Logf("r2 is Active after %v", netlab.Since(at))
	for range 4 {
		time.Sleep(600 * time.Millisecond)
		now, own, lost := flowSet(t, s, r2, control.SourceKernel), s.status(r2).Sync.OwnFlows, 0
		for k := range before {
			if !now[k] {
				lost++
			}
		}
		t.Logf("%v after: r2 lost %d of the %d flows of its view, %d are its own now", netlab.Since(at), lost, len(before), own)
		if lost > 0 || own < len(before) {
			t.Errorf("r2 lost %d flows of %d, and has %d own", lost, len(before), own)
		}
	}
	eventually(t, 10*time.Second, fmt.Sprintf("the interface's going killed all %d entries that are masqueraded", n), func() bool {
		return s.status(r1).Capture.Died >= uint64(n)
	})
	s.speak("through DNAT, after the interface went down")
}

// mesh makes UDP flows from the client to the server, some thousand out of few
// sockets: each of these to each of those, answered. It returns how many.
func mesh(t *testing.T, l *netlab.Lab) int {
	t.Helper()
	patient(t, l)
	const clients, servers = 40, 50
	for i := range servers {
		c := listenUDP(t, l.Server, netip.AddrPortFrom(netlab.ServerAddr.Addr(), uint16(9000+i)))
		go func() {
			b := make([]byte, 64)
			for {
				n, from, err := c.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				_, _ = c.WriteToUDPAddrPort(b[:n], from)
			}
		}()
	}
	for range clients {
		c := listenUDP(t, l.Client, netip.AddrPortFrom(netlab.ClientAddr.Addr(), 0))
		_ = c.SetReadDeadline(time.Now().Add(answerLimit))
		for i := range servers {
			to := netip.AddrPortFrom(netlab.ServerAddr.Addr(), uint16(9000+i))
			if _, err := c.WriteToUDPAddrPort([]byte("mesh"), to); err != nil {
				t.Fatal(err)
			}
		}
		for i := range servers {
			if _, err := c.Read(make([]byte, 64)); err != nil {
				t.Fatalf("answer %d of %d: %v", i, servers, err)
			}
		}
	}
	return clients * servers
}

func listenUDP(t *testing.T, at *netlab.Namespace, local netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	err := at.Run(func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(local))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// flowSet is the TCP and UDP flows of one source.
func flowSet(t *testing.T, s *scene, r *netlab.Router, source string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := s.Client(r).Flows(t.Context(), control.FlowQuery{Source: source}, func(f *control.Flow) error {
		if f.Protocol == "tcp" || f.Protocol == "udp" {
			out[fmt.Sprintf("%s %+v", f.Protocol, f.Original)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

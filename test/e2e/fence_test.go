// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// commitAtTakeover makes what is behind the fence big.
var commitAtTakeover = within("[conntrack-sync]", `commit = "takeover"`)

// While 20,000 flows commit behind the fence, with all kinds of traffic on top,
// neither router answers a packet that it does not know: no RST, no ICMP error.
// Every flow is kept, though nothing was in the kernel table before.
func TestCommitBehindTheFence(t *testing.T) {
	const flows = 20000
	mix := load.Mix{Steady: 20, Idle: 10, Bulk: 6, UDP: 20, Ping: 20, UDPSize: 3200, UDPPeriod: 50 * time.Millisecond}
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: commitAtTakeover}, mix, flows)
	if n := s.status(s.Lab.R2).Sync.Commits.Created; n != 0 {
		t.Fatalf("%d flows were committed at the Backup, in takeover mode", n)
	}
	at, err := s.Lab.R1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.speak("power cut") // all of them speak while the commit runs
	s.become(s.Lab.R2, control.RoleActive, 5*time.Second)
	s.judge("after the power cut")
	st := s.status(s.Lab.R2)
	if st.Last == nil || st.Last.Committed < flows {
		t.Fatalf("the takeover did not commit behind the fence: %+v", st.Last)
	}
	t.Logf("takeover: %d flows (%d failed), %s, %+v; fence dropped %v", st.Last.Committed, st.Last.Failed, st.Last.Reason, st.Last.Steps, st.Fence.Dropped)
	if st.Fence.Dropped["new"]+st.Fence.Dropped["invalid"] == 0 {
		t.Error("the fence dropped nothing: this proves nothing")
	}
	eventually(t, 5*time.Second, "the fence down", func() bool { return !s.status(s.Lab.R2).Fence.Up })
}

// fenceHold is how long one sign of progress keeps the fence up
// (takeover.Timing), and how late the kernel may see its end.
const (
	fenceHold  = 500 * time.Millisecond
	fenceSlack = 100 * time.Millisecond
)

// A daemon that is killed, or hangs, while its fence is up leaves none: packets
// pass again by themselves.
func TestFenceIsNeverLeftUp(t *testing.T) {
	for _, c := range []struct {
		name string
		hold time.Duration // 0: it is killed
		opts drill.PairOptions
	}{
		{"killed", 0, drill.PairOptions{}},
		{"hung", fenceHold, drill.PairOptions{}},
		{"hung, its clock ahead of the kernel's", fenceHold, drill.PairOptions{Tandem: ahead(t, "r2", 5*time.Hour)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.opts.Edit = commitAtTakeover
			played(t, func(t *testing.T) bool { return endsBehindItsFence(t, c.opts, c.hold) })
		})
	}
}

// endsBehindItsFence has r2 end while its fence is up, or (hold) hang. It says whether
// that was in time.
func endsBehindItsFence(t *testing.T, opts drill.PairOptions, hold time.Duration) bool {
	t.Helper()
	const flows = 60_000 // a machine that is thrice as fast has them in the fence for 50 ms
	s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{}, opts)}
	r1, r2 := s.Lab.R1, s.Lab.R2
	s.gatherOf(load.CrowdConfig{UDPSNAT: flows, Rate: crowdRate})
	if err := s.AwaitCopied(t.Context(), r1, flows, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	daemon := s.Process(r2).Process.Pid
	p := probeThrough(t, s.Lab, r2)
	begin := netlab.Now()
	time.Sleep(100 * time.Millisecond)
	if lost := p.lostAfter(t, begin); len(lost) != 0 {
		t.Fatalf("%d packets lost before anything has happened", len(lost))
	}
	cut, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	p.awaitLate(t, cut)
	signal := netlab.Now()
	if hold == 0 {
		sigkill(t, daemon) // and not Done, which waits for its child's output, too
		eventually(t, answerLimit, "the daemon's end", func() bool { return errors.Is(unix.Kill(daemon, 0), unix.ESRCH) })
	} else {
		freeze(t, daemon)
	}
	at := netlab.Now() // it does nothing any more
	time.Sleep(fenceHold + 500*time.Millisecond)
	lost := p.lostAfter(t, signal-int64(underway))
	if len(lost) == 0 {
		t.Log("the fence was not up at the signal")
		return false
	}
	late := time.Duration(lost[len(lost)-1] - at)
	t.Logf("%d packets lost, the last of them left %v after the daemon's end", len(lost), late)
	if late > hold+fenceSlack {
		t.Errorf("a packet was still dropped %v after the daemon's end", late)
	}
	return hold == 0 || late > 0 // or it hung when the fence was down
}

// probe sends the first packet of a new flow through a router's own addresses
// every 2 ms. They pass a Backup as well; only its fence stops them.
type probe struct {
	mu   sync.Mutex
	sent []int64
	got  map[int]bool
}

// probeAddr is a second address of the server.
var probeAddr = netip.MustParsePrefix("203.0.113.77/24")

func probeThrough(t *testing.T, l *netlab.Lab, r *netlab.Router) *probe {
	t.Helper()
	if err := l.Server.Address("eth0", probeAddr); err != nil {
		t.Fatal(err)
	}
	one := net.IPNet{IP: probeAddr.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}
	if err := l.Client.Netlink().RouteAdd(&netlink.Route{Dst: &one, Gw: r.Addr(0).Addr().AsSlice()}); err != nil {
		t.Fatal(err)
	}
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(probeAddr.Addr(), 7777))
	var in *net.UDPConn
	err := l.Server.Run(func() (err error) {
		in, err = net.ListenUDP("udp4", to)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p, stop := &probe{got: map[int]bool{}}, make(chan struct{})
	var wg sync.WaitGroup
	t.Cleanup(func() {
		close(stop)
		in.Close()
		wg.Wait()
	})
	wg.Go(func() { p.listen(in) })
	wg.Go(func() { _ = l.Client.Run(func() error { return p.send(to, stop) }) })
	p.await(t, 0)
	return p
}

func (p *probe) listen(in *net.UDPConn) {
	b := make([]byte, 64)
	for {
		_, err := in.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		p.mu.Lock()
		p.got[int(binary.BigEndian.Uint64(b))] = true
		p.mu.Unlock()
	}
}

func (p *probe) send(to *net.UDPAddr, stop chan struct{}) error {
	var b [8]byte
	for tick := time.NewTicker(2 * time.Millisecond); ; {
		select {
		case <-stop:
			tick.Stop()
			return nil
		case <-tick.C:
		}
		c, err := net.DialUDP("udp4", nil, to)
		if err != nil {
			continue
		}
		p.mu.Lock()
		binary.BigEndian.PutUint64(b[:], uint64(len(p.sent)))
		p.sent = append(p.sent, netlab.Now())
		p.mu.Unlock()
		_, _ = c.Write(b[:])
		c.Close()
	}
}

// underway is how long a packet takes at most, as a rule.
const underway = 20 * time.Millisecond

// awaitLate waits until five packets are late that were sent after a moment: there is
// a fence in their way, most likely.
func (p *probe) awaitLate(t *testing.T, after int64) {
	t.Helper()
	for end := time.Now().Add(answerLimit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		p.mu.Lock()
		late, limit := 0, netlab.Now()-int64(underway)
		for i, sent := range p.sent {
			if sent > after && sent < limit && !p.got[i] {
				late++
			}
		}
		p.mu.Unlock()
		if late >= 5 {
			return
		}
	}
	t.Fatal("the fence never dropped anything")
}

// overtaken is how long before one that arrived a packet was sent that is lost, not
// late: packets take the same way, but processors may pass them on out of order.
const overtaken = 50 * time.Millisecond

// lostAfter lists when the packets left that were sent from one moment until now
// and did not arrive.
func (p *probe) lostAfter(t *testing.T, at int64) (out []int64) {
	t.Helper()
	until := netlab.Now()
	p.await(t, until+int64(overtaken))
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, sent := range p.sent {
		if sent > at && sent < until && !p.got[i] {
			out = append(out, sent)
		}
	}
	return out
}

// await waits until a packet arrived that was sent after a moment.
func (p *probe) await(t *testing.T, at int64) {
	t.Helper()
	eventually(t, answerLimit, "a packet of the probe", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := range slices.Backward(p.sent) {
			if p.sent[i] > at && p.got[i] {
				return true
			}
		}
		return false
	})
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
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
	st := s.become(s.Lab.R2, control.RoleActive, 5*time.Second)
	s.judge("after the power cut")
	st = s.status(s.Lab.R2)
	if st.Last == nil || st.Last.Committed < flows {
		t.Fatalf("the takeover did not commit behind the fence: %+v", st.Last)
	}
	t.Logf("takeover: %d flows (%d failed), %s, %+v; fence dropped %v", st.Last.Committed, st.Last.Failed, st.Last.Reason, st.Last.Steps, st.Fence.Dropped)
	if st.Fence.Dropped["new"]+st.Fence.Dropped["invalid"] == 0 {
		t.Error("the fence dropped nothing: this proves nothing")
	}
	if st.Fence.Up {
		t.Error("the fence is still up")
	}
}

// fenceHold is how long one sign of progress keeps the fence up
// (takeover.Timing), and how late this machine may see its end.
const (
	fenceHold  = 500 * time.Millisecond
	fenceSlack = 100 * time.Millisecond
)

// A daemon that is killed, or hangs, while its fence is up leaves none: packets
// pass again by themselves.
func TestFenceIsNeverLeftUp(t *testing.T) {
	for _, c := range []struct {
		name string
		sig  unix.Signal
		hold time.Duration
		opts drill.PairOptions
	}{
		{"killed", unix.SIGKILL, 0, drill.PairOptions{}},
		{"hung", unix.SIGSTOP, fenceHold, drill.PairOptions{}},
		{"hung, its clock ahead of the kernel's", unix.SIGSTOP, fenceHold, drill.PairOptions{Tandem: ahead(t, "r2", 5*time.Hour)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.opts.Edit = commitAtTakeover
			s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{}, c.opts)}
			s.gatherOf(load.CrowdConfig{UDPSNAT: 40000})
			if err := s.AwaitCopied(t.Context(), s.Lab.R1, 40000, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			pid := s.Process(s.Lab.R2).Process.Pid
			p := probeThrough(t, s.Lab, s.Lab.R2)
			time.Sleep(100 * time.Millisecond)
			if lost := p.lostAfter(0); len(lost) != 0 {
				t.Fatalf("%d packets lost before anything has happened", len(lost))
			}
			if _, err := s.Lab.R1.PowerOff(); err != nil {
				t.Fatal(err)
			}
			p.awaitLoss(t, 5)
			at := netlab.Now()
			if err := unix.Kill(pid, c.sig); err != nil {
				t.Fatal(err)
			}
			defer unix.Kill(pid, unix.SIGCONT)
			time.Sleep(fenceHold + 500*time.Millisecond)
			lost := p.lostAfter(at)
			t.Logf("%d packets lost after the signal", len(lost))
			if len(lost) > 0 {
				t.Logf("the last of them left %v after it", time.Duration(lost[len(lost)-1]-at))
				if late := time.Duration(lost[len(lost)-1] - at); late > c.hold+fenceSlack {
					t.Errorf("a packet was still dropped %v after the signal", late)
				}
			}
			if c.hold > 0 && len(lost) == 0 {
				t.Error("the fence did not outlive the daemon's last step: this proves nothing")
			}
		})
	}
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

// underway is how long a packet may be on its way.
const underway = 20 * time.Millisecond

// lostAfter lists when the packets left that were sent after a moment and did
// not arrive.
func (p *probe) lostAfter(at int64) (out []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := netlab.Now() - int64(underway)
	for i, sent := range p.sent {
		if sent > at && sent < limit && !p.got[i] {
			out = append(out, sent)
		}
	}
	return out
}

// awaitLoss waits until n packets were lost.
func (p *probe) awaitLoss(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if len(p.lostAfter(0)) >= n {
			return
		}
	}
	t.Fatal("the fence never dropped anything")
}

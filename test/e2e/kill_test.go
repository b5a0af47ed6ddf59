// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
	"github.com/tandem-ha/tandem/internal/vip"
)

// kill -9 of the Active's daemon, alone or with the process that sends its
// adverts: the Backup takes over, nothing breaks, soon nobody else answers for
// the addresses, and the next start takes away what was left before it speaks.
func TestKillActive(t *testing.T) {
	mix := load.Mix{Steady: 20, Idle: 10, Bulk: 6, UDP: 40}
	for _, c := range []struct {
		name        string
		main, child bool
		limit       time.Duration // of virtual addresses; left alone they stay for 2 to 4 s
	}{
		{"main process", true, false, 1800 * time.Millisecond},
		{"adverts", false, true, 1800 * time.Millisecond},
		{"main process and adverts", true, true, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := play(t, netlab.Options{}, drill.PairOptions{}, mix, 0)
			r1, r2 := s.Lab.R1, s.Lab.R2
			child := s.status(r1).Adverts.PID
			if !gated(t, r1) {
				t.Error("r1 has no gate on its sync link")
			}
			gone := deleted(t, r1)
			at := netlab.Now()
			s.mark(at)
			if c.main && c.child { // neither is to see the other's end
				freeze(t, child)
				freeze(t, s.Process(r1).Process.Pid)
			}
			if c.child {
				sigkill(t, child)
			}
			if c.main {
				sigkill(t, s.Process(r1).Process.Pid)
			}
			if c.main && c.child && holds(t, r1) != 2 {
				t.Fatal("nothing was left behind: this case proves nothing")
			}
			s.become(r2, control.RoleActive, 10*time.Second)
			t.Logf("r2 is Active %v after the kill", netlab.Since(at))
			soleHolder(t, s.Lab, r2, 10*time.Second)
			last := at
			for range 2 { // the LAN's, the WAN's
				select {
				case last = <-gone:
				case <-time.After(answerLimit):
					t.Fatal("r1 still has virtual addresses")
				}
			}
			if took := time.Duration(last - at); took > c.limit {
				t.Errorf("r1 had virtual addresses for %v, want %v at most", took, c.limit)
			} else {
				t.Logf("r1 had virtual addresses for %v", took)
			}
			if holds(t, r1) != 0 {
				t.Error("r1 still has virtual addresses")
			}
			s.judge("kill -9")
			<-s.Process(r1).Done() // neither process goes on without the other
			eventually(t, 10*time.Second, "the gate went with its daemon", func() bool { return !gated(t, r1) })
			// And back: the first returns, and takes over by a hand-over.
			s.mark(netlab.Now())
			if err := s.Start(r1); err != nil {
				t.Fatal(err)
			}
			s.become(r1, control.RoleActive, 30*time.Second)
			s.judge("return")
			soleHolder(t, s.Lab, r1, 3*time.Second)
		})
	}
}

// A daemon that starts where one was killed a moment ago takes the addresses
// away that are left before its first advert leaves.
func TestStartCleansBeforeItSpeaks(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	r1 := p.Lab.R1
	st, err := p.AwaitRole(t.Context(), r1, control.RoleActive, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	sigkill(t, p.Process(p.Lab.R2).Process.Pid) // alone: r1 has no reason to be silent
	freeze(t, st.Adverts.PID)                   // neither is to see the other's end
	freeze(t, p.Process(r1).Process.Pid)
	sigkill(t, st.Adverts.PID)
	sigkill(t, p.Process(r1).Process.Pid)
	<-p.Process(r1).Done()
	if holds(t, r1) != 2 {
		t.Fatal("nothing was left behind: this proves nothing")
	}
	forever(t, r1)
	first := firstAdvert(t, p.Lab, r1)
	gone := deleted(t, r1)
	if err := p.Start(r1); err != nil {
		t.Fatal(err)
	}
	var deletedAt, spokeAt int64
	for deletedAt == 0 || spokeAt == 0 {
		select {
		case at := <-gone:
			if deletedAt == 0 {
				deletedAt = at
			}
		case spokeAt = <-first:
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing was taken away (%d) or said (%d) within 30 s", deletedAt, spokeAt)
		}
	}
	t.Logf("the first advert came %v after the addresses had gone", time.Duration(spokeAt-deletedAt))
	if spokeAt < deletedAt {
		t.Error("it spoke before it cleaned")
	}
}

// forever has the virtual addresses that were left behind stay: they shall go by
// the daemon, not by their lifetime.
func forever(t *testing.T, r *netlab.Router) {
	t.Helper()
	for i, a := range []netip.Prefix{netlab.LANVIP, netlab.WANVIP} {
		l, err := r.NS.Netlink().LinkByName(fmt.Sprintf("eth%d", i))
		if err != nil {
			t.Fatal(err)
		}
		const always = math.MaxUint32 // INFINITY_LIFE_TIME
		err = r.NS.Netlink().AddrReplace(l, &netlink.Addr{IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), 32)}, ValidLft: always, PreferedLft: always, Protocol: vip.Proto})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func sigkill(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatalf("kill process %d: %v", pid, err)
	}
}

// firstAdvert gives the time at which a router's first advert passes its LAN
// cable.
func firstAdvert(t *testing.T, lab *netlab.Lab, r *netlab.Router) <-chan int64 {
	t.Helper()
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 112, SkipTrue: 1},
		bpf.RetConstant{Val: 64},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := lab.Switch.PacketSocket("lan."+r.Name, prog)
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan int64, 1)
	go func() {
		defer unix.Close(fd)
		tv := unix.Timeval{Sec: 30}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		for {
			_, err := unix.Read(fd, make([]byte, 64))
			if err == unix.EINTR {
				continue
			}
			if err == nil {
				out <- netlab.Now()
			}
			return
		}
	}()
	return out
}

// deleted gives the times at which addresses are taken from a router.
func deleted(t *testing.T, r *netlab.Router) <-chan int64 {
	t.Helper()
	updates, done, out := make(chan netlink.AddrUpdate, 64), make(chan struct{}), make(chan int64, 64)
	t.Cleanup(func() { close(done) })
	if err := r.NS.Run(func() error { return netlink.AddrSubscribe(updates, done) }); err != nil {
		t.Fatal(err)
	}
	go func() {
		for u := range updates {
			if !u.NewAddr {
				out <- netlab.Now()
			}
		}
	}()
	return out
}

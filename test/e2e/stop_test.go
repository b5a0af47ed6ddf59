// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// A clean stop of the Active is a hand-over, and so is its return: not one
// packet of a flow of 100 packets per second is lost, in either direction,
// though all of 20,000 flows have to be committed on the way.
func TestStopAndReturnLoseNothing(t *testing.T) {
	const flows = 20000
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: commitAtTakeover}, load.Mix{Steady: 10, Idle: 5, Bulk: 4, UDP: 20}, flows)
	r1, r2 := s.Lab.R1, s.Lab.R2
	e := talk(t, s.Lab)
	time.Sleep(500 * time.Millisecond)

	at := netlab.Now()
	s.mark(at)
	if err := s.Stop(r1); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	t.Logf("r1 ended %v after SIGTERM", netlab.Since(at))
	if took := netlab.Since(at); took > 5*time.Second {
		t.Errorf("r1 took %v to end", took)
	}
	st := s.become(r2, control.RoleActive, 5*time.Second)
	handedOver(t, "stop", &st)
	if s.happened(r2, "released the role") {
		t.Error("stop: r1 released the role instead of handing it over")
	}
	soleHolder(t, s.Lab, r2, 5*time.Second)
	e.none(t, "stop", at)
	s.judge("stop")

	at = netlab.Now()
	s.mark(at)
	start(t, s.Pair, r1)
	st = s.become(r1, control.RoleActive, 10*time.Second)
	t.Logf("r1 is Active again %v after its start", netlab.Since(at))
	handedOver(t, "return", &st)
	time.Sleep(time.Second)
	soleHolder(t, s.Lab, r1, 5*time.Second)
	e.none(t, "return", at)
	s.judge("return")
}

// handedOver says whether the last takeover of a node was planned, with the
// commit before the addresses.
func handedOver(t *testing.T, what string, st *control.Status) {
	t.Helper()
	if st.Last == nil || !strings.Contains(st.Last.Reason, "handed over") {
		t.Errorf("%s: the takeover's record is %+v, want a hand-over", what, st.Last)
		return
	}
	t.Logf("%s: %s, %d flows, %+v", what, st.Last.Reason, st.Last.Committed, st.Last.Steps)
}

// happened says whether a router's daemon has an event with such a text.
func (s *scene) happened(r *netlab.Router, text string) (yes bool) {
	s.t.Helper()
	err := s.Client(r).Events(s.t.Context(), nil, false, func(e event.Event) error {
		yes = yes || strings.Contains(e.Text, text)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return yes
}

// A router of higher priority that returns does not preempt before its view is
// complete, however long that takes.
func TestPreemptionWaitsForTheView(t *testing.T) {
	s := play(t, netlab.Options{}, drill.PairOptions{}, load.Mix{Steady: 10, Idle: 5, UDP: 20}, 2000)
	r1, r2 := s.Lab.R1, s.Lab.R2
	if _, err := r1.PowerOff(); err != nil {
		t.Fatal(err)
	}
	s.become(r2, control.RoleActive, 5*time.Second)
	if err := r1.PowerOn(); err != nil {
		t.Fatal(err)
	}
	if err := r1.Mute(netlab.Sync); err != nil {
		t.Fatal(err)
	}
	s.mark(netlab.Now())
	if !s.load.AwaitHealthy(t.Context(), 5*time.Second) {
		t.Fatalf("connections do not talk after the power cut: %+v", s.load.Report())
	}
	s.mark(netlab.Now())
	start(t, s.Pair, r1)
	s.become(r1, control.RoleBackup, 5*time.Second)
	waited := ""
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		st := s.status(r1)
		if role := st.Sets[0].Role; role != control.RoleBackup {
			t.Fatalf("r1 is %s without a view (%s)", role, st.Sets[0].Reason)
		}
		waited = st.Sets[0].Waiting
	}
	if waited == "" {
		t.Error("r1 does not say that it waits")
	}
	at := netlab.Now()
	if err := r1.Unmute(netlab.Sync); err != nil {
		t.Fatal(err)
	}
	complete := false
	for {
		st := s.status(r1)
		if st.Sets[0].Role == control.RoleActive && st.Last != nil {
			handedOver(t, "preemption", &st)
			break
		}
		complete = len(st.Sync.Peers) > 0 && st.Sync.Peers[0].Complete
		if netlab.Since(at) > 10*time.Second {
			t.Fatalf("r1 did not preempt within 10 s of the sync link's return (view complete: %t): %+v", complete, st.Sets[0])
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Logf("r1 is Active %v after the sync link's return; it waited because %q", netlab.Since(at), waited)
	s.judge("preemption")
}

// echoes are flows of 100 packets per second through SNAT and DNAT; the far end
// sends each packet back.
type echoes struct {
	lab    *netlab.Lab
	before kernelDrops // when they began
	mu     sync.Mutex
	sent   [][]int64
	there  []arrivals // at the far end, by flow
	back   []arrivals // of echoes
}

// arrivals are the moments at which packets arrived, by number; 0: not yet. Hundreds
// of thousands are looked at while more of them come: a map would hold those up.
type arrivals []int64

func (a arrivals) at(k int) int64 {
	if k >= len(a) {
		return 0
	}
	return a[k]
}

func (a *arrivals) note(k int, at int64) {
	for len(*a) <= k {
		*a = append(*a, 0)
	}
	(*a)[k] = at
}

const (
	echoFlows  = 4 // each way
	echoPeriod = 10 * time.Millisecond
)

func talk(t *testing.T, l *netlab.Lab) *echoes { return talkOf(t, l, echoFlows) }

// talkOf is talk with so many flows each way.
func talkOf(t *testing.T, l *netlab.Lab, flows int) *echoes {
	t.Helper()
	e, stop := &echoes{lab: l, before: readDrops(t, l)}, make(chan struct{})
	var wg sync.WaitGroup
	var open []*net.UDPConn
	t.Cleanup(func() {
		close(stop)
		for _, c := range open {
			c.Close()
		}
		wg.Wait()
	})
	socket := func(at *netlab.Namespace, listen, to netip.AddrPort) *net.UDPConn {
		var c *net.UDPConn
		err := at.Run(func() (err error) {
			if to.IsValid() {
				c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
			} else {
				c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(listen))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		if raw, err := c.SyscallConn(); err == nil { // else thousands of packets/s overflow it, not the routers
			_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) })
		}
		return c
	}
	for _, p := range drill.Paths(l) {
		port := p.Port + 99
		far := socket(p.Server.(*netlab.Namespace), netip.AddrPortFrom(p.Listen, port), netip.AddrPort{})
		wg.Go(func() { e.answer(far) })
		for range flows {
			i := len(e.sent)
			e.sent, e.there, e.back = append(e.sent, nil), append(e.there, nil), append(e.back, nil)
			c := socket(p.Client.(*netlab.Namespace), netip.AddrPort{}, netip.AddrPortFrom(p.Dial, port))
			wg.Go(func() { e.hear(c) })
			wg.Go(func() { e.speak(c, i, stop) })
		}
	}
	return e
}

func (e *echoes) note(set *[]arrivals, b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	(*set)[binary.BigEndian.Uint32(b)].note(int(binary.BigEndian.Uint32(b[4:])), netlab.Now())
}

func (e *echoes) answer(c *net.UDPConn) {
	b := make([]byte, 64)
	for {
		_, from, err := c.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			e.note(&e.there, b)
			_, _ = c.WriteToUDPAddrPort(b[:8], from)
		}
	}
}

func (e *echoes) hear(c *net.UDPConn) {
	b := make([]byte, 64)
	for {
		_, err := c.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			e.note(&e.back, b)
		}
	}
}

func (e *echoes) speak(c *net.UDPConn, i int, stop chan struct{}) {
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], uint32(i))
	tick := time.NewTicker(echoPeriod)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		e.mu.Lock()
		binary.BigEndian.PutUint32(b[4:], uint32(len(e.sent[i])))
		e.sent[i] = append(e.sent[i], netlab.Now())
		e.mu.Unlock()
		_, _ = c.Write(b[:])
	}
}

// underWay is how long a packet may take before it counts as lost: where a
// million flows are adopted and copied on two processors, what makes and counts
// the packets was seen to be late by 4.7 s. A lost one never comes.
const underWay = 15 * time.Second

// none fails when a packet that left after a moment did not arrive, or its echo
// did not.
func (e *echoes) none(t *testing.T, what string, at int64) {
	t.Helper()
	enough := 50 * len(e.sent)
	for began := netlab.Now(); e.left(at) < enough && netlab.Since(began) < underWay; {
		time.Sleep(50 * time.Millisecond)
	}
	until := netlab.Now()
	for e.missing(at, until, nil) > 0 && netlab.Since(until) < underWay {
		time.Sleep(50 * time.Millisecond)
	}
	n, told := 0, 0
	var slowest, slowAt time.Duration
	lost := e.missing(at, until, func(i, k int) {
		n++
		left := time.Duration(e.sent[i][k] - at)
		if came := e.back[i].at(k); came != 0 {
			if d := time.Duration(came - e.sent[i][k]); d > slowest {
				slowest, slowAt = d, left
			}
		} else if told++; told <= 10 {
			t.Errorf("%s: flow %d lost packet %d of %d, which left %v after the signal (it reached the far end: %t)", what, i, k, len(e.sent[i]), left, e.there[i].at(k) != 0)
		}
	})
	t.Logf("%s: %d packets of %d flows counted, %d lost; the slowest took %v and left %v after the signal", what, n, len(e.sent), lost, slowest, slowAt)
	if lost > 0 {
		t.Logf("%s: dropped since these flows began: %s", what, readDrops(t, e.lab).since(e.before))
	}
	if n < enough {
		t.Errorf("%s: only %d packets were sent: this proves nothing", what, n)
	}
}

// left counts packets that left after a moment.
func (e *echoes) left(at int64) (n int) {
	e.missing(at, netlab.Now(), func(int, int) { n++ })
	return n
}

// missing counts packets without an echo among those that left between two
// moments; look sees each packet, by flow and number.
func (e *echoes) missing(at, until int64, look func(i, k int)) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.sent {
		for k, sent := range e.sent[i] {
			if sent < at || sent > until {
				continue
			}
			if e.back[i].at(k) == 0 {
				n++
			}
			if look != nil {
				look(i, k)
			}
		}
	}
	return n
}

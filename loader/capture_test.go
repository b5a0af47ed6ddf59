// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// auditsOwnPace is longer than any test: what audits find sooner they were
// hastened to.
const auditsOwnPace = 5 * time.Minute

// capture runs a Capture in the lab's router until the test ends.
func (l *lab) capture(o Options) (*Capture, *memory) {
	l.t.Helper()
	sink, _ := o.Sink.(*memory)
	if sink == nil {
		sink = newMemory()
		o.Sink = sink
	}
	o.Log, o.AuditSoon = logger(l.t), or(o.AuditSoon, auditsOwnPace)
	var c *Capture
	l.in(l.router, func() {
		var err error
		if c, err = Open(o); err != nil {
			l.t.Errorf("open capture: %v", err)
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	l.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			l.t.Errorf("run capture: %v", err)
		}
		if err := c.Close(); err != nil {
			l.t.Errorf("close capture: %v", err)
		}
	})
	select {
	case <-c.Ready():
	case <-time.After(patience):
		l.t.Fatalf("capture is not ready after %v", patience)
	}
	return c, sink
}

// modes are both ways to attach: this kernel has tcx, older ones clsact only.
var modes = []string{rungTCX, rungClsact}

func TestCaptureTellsConnection(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			l.serve(80)
			c, sink := l.capture(Options{Policy: conntrack.DefaultPolicy(), Mode: mode})
			if rung, _ := c.Mode(); rung != mode {
				t.Errorf("rung %q, want %q", rung, mode)
			}
			conn := l.dial("tcp", "10.1.0.1:80") // says nothing after its handshake
			e := sink.find(t, "ASSURED told", func(e *entry) bool { return e.flow.Status&conntrack.Assured != 0 })
			f := e.flow
			if f.Orig.Src != ip("10.1.0.2") || f.Orig.Dst != ip("10.1.0.1") || f.Orig.DstPort != 80 ||
				f.Reply.Src != ip("10.2.0.2") || f.Reply.Dst != ip("10.2.0.100") || f.Reply.SrcPort != 80 {
				t.Errorf("tuples: %+v", f)
			}
			if f.TCP.State != conntrack.TCPEstablished || f.TCP.Flags[0]&1 == 0 || f.Timeout < 400_000 || !f.SNAT() || !f.DNAT() {
				t.Errorf("content: %+v", f)
			}
			for range 5 {
				exchange(t, conn)
			}
			conn.Close()
			e = sink.find(t, "gone", func(e *entry) bool { return e.gone > 0 })
			// ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK; TIME_WAIT is gone
			if e.told < 1 || e.told > 4 {
				t.Errorf("told %d times, want 1 to 4", e.told)
			}
			if n := sink.count(); n != 1 {
				t.Errorf("%d flows told, want 1", n)
			}
		})
	}
}

// exchanges makes n over UDP and gives how often a flow of that may be told: once,
// and as ASSURED if it took the two seconds (a busy machine) that make it so.
func (l *lab) exchanges(n int, to string) (most uint64) {
	conn, begin := l.dial("udp", to), time.Now()
	for range n {
		exchange(l.t, conn)
	}
	if time.Since(begin) > 1900*time.Millisecond {
		return 2
	}
	return 1
}

func TestCaptureTellsExchangeOnceAndDeath(t *testing.T) {
	l := newLab(t)
	l.serve(80)
	c, sink := l.capture(Options{Policy: conntrack.DefaultPolicy()})
	most := l.exchanges(10, "10.1.0.1:80")
	e := sink.find(t, "UDP told", func(e *entry) bool { return e.told > 0 })
	if e.flow.Proto != unix.IPPROTO_UDP || uint64(e.told) > most {
		t.Errorf("told %d times: %+v", e.told, e.flow)
	}
	l.in(l.router, func() { run(t, "conntrack", "-D", "-p", "udp") })
	sink.find(t, "death", func(e *entry) bool { return e.died == 1 })
	if s := c.Stats(); s.Packets.Told > most || s.Packets.Full != 0 || s.Deaths == 0 {
		t.Errorf("stats: %+v", s)
	}
}

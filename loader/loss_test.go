// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// awaitAudit waits until more than n audits were made: hastened ones, since
// the pace alone would take auditsOwnPace.
func awaitAudit(t *testing.T, c *Capture, n uint64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); c.Stats().Audits <= n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no audit: %+v", c.Stats())
		}
	}
}

// TestLossHastensAudit: a full ring and a full death socket lose what packets
// and the kernel said; the audit that follows finds all of it.
func TestLossHastensAudit(t *testing.T) {
	l := newLab(t)
	f := newFlood(l)
	c, sink := l.capture(Options{Policy: conntrack.DefaultPolicy()})
	f.open(floodFlows, unix.IPPROTO_UDP, 0)

	c.reader.mu.Lock() // nobody reads
	f.send(floodFlows, func(b []byte, i int) []byte {
		sport, dport := ports2(i)
		return f.back.frame(b, unix.IPPROTO_UDP, dport, sport, 0)
	}, &f.back)
	time.Sleep(200 * time.Millisecond)
	c.reader.mu.Unlock()
	if s := c.Stats(); s.Packets.Full == 0 {
		t.Fatalf("the ring was not full: %+v", s)
	}
	awaitAudit(t, c, 1)
	awaitSink(t, c, sink, "each flow told or seeded", floodFlows*95/100, func(e *entry) bool { return e.told+e.seeded > 0 })

	audits := c.Stats().Audits
	c.reader.mu.Lock()
	l.in(l.router, func() { run(t, "conntrack", "-F") })
	time.Sleep(200 * time.Millisecond)
	c.reader.mu.Unlock()
	known := sink.having(func(e *entry) bool { return e.told+e.seeded > 0 })
	awaitSink(t, c, sink, "each flow dead", known, func(e *entry) bool { return e.died > 0 })
	if s := c.Stats(); s.LostDeaths == 0 || s.Audits <= audits || s.Missed == 0 {
		t.Errorf("the death socket was full: %+v", s)
	}
}

// awaitSink waits until so many flows of the sink are as wanted.
func awaitSink(t *testing.T, c *Capture, m *memory, what string, n int, ok func(*entry) bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); m.having(ok) < n; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: %d of %d: %+v", what, m.having(ok), n, c.Stats())
		}
	}
}

func (m *memory) having(ok func(*entry) bool) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.flows {
		if ok(e) {
			n++
		}
	}
	return n
}

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

func udpFlow(port uint16) conntrack.Flow {
	return conntrack.Flow{
		Orig:   conntrack.Tuple{Src: ip("10.9.0.1"), Dst: ip("10.9.0.2"), SrcPort: port, DstPort: 53},
		Reply:  conntrack.Tuple{Src: ip("10.9.0.2"), Dst: ip("10.9.0.1"), SrcPort: 53, DstPort: port},
		Family: conntrack.IPv4, Proto: unix.IPPROTO_UDP, Status: conntrack.Confirmed | conntrack.SeenReply, Timeout: 60,
	}
}

// TestDeathOfOlderLife: births and deaths come by two roads; the tables say
// what the sink may hear of a death for each order of events.
func TestDeathOfOlderLife(t *testing.T) {
	for _, c := range []struct {
		name     string
		tell     bool // a record of the tuple
		emptied  int  // times the death socket was seen empty since
		alive    bool // the kernel table holds the tuple
		status   conntrack.Status
		wantDied int
		wantAsk  uint64
	}{
		{name: "told long ago", tell: true, emptied: 2, alive: true, wantDied: 1},
		{name: "told just now, a younger life stands", tell: true, alive: true, wantAsk: 1},
		{name: "told just now, dead", tell: true, wantDied: 1, wantAsk: 1},
		{name: "told before the socket was empty once: its read may have begun earlier", tell: true, emptied: 1, alive: true, wantAsk: 1},
		{name: "told just now, and a younger one that is not replicated yet", tell: true, alive: true, status: conntrack.Confirmed, wantDied: 1, wantAsk: 1},
		{name: "never told", wantDied: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			onThread(t, func() {
				ns := newNS61(t)
				l := &lab{t: t, router: ns}
				l.in(ns, func() {
					table, err := conntrack.Open()
					if err != nil {
						t.Error(err)
						return
					}
					defer table.Close()
					sink := newMemory()
					r := &reader{policy: conntrack.DefaultPolicy(), sink: sink, table: table, batch: newBatch(), hz: 100}
					f := udpFlow(1)
					if c.alive {
						g := f
						if c.status != 0 {
							g.Status = c.status
						}
						ops := []conntrack.Op{{Kind: conntrack.OpCreate, Flow: g}}
						if err := table.Apply(ops); err != nil || ops[0].Err != nil {
							t.Error(err, ops[0].Err)
							return
						}
					}
					if c.tell {
						*r.batch.next() = change{flow: f, verdict: conntrack.Replicate}
						r.batch.take()
						r.flush()
					}
					for range c.emptied {
						r.batch.emptied()
					}
					death := conntrack.Death{Flow: f}
					death.Flow.Status |= conntrack.Dying
					kept, err := r.settle([]conntrack.Death{death})
					if err != nil {
						t.Error(err)
					}
					if len(kept) != c.wantDied || r.settled.Load() != c.wantAsk {
						t.Errorf("%d deaths, %d questions; want %d, %d", len(kept), r.settled.Load(), c.wantDied, c.wantAsk)
					}
				})
			})
		})
	}
}

func TestUntoldDeaths(t *testing.T) {
	r := &reader{policy: conntrack.DefaultPolicy(), sink: newMemory(), batch: newBatch()}
	young, foreign := conntrack.Death{Flow: udpFlow(2)}, conntrack.Death{Flow: udpFlow(3), PortID: 78}
	young.Flow.Status = conntrack.Confirmed
	kept, err := r.settle([]conntrack.Death{young, foreign})
	if err != nil || len(kept) != 1 || kept[0].PortID != 78 {
		t.Errorf("kept %+v, %v", kept, err)
	}
}

// TestBatchMerges: what happened to one flow within a batch is one change.
func TestBatchMerges(t *testing.T) {
	b := newBatch()
	put := func(f conntrack.Flow, v conntrack.Verdict) {
		*b.next() = change{flow: f, verdict: v}
		b.take()
	}
	one := udpFlow(1)
	put(one, conntrack.Replicate)
	put(udpFlow(2), conntrack.Replicate)
	one.Mark = 5
	put(one, conntrack.Gone)
	if len(b.changes) != 2 || b.changes[0].flow.Mark != 5 || b.changes[0].verdict != conntrack.Gone {
		t.Errorf("%d changes: %+v", len(b.changes), b.changes)
	}
	b.done()
	put(one, conntrack.Replicate)
	if len(b.changes) != 1 {
		t.Errorf("a flow of the next batch went into the former: %+v", b.changes)
	}
}

// TestNoAllocationPerRecord: the way from ring to sink.
func TestNoAllocationPerRecord(t *testing.T) {
	b := newBatch()
	f := udpFlow(1)
	for i := range 2 * batchSize { // warm
		f.Orig.SrcPort = uint16(i)
		*b.next() = change{flow: f}
		if b.take(); b.full() {
			b.done()
		}
	}
	i := uint16(0)
	if n := testing.AllocsPerRun(1000, func() {
		f.Orig.SrcPort, i = i%2000, i+1
		*b.next() = change{flow: f}
		if b.take(); b.full() {
			b.done()
		}
	}); n != 0 {
		t.Errorf("%v allocations per record", n)
	}
}

// TestAuditFindsSilentDeath: an entry that is older than the first listener
// reports no death; the audit finds it. One that nobody told is seeded.
func TestAuditFindsSilentDeath(t *testing.T) {
	l := newLab(t)
	apply := func(kind conntrack.OpKind, f conntrack.Flow) {
		l.in(l.router, func() {
			table, err := conntrack.Open()
			if err != nil {
				t.Error(err)
				return
			}
			defer table.Close()
			ops := []conntrack.Op{{Kind: kind, Flow: f}}
			if err := table.Apply(ops); err != nil || ops[0].Err != nil {
				t.Error(err, ops[0].Err)
			}
		})
	}
	silent, late := udpFlow(1), udpFlow(2)
	// Without the event extension, as before the first listener: with 2, the
	// default, a listener in any namespace of the machine counts as one.
	events := func(v string) {
		l.in(l.router, func() { run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_events="+v) })
	}
	events("0")
	apply(conntrack.OpCreate, silent)
	events("2")
	c, sink := l.capture(Options{Policy: conntrack.DefaultPolicy(), AuditSoon: 2500 * time.Millisecond})
	sink.find(t, "seed at start", func(e *entry) bool { return e.seeded > 0 })
	apply(conntrack.OpCreate, late)
	apply(conntrack.OpDelete, silent) // and nobody hastens the audit
	sink.find(t, "silent death", func(e *entry) bool { return e.seeded > 0 && e.died == 1 })
	sink.find(t, "late seed", func(e *entry) bool { return e.seeded > 0 && e.died == 0 })
	if s := c.Stats(); s.Missed != 1 || s.Audits < 2 {
		t.Errorf("stats: %+v", s)
	}
}

// TestDeletedByThousands: conntrack -D of 10,000 flows reaches the sink within
// a second, each death once. A machine that stood still gets another try.
func TestDeletedByThousands(t *testing.T) {
	l := newLab(t)
	c, sink := l.capture(Options{Policy: conntrack.DefaultPolicy()})
	const n = 10_000
	want, took := 0, time.Hour
	for try := 0; try < 3 && took > time.Second; try++ {
		l.in(l.router, func() { deleteMany(t, n) })
		want += n
		begin := time.Now()
		for sink.deaths() < want {
			if time.Since(begin) > patience {
				t.Fatalf("%d deaths, want %d: %+v", sink.deaths(), want, c.Stats())
			}
			time.Sleep(time.Millisecond)
		}
		took = time.Since(begin)
	}
	if took > time.Second {
		t.Errorf("all were there after %v", took)
	}
	time.Sleep(50 * time.Millisecond)
	if died := sink.deaths(); died != want {
		t.Errorf("%d deaths, want %d", died, want)
	}
}

// deleteMany makes flows and has conntrack -D delete them.
func deleteMany(t *testing.T, n int) {
	table, err := conntrack.Open()
	if err != nil {
		t.Error(err)
		return
	}
	defer table.Close()
	ops := make([]conntrack.Op, n)
	for i := range ops {
		ops[i] = conntrack.Op{Kind: conntrack.OpCreate, Flow: udpFlow(uint16(i + 1))}
	}
	if err := table.Apply(ops); err != nil {
		t.Error(err)
	}
	run(t, "conntrack", "-D", "-p", "udp")
}

// deaths is how many the sink was told.
func (m *memory) deaths() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.flows {
		n += e.died
	}
	return n
}

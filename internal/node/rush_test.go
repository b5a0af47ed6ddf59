// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"flag"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/benchlab"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/internal/takeover"
)

var (
	rushFlows  = flag.Int("rush.flows", 100_000, "flows of a view; at most what nf_conntrack_max lets in")
	rushRounds = flag.Int("rush.rounds", 7, "rounds, each one bare and one rush, the first of them in turn")
)

// BenchmarkRush is a takeover's commit without the takeover: committer, view and
// kernel table, beside the bare loop that writes the same flows into the same
// namespace. Run it as root, with nothing else on the machine:
//
//	go test ./internal/node -run '^$' -bench Rush -benchtime 1x
func BenchmarkRush(b *testing.B) {
	runtime.LockOSThread() // never unlocked: thread and namespace end with the benchmark
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatalf("unshare network namespace (root needed): %v", err)
	}
	table, err := conntrack.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer table.Close()
	bare, err := benchlab.OpenBare()
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	flows := placed(*rushFlows)
	p := newPair()
	for i := range flows {
		p.a.Tell(&flows[i], p.now)
	}
	for view := p.toA.Peer().View(); view.Len() < len(flows); {
		p.carry()
	}
	rush := startRush(b, p, table)
	for b.Loop() {
		measureRush(b, bare, p, flows, rush)
	}
}

// startRush runs a committer; the returned function has it write all there is.
func startRush(b *testing.B, p *pair, table *conntrack.Table) (rush func()) {
	r := &replica{node: &link.Locked{Node: p.b}, now: func() int64 { return p.now }}
	committed := make(chan struct{}, 1)
	c := takeover.NewCommitter(r, table, false, 0, func(ev takeover.Event) {
		if ev.Kind == takeover.EvCommitted {
			select {
			case committed <- struct{}{}:
			default:
			}
		}
	})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- committing{c}.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	return func() {
		c.Rush(true)
		for <-committed; r.Uncommitted() > 0; <-committed { // said once more, of the rush before
		}
		c.Rush(false)
	}
}

func measureRush(b *testing.B, bare *benchlab.Bare, p *pair, flows []conntrack.Flow, rush func()) {
	view := p.toA.Peer().View()
	rate := func(write func()) float64 {
		runtime.GC()
		start := time.Now()
		write()
		took := time.Since(start)
		if err := bare.Flush(); err != nil {
			b.Fatal(err)
		}
		return float64(len(flows)) / took.Seconds()
	}
	writeBare := func() {
		if err := bare.Create(len(flows)); err != nil {
			b.Fatal(err)
		}
	}
	var bares, rushes, ratios []float64
	rate(writeBare) // the first touches fresh memory
	for round := range *rushRounds {
		var x, y float64
		before := view.Stats().Committed
		if round%2 == 0 {
			x, y = rate(writeBare), rate(rush)
		} else {
			y, x = rate(rush), rate(writeBare)
		}
		if n := view.Stats().Committed - before; n != uint64(len(flows)) {
			b.Fatalf("%d flows were committed, want %d", n, len(flows))
		}
		bares, rushes, ratios = append(bares, x), append(rushes, y), append(ratios, y/x)
		for i := range flows { // gone with the flush
			k := flows[i].Key()
			view.Lost(&k)
		}
	}
	for unit, v := range map[string][]float64{"bare/s": bares, "rush/s": rushes, "ratio": ratios} {
		slices.Sort(v)
		b.ReportMetric(v[len(v)/2], unit)
	}
	b.Logf("%d flows, %d rounds: ratio %.3f to %.3f", len(flows), *rushRounds, ratios[0], ratios[len(ratios)-1])
}

// placed are the flows that the bare loop writes.
func placed(n int) []conntrack.Flow {
	server := conntrack.AddrFrom(netip.MustParseAddr("198.51.100.9"))
	flows := make([]conntrack.Flow, n)
	for i := range flows {
		client, public, sport, nport := benchlab.Place(i)
		c, p := conntrack.AddrFrom(netip.AddrFrom4(client)), conntrack.AddrFrom(netip.AddrFrom4(public))
		flows[i] = conntrack.Flow{
			Family: conntrack.IPv4, Proto: unix.IPPROTO_TCP, Timeout: 3600,
			Status: conntrack.SeenReply | conntrack.Assured | conntrack.Confirmed,
			Orig:   conntrack.Tuple{Src: c, Dst: server, SrcPort: sport, DstPort: 443},
			Reply:  conntrack.Tuple{Src: server, Dst: p, SrcPort: 443, DstPort: nport},
			TCP:    conntrack.TCP{State: conntrack.TCPEstablished, Flags: [2]uint8{3, 3}, Scale: [2]uint8{7, 7}},
		}
	}
	return flows
}

// SPDX-License-Identifier: Apache-2.0

// Package bench holds the kept benchmarks: figures that are measured against
// something written beside them, so that they mean the same on any machine.
package bench

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/benchlab"
	"golang.org/x/sys/unix"
)

var (
	commitFlows  = flag.Int("commit.flows", 100_000, "flows per round; nf_conntrack_max is raised for them and put back")
	commitRounds = flag.Int("commit.rounds", 5, "rounds, each one bare and one Apply, the first of them in turn")
)

// BenchmarkCommit writes SNATed IPv4 TCP ESTABLISHED flows into the kernel
// table of a namespace of its own: by Table.Apply, and by a bare loop that
// sends the same messages in batches of 300, patched from one template. Run it
// as root, with nothing else on the machine:
//
//	go test ./bench -run '^$' -bench Commit -benchtime 1x -commit.flows 500000
//
// The ratio is Apply's rate over the bare loop's of the same round; "by CPU" is
// the same from the CPU time of the thread.
func BenchmarkCommit(b *testing.B) {
	raiseMax(b, *commitFlows)
	enterNamespace(b)
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
	ops := commitOps(*commitFlows)
	for b.Loop() {
		measureCommit(b, table, bare, ops)
	}
}

func measureCommit(b *testing.B, table *conntrack.Table, bare *benchlab.Bare, ops []conntrack.Op) {
	var bares, applies, ratios, cpus []float64
	runBare := func() sample { return rate(b, bare, table, len(ops), func() error { return bare.Create(len(ops)) }) }
	runApply := func() sample { return rate(b, bare, table, len(ops), func() error { return table.Apply(ops) }) }
	runBare() // the first touches fresh slab pages
	for round := range *commitRounds {
		var x, y sample
		if round%2 == 0 {
			x, y = runBare(), runApply()
		} else {
			y, x = runApply(), runBare()
		}
		bares, applies = append(bares, x.rate), append(applies, y.rate)
		ratios, cpus = append(ratios, y.rate/x.rate), append(cpus, x.cpu/y.cpu)
	}
	for i := range ops {
		if ops[i].Err != nil {
			b.Fatalf("op %d: %v", i, ops[i].Err)
		}
	}
	fmt.Printf("commit of %d flows, %d rounds, %s\n  bare loop  %s flows/s\n  Apply      %s flows/s\n  ratio      %s\n  by CPU     %s\n",
		len(ops), *commitRounds, kernel(), spread(bares, "%.0f"), spread(applies, "%.0f"), spread(ratios, "%.3f"), spread(cpus, "%.3f"))
	b.ReportMetric(median(bares), "bare/s")
	b.ReportMetric(median(applies), "apply/s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(cpus), "cpu-ratio")
}

// sample is one commit: flows per second, and CPU seconds of its thread, which
// others on the machine disturb less.
type sample struct{ rate, cpu float64 }

// rate measures one commit into an empty table, and empties it.
func rate(b *testing.B, bare *benchlab.Bare, table *conntrack.Table, flows int, commit func() error) sample {
	b.Helper()
	runtime.GC()
	start, before := time.Now(), threadTime(b)
	err := commit()
	took, cpu := time.Since(start), threadTime(b)-before
	if err != nil {
		b.Fatal(err)
	}
	if n, _, err := table.Count(); err != nil || int(n) != flows {
		b.Fatalf("%d flows in the kernel table (%v), want %d", n, err, flows)
	}
	if err := bare.Flush(); err != nil {
		b.Fatal(err)
	}
	return sample{rate: float64(flows) / took.Seconds(), cpu: cpu.Seconds()}
}

func threadTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func commitOps(n int) []conntrack.Op {
	server := conntrack.AddrFrom(netip.MustParseAddr("198.51.100.9"))
	ops := make([]conntrack.Op, n)
	for i := range ops {
		client, public, sport, nport := benchlab.Place(i)
		c, p := conntrack.AddrFrom(netip.AddrFrom4(client)), conntrack.AddrFrom(netip.AddrFrom4(public))
		ops[i].Flow = conntrack.Flow{
			Family: conntrack.IPv4, Proto: unix.IPPROTO_TCP, Timeout: 3600,
			Status: conntrack.SeenReply | conntrack.Assured | conntrack.Confirmed,
			Orig:   conntrack.Tuple{Src: c, Dst: server, SrcPort: sport, DstPort: 443},
			Reply:  conntrack.Tuple{Src: server, Dst: p, SrcPort: 443, DstPort: nport},
			TCP:    conntrack.TCP{State: conntrack.TCPEstablished, Flags: [2]uint8{3, 3}, Scale: [2]uint8{7, 7}},
		}
	}
	return ops
}

func enterNamespace(b *testing.B) {
	runtime.LockOSThread() // never unlocked: thread and namespace end with the benchmark
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatalf("unshare network namespace (root needed): %v", err)
	}
}

const maxFile = "/proc/sys/net/netfilter/nf_conntrack_max"

// raiseMax raises the host's nf_conntrack_max to what the benchmark needs, and
// puts it back at its end or when it is interrupted, unless somebody else
// changed it meanwhile. It must be called before enterNamespace: the file is
// read-only elsewhere than in the host's own namespace.
func raiseMax(b *testing.B, flows int) {
	before, err := readMax()
	if err != nil {
		b.Fatal(err)
	}
	want := flows + flows/10
	if before >= want {
		return
	}
	if err := writeMax(want); err != nil {
		b.Fatal(err)
	}
	restore := func() error {
		now, err := readMax()
		if err == nil && now == want {
			err = writeMax(before)
		}
		return err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, unix.SIGTERM)
	// A goroutine of its own: the benchmark's thread is in another namespace
	// by then, this one's is not.
	stop, restored := make(chan struct{}), make(chan error)
	go func() {
		select {
		case <-interrupted:
			if err := restore(); err != nil {
				fmt.Fprintln(os.Stderr, "put back nf_conntrack_max:", err)
			}
			os.Exit(1)
		case <-stop:
			restored <- restore()
		}
	}()
	b.Cleanup(func() {
		signal.Stop(interrupted)
		close(stop)
		if err := <-restored; err != nil {
			b.Errorf("put back nf_conntrack_max: %v", err)
		}
	})
}

func readMax() (int, error) {
	text, err := os.ReadFile(maxFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func writeMax(n int) error { return os.WriteFile(maxFile, []byte(strconv.Itoa(n)), 0) }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func spread(v []float64, format string) string {
	return fmt.Sprintf("median "+format+" ("+format+" to "+format+")", median(v), slices.Min(v), slices.Max(v))
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("Linux %s, %d CPUs", unix.ByteSliceToString(u.Release[:]), runtime.NumCPU())
}

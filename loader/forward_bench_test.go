// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// forwardBatch is how many packets go through one router before the other's turn.
const forwardBatch = 64

// BenchmarkForward: packets of an established flow, the shortest that IPv6 and
// UDP allow (62 bytes, 66 with the check sequence), through two routers alike
// in turn, of which one has an empty program at its interfaces' TC egress, or
// the capture. A batch takes half a millisecond: what disturbs the machine meets both.
// Then the routers change places, so that what else tells them apart cancels
// out. The figures are of thread time, in which sender, both veth pairs and the
// router do all their work: one processor, no queue in between.
func BenchmarkForward(b *testing.B) {
	routes := [2]*route{newRoute(b), newRoute(b)}
	prog, err := ebpf.NewProgram(emptyTC())
	if err != nil {
		b.Fatal(err)
	}
	defer prog.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	inTurn(b, routes, 200)
	var empty, captured, bare []float64
	with := func(at func(*route) (end func())) float64 {
		var ratio [2]float64
		for i := range routes {
			end := at(routes[i])
			inTurn(b, routes, 100)
			ns := inTurn(b, routes, 1000)
			end()
			ratio[i] = ns[i] / ns[1-i]
			bare = append(bare, ns[1-i])
		}
		return math.Sqrt(ratio[0] * ratio[1])
	}
	for b.Loop() {
		empty = append(empty, with(func(r *route) func() { return r.l.atEgress(prog) }))
		captured = append(captured, with(func(r *route) func() { return r.captured() }))
	}
	b.ReportMetric(middle(bare), "bare-ns/packet")
	b.ReportMetric(middle(empty), "empty-ratio")
	b.ReportMetric(middle(captured), "ratio")
	slices.Sort(captured)
	b.ReportMetric(captured[len(captured)/10], "ratio-p10")
	b.ReportMetric(captured[len(captured)*9/10], "ratio-p90")
}

// route is a router with one established flow.
type route struct {
	*flood
	packet []byte
}

func newRoute(b *testing.B) *route {
	r := &route{flood: newFlood(newLab(b))}
	r.packet = r.forward.frame(nil, unix.IPPROTO_UDP, 1024, 2000, 0)
	back := r.back.frame(nil, unix.IPPROTO_UDP, 2000, 1024, 0)
	for range 3 {
		r.send(1, func([]byte, int) []byte { return r.packet }, &r.forward)
		r.send(1, func([]byte, int) []byte { return back }, &r.back)
	}
	return r
}

// inTurn sends n batches by each route and returns thread time per packet, in
// ns: the mean of the middle half of the batches.
func inTurn(b *testing.B, routes [2]*route, n int) (ns [2]float64) {
	before := [2]uint64{routes[0].arrived(), routes[1].arrived()}
	var took [2][]time.Duration
	for i := range 2 * n {
		r := routes[i%2]
		began := threadTime()
		for range forwardBatch {
			if err := unix.Send(r.forward.fd, r.packet, 0); err != nil && err != unix.ENOBUFS && err != unix.EINTR {
				b.Fatal(err)
			}
		}
		took[i%2] = append(took[i%2], threadTime()-began)
	}
	for i, all := range took {
		if got, sent := routes[i].arrived()-before[i], uint64(n*forwardBatch); got < sent*99/100 {
			b.Fatalf("%d of %d packets arrived", got, sent)
		}
		slices.Sort(all)
		all = all[n/4 : n*3/4]
		for _, t := range all {
			ns[i] += float64(t) / float64(len(all)*forwardBatch)
		}
	}
	return ns
}

// atEgress attaches a program to what the router sends, until end is called.
func (l *lab) atEgress(prog *ebpf.Program) (end func()) {
	var links []link.Link
	l.in(l.router, func() {
		for _, name := range []string{"in", "out"} {
			k, err := link.AttachTCX(link.TCXOptions{Interface: device(l.t, name).Attrs().Index, Program: prog, Attach: ebpf.AttachTCXEgress})
			if err != nil {
				l.t.Error(err)
				return
			}
			links = append(links, k)
		}
	})
	return func() {
		for _, k := range links {
			k.Close()
		}
	}
}

// captured runs a capture in the router until the function that it returns is
// called.
func (f *flood) captured() (end func()) {
	var c *Capture
	f.l.in(f.l.router, func() {
		var err error
		if c, err = Open(Options{Sink: newMemory(), Log: logger(f.l.t)}); err != nil {
			f.l.t.Errorf("open capture: %v", err)
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-c.Ready()
	return func() {
		stop()
		if err := <-ended; err != nil {
			f.l.t.Errorf("run capture: %v", err)
		}
		if err := c.Close(); err != nil {
			f.l.t.Errorf("close capture: %v", err)
		}
	}
}

// arrived counts what came to the server.
func (f *flood) arrived() (n uint64) {
	f.l.in(f.l.server, func() {
		if eth0 := device(f.l.t, "eth0"); eth0 != nil {
			n = eth0.Attrs().Statistics.RxPackets
		}
	})
	return n
}

func middle(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(os.NewSyscallError("clock_gettime", err))
	}
	return time.Duration(ts.Nano())
}

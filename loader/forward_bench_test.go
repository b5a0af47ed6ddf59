// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forwardPackets is how many packets one measurement forwards.
const forwardPackets = 200_000

// BenchmarkForward: packets of an established flow, the shortest that IPv6 and
// UDP allow (62 bytes, 66 with the check sequence), through a router with the
// capture and without it, in turn. The figures are of thread time, in which
// sender, both veth pairs and the router do all their work: one processor, no
// queue in between.
func BenchmarkForward(b *testing.B) {
	l := newLab(b)
	f := newFlood(l)
	there, back := f.forward.frame(nil, unix.IPPROTO_UDP, 1024, 2000, 0), f.back.frame(nil, unix.IPPROTO_UDP, 2000, 1024, 0)
	pass := func() time.Duration {
		before, began := f.arrived(), threadTime()
		for range forwardPackets {
			if err := unix.Send(f.forward.fd, there, 0); err != nil && err != unix.ENOBUFS && err != unix.EINTR {
				b.Fatal(err)
			}
		}
		took := threadTime() - began
		if n := f.arrived() - before; n < forwardPackets*99/100 {
			b.Fatalf("%d of %d packets arrived", n, forwardPackets)
		}
		return took
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 3 {
		f.send(1, func([]byte, int) []byte { return there }, &f.forward)
		f.send(1, func([]byte, int) []byte { return back }, &f.back)
	}
	pass()
	var bare, captured, ratios []float64
	one := func(capture bool) float64 {
		if capture {
			defer f.captured()()
		}
		return float64(pass()) / forwardPackets
	}
	for i := 0; b.Loop(); i++ {
		first := one(i%2 == 1)
		second := one(i%2 == 0)
		if i%2 == 1 {
			first, second = second, first
		}
		bare, captured, ratios = append(bare, first), append(captured, second), append(ratios, second/first)
	}
	slices.Sort(ratios)
	b.ReportMetric(middle(bare), "bare-ns/packet")
	b.ReportMetric(middle(captured), "ns/packet")
	b.ReportMetric(middle(ratios), "ratio")
	b.ReportMetric(ratios[len(ratios)/10], "ratio-p10")
	b.ReportMetric(ratios[len(ratios)*9/10], "ratio-p90")
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
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			f.l.t.Errorf("find eth0 of the server: %v", err)
			return
		}
		n = link.Attrs().Statistics.RxPackets
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

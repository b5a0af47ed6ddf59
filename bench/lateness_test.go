// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/config"
)

var (
	latenessFlows = flag.Int("lateness.flows", 500_000, "flows of the commit; nf_conntrack_max is raised for them and put back")
	latenessTimes = flag.Int("lateness.times", 3, "commits; from the second on every flow is replaced")
	latenessFor   = flag.Duration("lateness.for", 10*time.Second, "how long the idle and the busy phase last")
)

// TestMain makes the binary serve as `tandem adverts` and as a busy loop.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "adverts" {
		if err := adverts.Main(context.Background(), 3); err != nil {
			fmt.Fprintln(os.Stderr, "adverts:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "tick" {
		tick()
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "spin" {
		//lint:ignore SA5002 a busy loop is what it is for
		for {
		}
	}
	os.Exit(m.Run())
}

const advertInterval = 10 * time.Millisecond

// BenchmarkLateness is the lateness of adverts at 10 ms: at rest, with two
// busy processes per core and as many busy goroutines in the daemon, and while
// the daemon commits flows. "sent" is what the child counts (deadline to the
// end of its send call, upper bounds of buckets); "wire" is the distance of
// two adverts at the other end of the link, by the kernel's time, above 10 ms.
// "bare" is a process beside it that does nothing but wake every 10 ms at the
// same real-time priority: what machine and kernel take, whoever runs.
//
//	go test ./bench -run '^$' -bench Lateness -benchtime 1x -lateness.for 60s
func BenchmarkLateness(b *testing.B) {
	raiseMax(b, *latenessFlows)
	segment(b)
	table, err := conntrack.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer table.Close()
	ops := commitOps(*latenessFlows)
	p := startElection(b, oneGroup)
	defer p.Stop()
	fmt.Printf("lateness of adverts at %v, %s\n", advertInterval, kernel())
	for b.Loop() {
		phase(b, p, "at rest", func() { time.Sleep(*latenessFor) })
		phase(b, p, "busy", busy)
		phase(b, p, fmt.Sprintf("commit of %d", len(ops)), func() { commit(b, table, ops) })
	}
}

// segment is a namespace with a link, whose other end is "peer".
func segment(b *testing.B) {
	enterNamespace(b)
	for _, c := range []string{"link add eth0 type veth peer name peer", "addr add 10.0.0.2/16 dev eth0", "link set eth0 up", "link set peer up"} {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			b.Fatalf("ip %s: %v %s", c, err, out)
		}
	}
}

// commit is done by a goroutine of its own, as in the daemon.
func commit(b *testing.B, table *conntrack.Table, ops []conntrack.Op) {
	done := make(chan error)
	go func() { done <- commitAway(table, ops) }()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func commitAway(table *conntrack.Table, ops []conntrack.Op) error {
	if err := adverts.LeaveProcessor(); err != nil {
		return err
	}
	for range *latenessTimes {
		if err := table.Apply(ops); err != nil {
			return err
		}
		for i := range ops {
			ops[i].Kind = conntrack.OpReplace
		}
	}
	return nil
}

// oneGroup is at 10 ms.
var oneGroup = []config.Group{{
	Name: "LAN", Interface: "eth0", VRID: 10, Priority: 200, Version: 3, AdvertInterval: advertInterval,
	Addresses: []config.Address{{Prefix: netip.MustParsePrefix("10.0.0.1/24"), Interface: "eth0"}},
}}

// startElection returns when each of the groups is Active and has its address.
func startElection(b *testing.B, groups []config.Group) *adverts.Process {
	p, err := adverts.Start(context.Background(), adverts.Config{Groups: groups})
	if err != nil {
		b.Fatal(err)
	}
	in := make(chan struct{}, len(groups))
	go func() {
		for e := range p.Events() {
			switch e := e.(type) {
			case adverts.Ready:
				if e.RealTime != "" {
					fmt.Println("  not real-time:", e.RealTime)
				}
			case adverts.Promoting:
				p.Fenced(e.Set, e.Term)
			case adverts.AddressesIn:
				in <- struct{}{}
			case adverts.Demoting:
				p.Released(e.Set, e.Term)
			}
		}
	}()
	for i := range groups {
		select {
		case <-in:
		case <-time.After(30 * time.Second):
			b.Fatalf("%d of %d groups are Active, %d messages of the process were lost", i, len(groups), p.Status().Unsent)
		}
	}
	return p
}

// busy keeps every core busy twice over, from outside and inside the daemon.
func busy() {
	ctx, cancel := context.WithTimeout(context.Background(), *latenessFor)
	defer cancel()
	var wg sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		wg.Add(2)
		go func() {
			defer wg.Done()
			exec.CommandContext(ctx, "/proc/self/exe", "spin").Run()
		}()
		go func() {
			defer wg.Done()
			for ctx.Err() == nil {
			}
		}()
	}
	wg.Wait()
}

func phase(b *testing.B, p *adverts.Process, name string, fn func()) {
	w := listen(b)
	bare := startTick(b)
	before := p.Status().Sent
	began := time.Now()
	fn()
	took := time.Since(began)
	sent := p.Status().Sent
	gaps, idle := w.gaps(), bare()
	for i := range sent.Buckets {
		sent.Buckets[i] -= before.Buckets[i]
	}
	if sent.Count() == 0 || len(gaps) == 0 {
		b.Fatalf("%s: %d adverts sent, %d gaps heard", name, sent.Count(), len(gaps))
	}
	fmt.Printf("  %s: %d adverts in %.1f s\n    sent  p50 < %d us, p99 < %d us, p99.9 < %d us\n    wire  %s\n    bare  %s\n", name, sent.Count(), took.Seconds(),
		sent.Quantile(0.5), sent.Quantile(0.99), sent.Quantile(0.999), quantiles(gaps), strings.TrimSpace(idle))
	b.ReportMetric(float64(sent.Quantile(0.999)), strings.ReplaceAll(name, " ", "-")+"-p99.9-us")
}

// quantiles renders sorted values.
func quantiles(v []time.Duration) string {
	at := func(q float64) time.Duration { return v[min(int(q*float64(len(v))), len(v)-1)].Round(time.Microsecond) }
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, max %v", at(0.5), at(0.99), at(0.999), at(1))
}

// startTick starts the bare process; the returned function ends it and gives
// what it measured.
func startTick(b *testing.B) func() string {
	cmd := exec.Command("/proc/self/exe", "tick")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return func() string {
		in.Close()
		cmd.Wait()
		return out.String()
	}
}

// tick wakes every 10 ms until its standard input ends.
func tick() {
	debug.SetGCPercent(-1)
	var stop atomic.Bool
	go func() { os.Stdin.Read(make([]byte, 1)); stop.Store(true) }()
	runtime.LockOSThread()
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 50}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		fmt.Println(err)
	}
	late := make([]time.Duration, 0, 1<<16)
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	for next := now.Nano() + int64(advertInterval); !stop.Load(); next += int64(advertInterval) {
		until := unix.NsecToTimespec(next)
		unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &until, nil)
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
		late = append(late, time.Duration(now.Nano()-next))
	}
	slices.Sort(late)
	fmt.Println(quantiles(late))
}

// wire hears adverts at the other end of the link.
type wire struct {
	fd     int
	stamps []int64
}

func listen(b *testing.B) *wire {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_IP)))
	if err != nil {
		b.Fatal(err)
	}
	peer, err := os.ReadFile("/proc/thread-self/net/dev_snmp6/peer")
	var index int
	if err != nil {
		b.Fatal(err)
	}
	fmt.Sscanf(string(peer), "ifIndex %d", &index)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: index}); err != nil {
		b.Fatal(err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) // read when the phase is over
	return &wire{fd: fd}
}

// gaps reads what was queued: the distances above the interval, sorted.
func (w *wire) gaps() (out []time.Duration) {
	defer unix.Close(w.fd)
	buf, ctrl := make([]byte, 256), make([]byte, 64)
	for {
		n, c, _, _, err := unix.Recvmsg(w.fd, buf, ctrl, 0)
		if err != nil {
			break
		}
		if n < 20 || buf[9] != 112 || c < 32 {
			continue
		}
		w.stamps = append(w.stamps, int64(binary.NativeEndian.Uint64(ctrl[16:]))*1e9+int64(binary.NativeEndian.Uint64(ctrl[24:])))
	}
	for i := 1; i < len(w.stamps); i++ {
		out = append(out, time.Duration(w.stamps[i]-w.stamps[i-1])-advertInterval)
	}
	slices.Sort(out)
	return out
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

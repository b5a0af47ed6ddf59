// SPDX-License-Identifier: Apache-2.0

package load_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
	"golang.org/x/sys/unix"
)

func stations(t *testing.T) (*netlab.Lab, *load.Crowd) {
	t.Helper()
	lab := netlab.ForTest(t, netlab.Options{})
	// What is counted must not time out meanwhile.
	err := errors.Join(lab.R1.HoldVIPs(), lab.R1.NS.Sysctl([2]string{"net/netfilter/nf_conntrack_udp_timeout", "600"}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := drill.Stations(lab)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return lab, c
}

func tracked(t *testing.T, r *netlab.Router) int {
	t.Helper()
	text, err := r.NS.ReadSysctl("net/netfilter/nf_conntrack_count")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Every connection and every byte is accounted for at both ends, through a
// router that tracks strictly and refuses what does not fit.
func TestChurn(t *testing.T) {
	lab, c := stations(t)
	wire, err := lab.Wire()
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	for name, cfg := range map[string]load.ChurnConfig{
		"TCP, ended at once":      {Rate: 10000, Total: 5000, Words: 1},
		"TCP, living for a while": {Rate: 10000, Total: 5000, Words: 3, Life: 300 * time.Millisecond},
		"TCP, without a word":     {Rate: 10000, Total: 1000},
		"UDP":                     {UDP: true, Rate: 10000, Total: 5000, Words: 1},
		"UDP, speaking on":        {UDP: true, Rate: 10000, Total: 1000, Words: 5},
	} {
		before := tracked(t, lab.R1)
		r, err := c.Churn(t.Context(), cfg)
		t.Logf("%s: %v", name, r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := r.Whole(&cfg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := tracked(t, lab.R1) - before; n != cfg.Total {
			t.Errorf("%s: the router tracks %d more flows, want %d", name, n, cfg.Total)
		}
	}
	if s := wire.Stats(); s.RST != 0 || s.ICMPErrors != 0 {
		t.Errorf("wire: %+v", s)
	}
}

// Many are alive at once; those that nobody ends are left as they are, and a
// round of the crowd and a second churn go on beside them.
func TestChurnAlive(t *testing.T) {
	lab, c := stations(t)
	cfg := load.ChurnConfig{Rate: 20000, Total: 20000, Words: 1, Life: -1, Stamps: true}
	r, err := c.Churn(t.Context(), cfg)
	if err != nil || r.Whole(&cfg) != nil || r.Alive != 20000 || len(r.At) != 20000 {
		t.Fatalf("%v: %v, %v, %d stamps", r, err, r.Whole(&cfg), len(r.At))
	}
	if n := tracked(t, lab.R1); n != 20000 {
		t.Errorf("the router tracks %d flows", n)
	}
	stop := make(chan struct{})
	go when(t.Context(), c, func(r load.ChurnResult) bool { return r.Client.Born >= 500 && r.Client.Born < 20000 }, func() { close(stop) })
	cfg = load.ChurnConfig{Rate: 2000, Words: 1, Life: 100 * time.Millisecond, Stop: stop}
	if r, err = c.Churn(t.Context(), cfg); err != nil || r.Whole(&cfg) != nil || r.Client.Born < 500 {
		t.Errorf("until stopped: %v: %v, %v", r, err, r.Whole(&cfg))
	}
	ctx, cancel := context.WithCancel(t.Context())
	go when(ctx, c, func(r load.ChurnResult) bool { return r.Alive > 0 }, cancel)
	if r, err = c.Churn(ctx, load.ChurnConfig{Rate: 1000, Life: time.Minute}); !errors.Is(err, context.Canceled) || r.Alive == 0 {
		t.Errorf("cut off: %v: %v", r, err)
	}
}

// when calls do once what the churn has counted so far is as wanted.
func when(ctx context.Context, c *load.Crowd, so func(load.ChurnResult) bool, do func()) {
	for !so(c.ChurnSoFar()) {
		if ctx.Err() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	do()
}

// Loss is made good; a router that loses its table in the middle is noticed,
// flow by flow.
func TestChurnNoticesLoss(t *testing.T) {
	lab, c := stations(t)
	if err := lab.R1.Lose(netlab.WAN, 2); err != nil {
		t.Fatal(err)
	}
	cfg := load.ChurnConfig{Rate: 5000, Total: 2000, Words: 2, Life: 50 * time.Millisecond}
	r, err := c.Churn(t.Context(), cfg)
	t.Logf("with loss: %v", r)
	if err != nil || r.Whole(&cfg) != nil || r.Resent == 0 {
		t.Errorf("with loss: %v, %v", err, r.Whole(&cfg))
	}
	if err := lab.R1.Lose(netlab.WAN, 0); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(200*time.Millisecond, func() {
		_, _ = lab.R1.PowerOff()
		_ = lab.R2.HoldVIPs()
	})
	cfg = load.ChurnConfig{Rate: 5000, Total: 2000, Words: 1, Life: time.Second}
	if r, err = c.Churn(t.Context(), cfg); err != nil || r.Whole(&cfg) == nil || r.Moved+r.Lost == 0 {
		t.Errorf("the table was lost, and the churn is whole: %v, %v", r, err)
	}
	t.Logf("table lost: %v", r)
}

// BenchmarkChurn is what one core carries: connections made, spoken on and
// closed as fast as it goes, the router's forwarding included. "us/packet" is
// of machine time as charged to this process, "user" the generator's own part.
//
//	go test ./internal/load -run '^$' -bench Churn -benchtime 1x
func BenchmarkChurn(b *testing.B) {
	lab := netlab.ForTest(b, netlab.Options{})
	if err := lab.R1.HoldVIPs(); err != nil {
		b.Fatal(err)
	}
	c, err := drill.Stations(lab)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for _, k := range []struct {
		name string
		cfg  load.ChurnConfig
	}{
		{"TCP", load.ChurnConfig{Rate: 1_000_000, Total: 30000, Words: 1}},
		{"UDP", load.ChurnConfig{UDP: true, Rate: 1_000_000, Total: 30000, Words: 1}},
	} {
		b.Run(k.name, func(b *testing.B) {
			for b.Loop() {
				before := usage(b)
				r, err := c.Churn(b.Context(), k.cfg)
				if err != nil || r.Whole(&k.cfg) != nil {
					b.Fatalf("%v: %v", err, r.Whole(&k.cfg))
				}
				after := usage(b)
				b.Logf("%v, took %s", r, r.Took)
				us := func(t0, t1 unix.Timeval) float64 { return float64(t1.Nano()-t0.Nano()) / 1e3 / float64(r.Packets) }
				b.ReportMetric(float64(r.Client.Born)/r.Took.Seconds(), "flows/s")
				b.ReportMetric(us(before.Utime, after.Utime), "user-us/packet")
				b.ReportMetric(us(before.Utime, after.Utime)+us(before.Stime, after.Stime), "us/packet")
			}
		})
	}
}

func usage(b *testing.B) (u unix.Rusage) {
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u
}

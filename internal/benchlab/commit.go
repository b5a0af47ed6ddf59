// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// commitBench is how fast a takeover writes what it holds into the kernel
// table, when nothing was written ahead.
var commitBench = bench{
	name: "commit", about: "flows per second that a takeover writes into the kernel table, beside a bare batched loop",
	flows: 200_000, rate: 8000, most: 1 << 20,
	edit: atTakeover,
	figures: []Figure{
		{Name: "commit_s", Unit: "/s", More: true, About: "entries written per second at takeover; conntrackd: by conntrackd -c, which its notify script runs once the address is live"},
		{Name: "bare_s", Unit: "/s", More: true, About: "entries written per second by a loop that sends prepared messages in batches of 300: the same flows on the same router, without a daemon, the other router's entries still there (all routers of the lab share one hash table of the kernel); the median of three"},
		{Name: "share", Unit: "%", Aim: 95, More: true, About: "the first of the second"},
	},
	run:      runCommit,
	estimate: func(o *Options) time.Duration { return seconds(o.Flows, o.Rate) + 60*time.Second },
}

func runCommit(ctx context.Context, s *stand, sys system) (v Values, err error) {
	if _, err := s.populate(ctx, sys, 2*time.Minute); err != nil {
		return nil, err
	}
	flows, err := s.connections(s.lab.R1)
	if err != nil {
		return nil, err
	}
	v = Values{}
	var took time.Duration
	n := s.opts.Flows
	switch sys := sys.(type) {
	case *tandem:
		n, took, err = sys.takeOver(ctx)
	case *peers:
		if sys.direct {
			return v, nil // all of it is in the kernel table already
		}
		took, err = sys.commit(ctx)
	}
	if err != nil {
		return v, err
	}
	if err := sys.stop(); err != nil {
		return v, err
	}
	rate, err := s.bare(ctx, flows)
	v["commit_s"] = float64(n) / took.Seconds()
	v["bare_s"] = rate
	v["share"] = 100 * v["commit_s"] / rate
	return v, err
}

// connections are the TCP connections through SNAT in a router's kernel table,
// in the order in which the load made them.
func (s *stand) connections(r *netlab.Router) (out []bareFlow, err error) {
	err = s.tables[r].Dump(func(f *conntrack.Flow) error {
		if f.Family == conntrack.IPv4 && f.Proto == unix.IPPROTO_TCP && f.SNAT() && !f.DNAT() {
			out = append(out, bareFlow{client: [4]byte(f.Orig.Src[:4]), public: [4]byte(f.Reply.Dst[:4]), server: [4]byte(f.Orig.Dst[:4]),
				sport: f.Orig.SrcPort, nport: f.Reply.DstPort, dport: f.Orig.DstPort})
		}
		return nil
	})
	slices.SortFunc(out, func(a, b bareFlow) int {
		return cmp.Or(cmp.Compare(a.dport, b.dport), cmp.Compare(a.sport, b.sport))
	})
	return out, err
}

// bare gives the rate of the bare loop on r2, whose kernel table it empties,
// once the kernel has done what the end of the daemons gave it to do (an address
// that goes makes it walk the hash table).
func (s *stand) bare(ctx context.Context, flows []bareFlow) (rate float64, err error) {
	if err := sleep(ctx, s.opts.settle); err != nil {
		return 0, err
	}
	var rates []float64
	for range 3 {
		if err := errors.Join(s.flush(s.lab.R2), sleep(ctx, s.opts.settle/10)); err != nil {
			return 0, err
		}
		took, err := s.bareOnce(flows)
		if err != nil {
			return 0, err
		}
		rates = append(rates, float64(len(flows))/took.Seconds())
	}
	slices.Sort(rates)
	return rates[1], nil
}

func (s *stand) bareOnce(flows []bareFlow) (took time.Duration, err error) {
	err = s.lab.R2.NS.Run(func() error {
		b, err := OpenBare()
		if err != nil {
			return err
		}
		defer b.Close()
		began := time.Now()
		err = b.create(len(flows), func(i int) bareFlow { return flows[i] })
		took = time.Since(began)
		return err
	})
	return took, err
}

// powerOn brings r1 back if it is off.
func (s *stand) powerOn() error {
	r := s.lab.R1
	if !r.IsOff() {
		return nil
	}
	if err := errors.Join(s.tables[r].Close(), r.PowerOn()); err != nil {
		return err
	}
	return s.openTable(r)
}

// takeOver cuts r1's power and takes from r2's account how many flows it wrote,
// and how long that took: from the fence to the last flow.
func (t *tandem) takeOver(ctx context.Context) (n int, took time.Duration, err error) {
	if _, err := t.lab.R1.PowerOff(); err != nil {
		return 0, 0, err
	}
	// Asking the daemon disturbs it: it is asked once, at the end.
	if err := t.await(ctx, 60*time.Second, "the flows in the kernel table of r2", func() (bool, error) {
		held, err := t.entries(t.lab.R2)
		return held >= t.opts.Flows*99/100, err
	}); err != nil {
		return 0, 0, err
	}
	status, err := t.pair.Await(ctx, t.lab.R2, 60*time.Second, "wait for the takeover to end", func(s *control.Status) bool {
		return s.Last != nil && s.Last.Kind == "takeover" && stepAt(s.Last, "fence down") > 0
	})
	if err != nil {
		return 0, 0, err
	}
	up, done := stepAt(status.Last, "fence up"), stepAt(status.Last, "committed")
	if n = status.Last.Committed; n < t.opts.Flows*99/100 || done <= up {
		return 0, 0, fmt.Errorf("the takeover wrote %d of %d flows, from %.1f to %.1f ms", n, t.opts.Flows, up, done)
	}
	return n, time.Duration((done - up) * 1e6), nil
}

// stepAt is when a step of a takeover ended, in ms; 0 when it is not there.
func stepAt(t *control.Timeline, name string) float64 {
	for _, s := range t.Steps {
		if strings.HasPrefix(s.Name, name) {
			return s.AtMS
		}
	}
	return 0
}

// commit has r2's conntrackd write its external cache.
func (p *peers) commit(ctx context.Context) (took time.Duration, err error) {
	began := netlab.Now()
	if _, err := p.ask(ctx, p.lab.R2, "-c"); err != nil {
		return 0, err
	}
	err = p.await(ctx, 60*time.Second, "conntrackd to commit", func() (bool, error) {
		n, err := p.entries(p.lab.R2)
		return n >= p.opts.Flows*99/100, err
	})
	return netlab.Since(began), err
}

// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// lagBench is how long the peer does not know of a flow.
var lagBench = bench{
	name: "lag", about: "time from the packet that makes a flow worth copying until the peer has it",
	flows: 100_000, rate: 50_000, most: 1 << 20,
	figures: []Figure{
		{Name: "lag_p50", Unit: "ms", Aim: 2, About: "packet to view: from the answer's arrival at the client of a UDP flow until the peer was seen to hold as many flows; half of the flows had less"},
		{Name: "lag_p99", Unit: "ms", Aim: 5, About: "99 of 100 had less"},
		{Name: "lag_max", Unit: "ms", About: "the longest"},
		{Name: "lag_p50_least", Unit: "ms", About: "the same from when the peer was last seen to hold fewer: the truth is between the two"},
		{Name: "lag_p99_least", Unit: "ms", About: "99 of 100 had less, likewise"},
		{Name: "asked_ms", Unit: "ms", About: "how often the peer was asked, on average"},
		{Name: "reached", Unit: "/s", More: true, About: "flows per second that were made"},
	},
	run:      runLag,
	estimate: func(o *Options) time.Duration { return seconds(o.Flows, min(o.Rate, 20000)) + 40*time.Second },
}

// seen is what the peer held at some time between two, CLOCK_MONOTONIC ns.
type seen struct {
	from, to int64
	held     int
}

func runLag(ctx context.Context, s *stand, sys system) (Values, error) {
	if err := s.timeouts(ended, 120); err != nil {
		return nil, err
	}
	before, err := sys.held(ctx)
	if err != nil {
		return nil, err
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	asked := make(chan []seen, 1)
	go func() { asked <- s.ask(asking, sys, before+s.opts.Flows) }()
	cfg := load.ChurnConfig{UDP: true, Rate: s.opts.Rate, Total: s.opts.Flows, Words: 1, Stamps: true}
	r, err := s.churn(ctx, "udp", cfg)
	if err == nil {
		err = r.Whole(&cfg)
	}
	if err != nil {
		return nil, err
	}
	stopped := time.AfterFunc(20*time.Second, stop) // what is missing then never comes
	defer stopped.Stop()
	view := <-asked
	least, most, err := lagsOf(r.At, view, before)
	if err != nil {
		return nil, err
	}
	rank := func(lags []time.Duration, p int) float64 { return float64(lags[max(0, (len(lags)*p+99)/100-1)]) / 1e6 }
	return Values{
		"lag_p50": rank(most, 50), "lag_p99": rank(most, 99), "lag_max": rank(most, 100),
		"lag_p50_least": rank(least, 50), "lag_p99_least": rank(least, 99),
		"asked_ms": float64(view[len(view)-1].to-view[0].from) / 1e6 / float64(len(view)),
		"reached":  float64(r.Client.Born) / r.Births.Seconds(),
	}, nil
}

// ask watches the peer until it holds n flows.
func (s *stand) ask(ctx context.Context, sys system, n int) (out []seen) {
	for ctx.Err() == nil {
		from := netlab.Now()
		held, err := sys.held(ctx)
		if err == nil {
			out = append(out, seen{from, netlab.Now(), held})
			if held >= n {
				break
			}
		}
		_ = sleep(ctx, 2*time.Millisecond) // its end ends the loop
	}
	return out
}

// lagsOf says how long each flow was not seen, at least and at most, each
// sorted. The k-th flow that became worth copying counts as seen when the peer
// first held k more than before: copying keeps no order within a batch, and
// need not.
func lagsOf(made []int64, view []seen, before int) (least, most []time.Duration, err error) {
	var last int64 // when the peer was asked before
	for _, v := range view {
		for n := len(most); n < len(made) && n < v.held-before; n++ {
			least = append(least, max(0, time.Duration(last-made[n])))
			most = append(most, max(0, time.Duration(v.to-made[n])))
		}
		last = v.from
	}
	if len(most) < len(made) {
		return nil, nil, fmt.Errorf("of %d flows the peer never held more than %d", len(made), len(most))
	}
	slices.Sort(least)
	slices.Sort(most)
	return least, most, nil
}

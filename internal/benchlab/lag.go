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
		{Name: "asked_ms", Unit: "ms", About: "how often the peer was asked, on average: the lag of a flow may be overstated by as much"},
		{Name: "reached", Unit: "/s", More: true, About: "flows per second that were made"},
	},
	run:      runLag,
	estimate: func(o *Options) time.Duration { return seconds(o.Flows, min(o.Rate, 20000)) + 40*time.Second },
}

// seen is what the peer held at a time.
type seen struct {
	at   int64
	held int
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
	lags, err := lagsOf(r.At, view, before)
	if err != nil {
		return nil, err
	}
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	rank := func(p int) float64 { return ms(lags[max(0, (len(lags)*p+99)/100-1)]) }
	return Values{
		"lag_p50": rank(50), "lag_p99": rank(99), "lag_max": rank(100),
		"asked_ms": ms(time.Duration(view[len(view)-1].at-view[0].at)) / float64(len(view)),
		"reached":  float64(r.Client.Born) / r.Births.Seconds(),
	}, nil
}

// ask watches the peer until it holds n flows.
func (s *stand) ask(ctx context.Context, sys system, n int) (out []seen) {
	for ctx.Err() == nil {
		held, err := sys.held(ctx)
		if err == nil {
			out = append(out, seen{netlab.Now(), held})
			if held >= n {
				break
			}
		}
		_ = sleep(ctx, 2*time.Millisecond) // its end ends the loop
	}
	return out
}

// lagsOf says how long each flow was not seen, sorted. The k-th flow that became
// worth copying counts as seen when the peer first held k more than before:
// copying keeps no order within a batch, and need not.
func lagsOf(made []int64, view []seen, before int) ([]time.Duration, error) {
	lags := make([]time.Duration, 0, len(made))
	for _, v := range view {
		for len(lags) < len(made) && len(lags) < v.held-before {
			lags = append(lags, max(0, time.Duration(v.at-made[len(lags)])))
		}
	}
	if len(lags) < len(made) {
		return nil, fmt.Errorf("of %d flows the peer never held more than %d", len(made), len(lags))
	}
	slices.Sort(lags)
	return lags, nil
}

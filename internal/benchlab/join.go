// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"time"
)

// joinBench is how long a router that returns is without a full copy.
var joinBench = bench{
	name: "join", about: "time from the start of the Backup's daemons until it has all flows of the Active",
	flows: 1_000_000, rate: 8000, most: 1 << 20,
	figures: []Figure{
		{Name: "join_s", Unit: "s", Aim: 3, About: "from the start of the daemons on an empty Backup until it has every flow that the Active has"},
		{Name: "join_bytes", Unit: "B", About: "bytes on the sync link per flow meanwhile"},
		{Name: "join_us", Unit: "us", About: "machine time per flow meanwhile, of all processors, both nodes"},
	},
	run:      runJoin,
	estimate: func(o *Options) time.Duration { return seconds(o.Flows, o.Rate) + 60*time.Second },
}

func runJoin(ctx context.Context, s *stand, sys system) (Values, error) {
	if _, err := s.populate(ctx, sys, 2*time.Minute); err != nil {
		return nil, err
	}
	if err := sleep(ctx, s.opts.settle); err != nil {
		return nil, err
	}
	if err := sys.leave(); err != nil {
		return nil, err
	}
	before, err := s.read()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := sys.join(ctx); err != nil {
		return nil, err
	}
	err = s.await(ctx, 3*time.Minute, "the Backup to have every flow again", func() (bool, error) {
		held, err := sys.held(ctx)
		s.now("joining: %d of %d", held, s.opts.Flows)
		return err == nil && held >= s.opts.Flows, nil // it does not answer at once
	})
	took := time.Since(began)
	if err != nil {
		return nil, err
	}
	after, err := s.read()
	u, n := before.until(after), float64(s.opts.Flows)
	return Values{"join_s": took.Seconds(), "join_bytes": float64(u.link) / n, "join_us": float64(u.busy.Microseconds()) / n}, err
}

// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"fmt"
	"time"

	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// memoryBench is what each flow that lives costs in memory, and on the link
// when it is born.
var memoryBench = bench{
	name: "memory", about: "the daemons' memory per TCP connection through SNAT that lives",
	flows: 1_000_000, rate: 8000, most: 1 << 20,
	figures: []Figure{
		{Name: "rss_active", Unit: "B", Aim: 80, About: "resident memory of the daemon on the Active router per flow: with all of them less before the first"},
		{Name: "rss_backup", Unit: "B", Aim: 80, About: "the same on the Backup"},
		{Name: "rss_active_empty", Unit: "MB", About: "resident memory of the daemon on the Active router before the first flow"},
		{Name: "birth_bytes", Unit: "B", Aim: 30, About: "bytes on the sync link per new flow, Ethernet headers included, those of idle daemons not"},
		{Name: "idle", Unit: "%", About: "processor time of the daemons at rest, both nodes together, of one processor"},
	},
	run:      runMemory,
	estimate: func(o *Options) time.Duration { return seconds(o.Flows, o.Rate) + 40*time.Second },
}

func runMemory(ctx context.Context, s *stand, sys system) (Values, error) {
	rest, err := s.watch(ctx, s.opts.rest)
	if err != nil {
		return nil, err
	}
	empty, err := s.memory(sys)
	if err != nil {
		return nil, err
	}
	before, err := s.read()
	if err != nil {
		return nil, err
	}
	if _, err := s.populate(ctx, sys, 2*time.Minute); err != nil {
		return nil, err
	}
	after, err := s.read()
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, s.opts.settle); err != nil {
		return nil, err
	}
	full, err := s.memory(sys)
	if err != nil {
		return nil, err
	}
	n := float64(s.opts.Flows)
	return Values{
		"rss_active":       float64(full[0]-empty[0]) / n,
		"rss_backup":       float64(full[1]-empty[1]) / n,
		"rss_active_empty": float64(empty[0]) / 1e6,
		"birth_bytes":      float64(before.until(after).less(rest).link) / n,
		"idle":             rest.daemonShare(),
	}, nil
}

// memory is what the daemons have resident, r1's and r2's.
func (s *stand) memory(sys system) (m [2]int64, err error) {
	for i, r := range []*netlab.Router{s.lab.R1, s.lab.R2} {
		if m[i], err = resident(r, sys.program()); err != nil {
			return m, err
		}
	}
	return m, nil
}

// populate makes connections that stay, and waits until the peer has all of
// them.
func (s *stand) populate(ctx context.Context, sys system, limit time.Duration) (load.ChurnResult, error) {
	cfg := load.ChurnConfig{Rate: s.opts.Rate, Total: s.opts.Flows, Words: 1, Life: -1}
	r, err := s.churn(ctx, "tcp", cfg)
	if err != nil {
		return r, err
	}
	if err := r.Whole(&cfg); err != nil {
		return r, err
	}
	err = s.await(ctx, limit, "the peer to have all flows", func() (bool, error) {
		held, err := sys.held(ctx)
		s.now("the peer has %d of %d", held, cfg.Total)
		return held >= cfg.Total, err
	})
	if err != nil {
		held, heldErr := sys.held(ctx)
		return r, fmt.Errorf("%w: it has %d of %d (%v)", err, held, cfg.Total, heldErr)
	}
	return r, nil
}

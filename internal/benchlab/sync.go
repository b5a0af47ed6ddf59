// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"fmt"
	"time"

	"github.com/tandem-ha/tandem/internal/load"
)

// syncBench is what it costs to copy flows while they come and go.
var syncBench = bench{
	name: "sync", about: "machine time and bytes for each flow that comes and goes, and how many a second",
	flows: 20000, rate: 4000, most: 2_000_000, bare: true,
	figures: []Figure{
		{Name: "tcp_us", Unit: "us", About: "machine time per whole TCP connection (handshake, request, response, FINs, death in the kernel table), all processors, load and forwarding included, idle daemons not"},
		{Name: "tcp_us_beyond", Unit: "us", Aim: 12, About: "the same less that of the run without daemons in the same round: both nodes"},
		{Name: "tcp_daemon_us", Unit: "us", About: "of it, what the daemons' processes took themselves, both nodes"},
		{Name: "tcp_bytes", Unit: "B", Aim: 45, About: "bytes on the sync link per TCP connection, birth to death, Ethernet headers included, those of idle daemons not"},
		{Name: "tcp_left", Unit: "flows", About: "of the connections, how many the peer still held after all had ended"},
		{Name: "udp_us", Unit: "us", About: "machine time per UDP flow (request, response, death by timeout), as tcp_us"},
		{Name: "udp_us_beyond", Unit: "us", Aim: 3.5, About: "the same less that of the run without daemons in the same round: both nodes"},
		{Name: "udp_daemon_us", Unit: "us", About: "of it, what the daemons' processes took themselves, both nodes"},
		{Name: "udp_bytes", Unit: "B", About: "bytes on the sync link per UDP flow, birth to death"},
		{Name: "udp_left", Unit: "flows", About: "of the UDP flows, how many the peer still held after all had ended"},
		{Name: "flows_s", Unit: "/s", More: true, About: "UDP flows per second for three seconds, of which the peer held every one 5 s later: the highest rate tried that held"},
		{Name: "idle", Unit: "%", About: "processor time of the daemons at rest, both nodes together, of one processor"},
		{Name: "foreign", Unit: "%", About: "processor time that processes outside of the bench took meanwhile; it is taken off above, but disturbs"},
	},
	run: runSync,
	estimate: func(o *Options) time.Duration {
		phase := seconds(o.Flows, o.Rate) + o.Life + o.tail + 2*o.rest
		return 2*phase + o.settle + 40*time.Second
	},
}

// ended is for how many seconds the kernel remembers what has ended.
const ended = 1

func seconds(n, perSecond int) time.Duration {
	return time.Duration(float64(n) / float64(perSecond) * float64(time.Second))
}

func runSync(ctx context.Context, s *stand, sys system) (Values, error) {
	v := Values{}
	if err := sleep(ctx, s.opts.settle); err != nil {
		return v, err
	}
	for _, kind := range []struct {
		name string
		cfg  load.ChurnConfig
	}{
		{"tcp", load.ChurnConfig{Rate: s.opts.Rate, Total: s.opts.Flows, Words: 1, Life: s.opts.Life}},
		{"udp", load.ChurnConfig{Rate: s.opts.Rate, Total: s.opts.Flows, Words: 1, UDP: true}},
	} {
		if err := s.timeouts(ended, 2*ended); err != nil {
			return v, err
		}
		before, err := sys.held(ctx) // the daemons' own packets have entries too
		if err != nil {
			return v, err
		}
		rest, err := s.watch(ctx, s.opts.rest)
		if err != nil {
			return v, err
		}
		u, err := s.churnAndWatch(ctx, kind.name, kind.cfg)
		if err != nil {
			return v, err
		}
		after, err := s.watch(ctx, s.opts.rest)
		if err != nil {
			return v, err
		}
		rest = quieter(rest, after)
		u = u.less(rest)
		left, err := sys.held(ctx)
		if err != nil {
			return v, err
		}
		n := float64(s.opts.Flows)
		v[kind.name+"_us"] = float64(u.busy.Microseconds()) / n
		v["foreign"] = max(v["foreign"], 100*u.foreign.Seconds()/u.wall.Seconds())
		if sys.program() != "" {
			v["idle"] = rest.daemonShare()
			v[kind.name+"_daemon_us"] = float64(u.daemons.Microseconds()) / n
			v[kind.name+"_bytes"] = float64(u.link) / n
			v[kind.name+"_left"] = float64(max(0, left-before))
		}
	}
	rate, err := s.highest(ctx, sys)
	v["flows_s"] = rate
	return v, err
}

// churnAndWatch makes and ends flows and gives what that used. The time watched
// is the same for every system.
func (s *stand) churnAndWatch(ctx context.Context, kind string, cfg load.ChurnConfig) (u usage, err error) {
	before, err := s.read()
	if err != nil {
		return u, err
	}
	until := before.at.Add(seconds(cfg.Total, cfg.Rate) + cfg.Life + s.opts.tail)
	r, err := s.churn(ctx, kind, cfg)
	if err != nil {
		return u, err
	}
	if err := r.Whole(&cfg); err != nil {
		return u, fmt.Errorf("%s: %w", kind, err)
	}
	// Walks take time too: as many of them in every run. The last comes after all
	// have died, and leaves time for telling it.
	for walk := range 4 {
		if err := sleep(ctx, time.Until(until)/time.Duration(5-walk)); err != nil {
			return u, err
		}
		if err := s.reap(); err != nil {
			return u, err
		}
	}
	if err := sleep(ctx, time.Until(until)); err != nil {
		return u, err
	}
	after, err := s.read()
	return before.until(after), err
}

// watch measures for a time in which nothing is done.
func (s *stand) watch(ctx context.Context, d time.Duration) (u usage, err error) {
	before, err := s.read()
	if err != nil {
		return u, err
	}
	if err := sleep(ctx, d); err != nil {
		return u, err
	}
	after, err := s.read()
	return before.until(after), err
}

// churn runs a load to its end and says how far it is meanwhile.
func (s *stand) churn(ctx context.Context, kind string, cfg load.ChurnConfig) (r load.ChurnResult, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err = s.crowd.Churn(ctx, cfg)
	}()
	for {
		select {
		case <-done:
			if err != nil {
				err = fmt.Errorf("make %s flows: %w", kind, err)
			}
			return r, err
		case <-time.After(200 * time.Millisecond):
			so := s.crowd.ChurnSoFar()
			s.now("%s: %d of %d born, %d alive", kind, so.Client.Born, cfg.Total, so.Alive)
		}
	}
}

// rates are what is tried, each a quarter or so above the one before.
var rates = []int{5000, 7000, 10000, 14000, 18000, 23000, 29000, 36000, 45000, 56000, 70000}

// highest raises the rate until flows are missing at the peer, or the load
// itself does not keep up.
func (s *stand) highest(ctx context.Context, sys system) (best float64, err error) {
	if err := s.timeouts(ended, 120); err != nil {
		return 0, err
	}
	for _, rate := range rates {
		if 3*rate > 20*s.opts.Flows { // a miniature
			return best, nil
		}
		cfg := load.ChurnConfig{Rate: rate, Total: 3 * rate, Words: 1, UDP: true}
		before, err := sys.held(ctx)
		if err != nil {
			return best, err
		}
		r, err := s.churn(ctx, fmt.Sprintf("%d/s", rate), cfg)
		if err != nil {
			return best, err
		}
		got := float64(r.Client.Born) / r.Births.Seconds()
		if r.Whole(&cfg) != nil || got < 0.95*float64(rate) {
			return best, nil
		}
		if sys.program() != "" && !s.arrives(ctx, sys, before+cfg.Total) {
			return best, ctx.Err()
		}
		best = got
	}
	return best, nil
}

// arrives waits until the peer holds at least n flows.
func (s *stand) arrives(ctx context.Context, sys system, n int) bool {
	return s.await(ctx, 5*time.Second, "the peer", func() (bool, error) {
		held, err := sys.held(ctx)
		return held >= n, err
	}) == nil
}

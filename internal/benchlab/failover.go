// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

const failoverName = "failover"

// failoverBench is what endpoints lose when the Active router fails.
var failoverBench = bench{
	name: failoverName, about: "what a fault of the Active does to 1,000 UDP flows at 10 packets/s and 20 busy TCP connections, with further flows in the table",
	flows: 100_000, rate: 8000, most: 1 << 20,
	figures: []Figure{
		{Name: "gap_p50", Unit: "ms", About: "outage of a UDP flow (half of them only spoken to by the server), from the first packet lost to the first that was not: half had less. It comes in steps of 100 ms"},
		{Name: "gap_p99", Unit: "ms", About: "99 of 100 had less; a flow that never came back counts until the end of the wait"},
		{Name: "gap_max", Unit: "ms", About: "the longest"},
		{Name: "met", Unit: "flows", About: "UDP flows that lost a packet, of 1,000. One of them sends each 0.1 ms, so that of an outage below 100 ms this is the length, in tenths of a millisecond"},
		{Name: "silent", Unit: "flows", About: "UDP flows that never came back, of 1,000"},
		{Name: "broken", Unit: "conns", About: "TCP connections that were reset or stood still, of 20"},
		{Name: "silence", Unit: "ms", About: "the longest time without a packet of any flow: 10,000 a second are on their way"},
		{Name: "limit", Unit: "ms", About: "what silence should not exceed: Active_Down_Interval and 3 ms; 5 ms where the Active says that it goes"},
	},
	run: runFailover,
	estimate: func(o *Options) time.Duration {
		return seconds(o.Flows, o.Rate) + 60*time.Second + time.Duration(o.Strikes)*(10*time.Second+drill.ActiveDown(100, o.Advert))
	},
}

// runFailover strikes again and again. A pair that does not come back begins
// anew, which is its trouble.
func runFailover(ctx context.Context, s *stand, sys system) (Values, error) {
	f, err := faultOf(s.opts.Fault)
	if err != nil {
		return nil, err
	}
	if err := s.crowded(ctx, sys); err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		began := time.Now()
		v, err := s.strike(ctx, sys, f)
		if n == s.opts.Strikes || ctx.Err() != nil {
			return v, err
		}
		if err == nil {
			err = errors.Join(s.powerOn(), sys.back(ctx, f.ends))
		}
		s.part(v, time.Since(began), err)
		if err == nil {
			continue
		}
		if err := errors.Join(sys.stop(), s.powerOn(), s.empty(ctx), sys.start(ctx)); err != nil {
			return nil, err
		}
		if err := s.crowded(ctx, sys); err != nil {
			return nil, err
		}
	}
}

// crowded fills the table, and lets the daemons come to rest.
func (s *stand) crowded(ctx context.Context, sys system) error {
	if _, err := s.populate(ctx, sys, 2*time.Minute); err != nil {
		return err
	}
	return sleep(ctx, s.opts.settle)
}

// noticed is after what time without progress load.AwaitHealthy misses a flow.
const noticed = 1500 * time.Millisecond

// strike makes connections and says what became of them.
func (s *stand) strike(ctx context.Context, sys system, f *fault) (Values, error) {
	s.now("connecting")
	l, err := load.Start(drill.Paths(s.lab), load.Mix{UDP: 1000, Steady: 20})
	if err != nil {
		return nil, fmt.Errorf("make connections: %w", err)
	}
	defer l.Close()
	if err := sleep(ctx, s.opts.settle/2); err != nil { // flows younger than commit-after are not in the Backup's kernel table
		return nil, err
	}
	if !l.AwaitHealthy(ctx, 10*time.Second) {
		return nil, errors.New("connections do not talk before anything has happened")
	}
	s.now("%s", f.name)
	l.Mark(netlab.Now())
	mend, err := f.strike(ctx, s, sys)
	if mend != nil {
		defer mend()
	}
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, f.limit(&s.opts)+noticed); err != nil {
		return nil, err
	}
	l.AwaitHealthy(ctx, 2*s.opts.settle)
	r := l.Report()
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	v := Values{
		"gap_p50": ms(r.UDPGap.P50), "gap_p99": ms(r.UDPGap.P99), "gap_max": ms(r.UDPGap.Max),
		"met": float64(r.UDPGap.Some), "silent": float64(len(r.UDPSilent)), "broken": float64(len(r.TCPBroken)),
		"silence": ms(r.Silence.Length()), "limit": ms(f.limit(&s.opts)),
	}
	return v, l.Close()
}

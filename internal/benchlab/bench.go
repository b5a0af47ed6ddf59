// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Options of a run; zero means the bench's default.
type Options struct {
	Tandem  string        // path of the binary
	Out     io.Writer     // progress
	Live    bool          // Out is a terminal: the last line may be rewritten
	Compare bool          // beside keepalived and conntrackd, in both of its modes
	Modes   bool          // beside tandem with commit = "takeover"
	Runs    int           // rounds, default 3
	Flows   int           // flows of a run
	Rate    int           // flows per second
	Life    time.Duration // of a connection, bench sync; default 1 s
	Advert  time.Duration // advertise-interval, default 100 ms
	Fault   string        // of FaultNames, bench failover; default "power"
	Strikes int           // of the fault in one run, bench failover; default 1
	Freeze  time.Duration // how long fault "freeze" lasts, default 500 ms
	For     time.Duration // how long bench busy watches; default 1 min

	// How long idle daemons are watched; after the last end of life, for deaths
	// to happen and be copied; for a daemon to tidy up before it is looked at.
	rest, tail, settle time.Duration
}

const (
	defaultAdvert = 100 * time.Millisecond
	defaultFault  = "power"
	defaultFreeze = 500 * time.Millisecond
)

// bench is one thing to measure.
type bench struct {
	name     string
	about    string
	flows    int // defaults
	rate     int
	most     int                              // flows that the lab can make
	bare     bool                             // also without any daemon, to know what forwarding alone costs
	edit     func(router, toml string) string // of tandem's configuration
	figures  []Figure
	run      func(ctx context.Context, s *stand, sys system) (Values, error)
	estimate func(o *Options) time.Duration // of one run of one system
}

var benches = []*bench{&syncBench, &commitBench, &memoryBench, &lagBench, &joinBench, &failoverBench, &busyBench}

// Names lists the benches, with a sentence each.
func Names() (out [][2]string) {
	for _, b := range benches {
		out = append(out, [2]string{b.name, b.about})
	}
	return out
}

func (b *bench) fill(o Options) (Options, error) {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Runs, 3)
	set(&o.Strikes, 1)
	set(&o.Flows, b.flows)
	set(&o.Rate, b.rate)
	if o.Life == 0 {
		o.Life = time.Second
	}
	if o.Advert == 0 {
		o.Advert = defaultAdvert
	}
	if o.Fault == "" {
		o.Fault = defaultFault
	}
	if o.Freeze == 0 {
		o.Freeze = defaultFreeze
	}
	if o.For == 0 {
		o.For = time.Minute
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.rest == 0 {
		o.rest, o.tail, o.settle = 4*time.Second, 6*time.Second, 5*time.Second
	}
	switch {
	case o.Runs < 1 || o.Runs > 1000:
		return o, fmt.Errorf("%d runs: want 1 to 1000", o.Runs)
	case o.Strikes < 1 || o.Strikes > 1000 || o.Strikes > 1 && b.name != failoverName:
		return o, fmt.Errorf("%d strikes: want 1 to 1000, and of bench %s", o.Strikes, failoverName)
	case o.Flows < 100 || o.Flows > b.most:
		return o, fmt.Errorf("%d flows: want 100 to %d", o.Flows, b.most)
	case o.Rate < 100 || o.Rate > 200_000:
		return o, fmt.Errorf("%d flows/s: want 100 to 200000", o.Rate)
	case o.Life < 0 || o.Life > time.Minute:
		return o, fmt.Errorf("life of %s: want 0 to 1m", o.Life)
	case o.Freeze < 0 || o.Freeze > time.Minute:
		return o, fmt.Errorf("freeze of %s: want 0 to 1m", o.Freeze)
	case o.For < 0 || o.For > 24*time.Hour:
		return o, fmt.Errorf("watch for %s: want 0 to 24h", o.For)
	}
	_, err := faultOf(o.Fault)
	return o, err
}

// Run measures. Whatever it made is gone when it returns, also when ctx ends.
// With an error the report has what ran; trouble of the other systems is no
// error but a finding.
func Run(ctx context.Context, name string, opts Options) (*Report, error) {
	i := slices.IndexFunc(benches, func(b *bench) bool { return b.name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no bench %q", name)
	}
	b := benches[i]
	opts, err := b.fill(opts)
	if err != nil {
		return nil, err
	}
	s := &stand{opts: opts, teller: newTeller(opts.Out, opts.Live)}
	report := newReport(b, &opts)
	err = s.open()
	if err == nil {
		err = s.rounds(ctx, b, report)
	}
	s.say("taking the lab down")
	err = errors.Join(err, s.close())
	s.done()
	report.conclude()
	return report, errors.Join(err, report.trouble("tandem", bareSystem))
}

// rounds lets each system run once per round; who begins changes.
func (s *stand) rounds(ctx context.Context, b *bench, report *Report) error {
	systems := s.systems(b)
	names := make([]string, len(systems))
	for i, sys := range systems {
		names[i] = sys.name()
	}
	s.say("%s, %d rounds of %s; about %s", b.about, s.opts.Runs, strings.Join(names, ", "),
		(time.Duration(len(systems)*s.opts.Runs) * b.estimate(&s.opts)).Round(time.Second))
	for round := range s.opts.Runs {
		for i := range systems {
			sys := systems[(i+round)%len(systems)]
			s.head = fmt.Sprintf("round %d of %d, %s: ", round+1, s.opts.Runs, sys.name())
			parts := 0
			s.part = func(v Values, took time.Duration, trouble error) {
				parts++
				run := Sample{Round: round*s.opts.Strikes + parts, System: sys.name(), Took: took.Seconds(), Values: v}
				if trouble != nil {
					run.Trouble = trouble.Error()
				}
				report.Runs = append(report.Runs, run)
				which := ""
				if s.opts.Strikes > 1 {
					which = fmt.Sprintf("strike %d of %d: ", parts, s.opts.Strikes)
				}
				s.say("%s%s", which, report.brief(&run))
			}
			if err := s.once(ctx, b, sys); err != nil {
				return fmt.Errorf("%s%w", s.head, err)
			}
		}
	}
	s.head = ""
	return nil
}

// patienceFactor bounds a run: what takes longer than this many times the
// estimate, and a minute, hangs.
const patienceFactor = 4

// once runs one system once, from an empty kernel table to an empty one. What
// went wrong with the system is part of the sample; the error is of the lab, or
// an interrupt.
func (s *stand) once(ctx context.Context, b *bench, sys system) error {
	limited, cancel := context.WithTimeoutCause(ctx, patienceFactor*b.estimate(&s.opts)+time.Minute, errors.New("it takes too long"))
	defer cancel()
	began := time.Now()
	var v Values
	trouble := sys.start(limited)
	if trouble == nil {
		v, trouble = b.run(limited, s, sys)
	}
	took := time.Since(began)
	if err := context.Cause(ctx); err != nil {
		return errors.Join(err, sys.stop())
	}
	s.part(v, took, errors.Join(trouble, sys.stop()))
	return errors.Join(s.powerOn(), s.empty(ctx))
}

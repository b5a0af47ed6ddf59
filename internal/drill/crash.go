// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// CrashOptions are the figures of the crash drill; zero means the default.
type CrashOptions struct {
	Tandem   string        // path of the binary
	Out      io.Writer     // progress and result
	Interval time.Duration // of adverts, default 100 ms
	Flows    int           // further flows, default 20,000
	Mix      load.Mix      // default 50 steady, 50 idle, 20 bulk, 200 UDP
	Edit     func(router, toml string) string
	Log      func(router string) io.Writer
}

func (o *CrashOptions) defaults() {
	if o.Interval == 0 {
		o.Interval = 100 * time.Millisecond
	}
	if o.Flows == 0 {
		o.Flows = 20000
	}
	if o.Mix == (load.Mix{}) {
		o.Mix = load.Mix{Steady: 50, Idle: 50, Bulk: 20, UDP: 200}
	}
	if o.Mix.UDPPeriod == 0 {
		o.Mix.UDPPeriod = 100 * time.Millisecond
	}
}

// ErrFailed says that the drill ran to its end and something did not hold.
var ErrFailed = errors.New("the drill failed")

// GapSlack is what the p99 gap may exceed Active_Down_Interval by (issue 2).
const GapSlack = 50 * time.Millisecond

// dwell is how long a change is watched after its takeover, at least.
const dwell = 3 * time.Second

// crash is one run of the drill.
type crash struct {
	*progress
	opts    CrashOptions
	lab     *netlab.Lab
	pair    *Pair
	wire    *netlab.Wire
	load    *load.Load
	crowd   *load.Crowd
	pulse   *pulse
	changes []change
}

// Crash cuts the power of the Active router, lets it come back, and then takes
// its LAN interface down, under 120 TCP connections, 200 UDP flows and 20,000
// further flows through NAT. It returns ErrFailed when a connection broke, a
// flow stayed silent, or the gap was too long.
func Crash(ctx context.Context, opts CrashOptions) (err error) {
	opts.defaults()
	c := &crash{opts: opts, progress: newProgress(opts.Out), pulse: newPulse()}
	before, err := loaded()
	if err != nil {
		c.pulse.close()
		return fmt.Errorf("list BPF objects: %w", err)
	}
	runErr := c.run(ctx)
	c.say("taking the lab down")
	closeErr := c.close()
	left, leftErr := leftovers(before, 20*time.Second)
	for _, l := range left {
		c.say("left behind: %s", l)
	}
	if err := errors.Join(runErr, closeErr, leftErr); err != nil {
		return err
	}
	if !c.verdict(c.changes, len(left)) {
		return ErrFailed
	}
	return nil
}

func (c *crash) run(ctx context.Context) error {
	if err := c.setUp(ctx); err != nil {
		return err
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{c.powerCut, c.powerReturns, c.interfaceDown} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// setUp builds the pair and waits until it is one.
func (c *crash) setUp(ctx context.Context) (err error) {
	c.say("building two routers, a client and a server")
	if c.lab, err = netlab.New(netlab.Options{}); err != nil {
		return err
	}
	if c.wire, err = c.lab.Wire(); err != nil {
		return err
	}
	c.pair, err = NewPair(c.lab, PairOptions{Tandem: c.opts.Tandem, Interval: c.opts.Interval, Edit: c.opts.Edit, Log: c.opts.Log})
	if err != nil {
		return err
	}
	c.say("starting tandem on both")
	for _, r := range c.lab.Routers() {
		if err := c.pair.Start(r); err != nil {
			return err
		}
	}
	if err := c.pair.AwaitReady(ctx, c.lab.R1, 15*time.Second); err != nil {
		return err
	}
	c.say("r1 is Active, r2 is Backup, both views are complete")
	return nil
}

// connect makes all connections while both daemons run, and waits until they
// are at the peer.
func (c *crash) connect(ctx context.Context) (err error) {
	m := c.opts.Mix
	c.say("connecting: TCP %d talking, %d idle, %d bulk; UDP %d; through SNAT and DNAT", m.Steady, m.Idle, m.Bulk, m.UDP)
	if c.load, err = load.Start(Paths(c.lab), m); err != nil {
		return err
	}
	c.load.Mark(netlab.Now())
	if c.crowd, err = Crowd(c.lab, c.opts.Flows); err != nil {
		return err
	}
	made, err := c.crowd.Open(ctx, 15*time.Second)
	if err != nil {
		return err
	}
	c.say("further flows made by packets: %d of %d in %.1f s", made.Answered, made.Of, made.Took.Seconds())
	if made.Answered != made.Of {
		return fmt.Errorf("make further flows: %v: %v", made, made.Missing)
	}
	if !c.load.AwaitHealthy(ctx, 10*time.Second) {
		return fmt.Errorf("connections do not talk before anything has happened: %+v", c.load.Report())
	}
	n := m.Steady + m.Idle + m.Bulk + m.UDP + c.opts.Flows
	if err := c.pair.AwaitCopied(ctx, c.lab.R1, n, 15*time.Second); err != nil {
		return err
	}
	c.say("r2 has a copy of all %d", n)
	return c.settle(ctx)
}

// settle speaks on every flow once more, so that what follows starts from
// flows that live: UDP flows are ASSURED from then on.
func (c *crash) settle(ctx context.Context) error {
	select { // nf_conntrack_udp: a stream is one that lasts 2 s
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Second):
	}
	c.load.SpeakIdle(2 * time.Second)
	spoken, err := c.crowd.Exchange(ctx, 10*time.Second)
	if err != nil {
		return err
	}
	if spoken.Answered != spoken.Of {
		return fmt.Errorf("speak on further flows before anything has happened: %v: %v", spoken, spoken.Missing)
	}
	c.say("all further flows answered in %.1f s", spoken.Took.Seconds())
	return c.pair.AwaitCopied(ctx, c.lab.R1, 0, 10*time.Second)
}

func (c *crash) powerCut(ctx context.Context) error {
	ch := c.begin("power cut of the Active, r1")
	at, err := c.lab.R1.PowerOff()
	if err != nil {
		return err
	}
	return c.observe(ctx, ch, at, c.lab.R2)
}

func (c *crash) powerReturns(ctx context.Context) error {
	ch := c.begin("power of r1 returns")
	at := netlab.Now()
	c.load.Mark(at)
	if err := c.lab.R1.PowerOn(); err != nil {
		return err
	}
	if err := c.pair.Start(c.lab.R1); err != nil {
		return err
	}
	return c.observe(ctx, ch, at, c.lab.R1)
}

func (c *crash) interfaceDown(ctx context.Context) error {
	if err := c.pair.AwaitReady(ctx, c.lab.R1, 15*time.Second); err != nil {
		return err
	}
	ch := c.begin("eth0 of the Active, r1, goes down")
	at, err := c.lab.R1.LinkDown("eth0")
	if err != nil {
		return err
	}
	return c.observe(ctx, ch, at, c.lab.R2)
}

// observe waits for the takeover by a router and counts at the endpoints. A
// takeover that does not come is not an error but a failed drill: the
// endpoints say what it meant.
func (c *crash) observe(ctx context.Context, ch *change, at int64, winner *netlab.Router) error {
	ch.at, ch.winner = at, winner.Name
	if ch.title != "power of r1 returns" {
		c.load.Mark(at)
	}
	status, err := c.pair.AwaitRole(ctx, winner, control.RoleActive, 20*time.Second)
	ch.late = c.pulse.worst()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		ch.trouble = err.Error()
	} else {
		c.say("%s is Active", winner.Name)
	}
	select { // what breaks late, by a deletion or a stale window, must show too
	case <-ctx.Done():
	case <-time.After(dwell):
	}
	c.load.AwaitHealthy(ctx, 10*time.Second)
	c.load.SpeakIdle(5 * time.Second)
	if ch.crowd, err = c.crowd.Exchange(ctx, 8*time.Second); err != nil {
		return err
	}
	if s, err := c.pair.Client(winner).Status(ctx); err == nil {
		status = s
	}
	ch.finish(c.load.Report(), c.wire.Stats(), &status)
	c.changes = append(c.changes, *ch)
	c.tell(ch)
	return ctx.Err()
}

// close undoes everything, whatever had been made.
func (c *crash) close() (err error) {
	c.pulse.close()
	if c.load != nil {
		err = errors.Join(err, c.load.Close())
	}
	if c.crowd != nil {
		err = errors.Join(err, c.crowd.Close())
	}
	if c.wire != nil {
		err = errors.Join(err, c.wire.Close())
	}
	if c.pair != nil {
		err = errors.Join(err, c.pair.Close())
	}
	if c.lab != nil {
		err = errors.Join(err, c.lab.Close())
	}
	return err
}

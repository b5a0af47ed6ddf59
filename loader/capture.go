// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/wakeup"
	"github.com/tandem-ha/tandem/maps"
)

const (
	// A pause gathers what comes into windows: the longest a record waits besides
	// scheduling. A window costs both nodes some 100 us, whatever is in it, so
	// that few flows wait a little longer for each other than many.
	longPause  = 4 * time.Millisecond
	shortPause = 2 * time.Millisecond
	crowded    = 64 // records and deaths of one window that call for the short one
	// idleWait bounds a sleep that nothing wakes.
	idleWait = 200 * time.Millisecond
)

// Capture tells a Sink of every flow that the policy replicates: what packets
// show (TC egress), what ends (DESTROY events), what the kernel table holds
// (dump at start, audit). It belongs to the network namespace of the thread
// that opened it.
//
//	ring (tandem_flow)  --+
//	death socket        --+--> reader --> Sink
//	dump, audit         --+
type Capture struct {
	log     *slog.Logger
	ns      namespace
	nl      *netlink.Handle
	table   *conntrack.Table
	deaths  *conntrack.Deaths
	coll    *ebpf.Collection
	ring    *maps.Ring
	control *maps.FlowControl
	reader  *reader
	audit   *audit
	ports   *ports
	exclude func([]string)
	rung    string
	why     string // that rung
	fast    bool
	ready   chan struct{}
	waiter  *wakeup.Waiter // for the ring and the death socket
	dead    []conntrack.Death

	lostDeaths counter
	close      sync.Once
	closeErr   error
}

// Open loads the capture, listens for deaths and attaches to every selected
// interface; records wait in the ring until Run. Needs CAP_BPF, CAP_PERFMON and
// CAP_NET_ADMIN.
func Open(o Options) (*Capture, error) {
	o = o.withDefaults()
	if !slices.Contains([]string{"auto", "tc", rungTCX, rungClsact}, o.Mode) {
		return nil, fmt.Errorf("open capture: mode %q is not in this version: use \"auto\" or \"tc\"", o.Mode)
	}
	c := &Capture{log: o.Log, ready: make(chan struct{})}
	for _, step := range []func(*Options) error{c.openSockets, c.openProgram, c.openMemory, c.attach} {
		if err := step(&o); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("open capture: %w", err)
		}
	}
	return c, nil
}

// openSockets comes first: a death that is not heard is found by audits only.
func (c *Capture) openSockets(o *Options) (err error) {
	if c.ns, err = currentNamespace(); err != nil {
		return err
	}
	if c.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	if c.table, err = conntrack.Open(); err != nil {
		return err
	}
	if c.deaths, err = conntrack.ListenDeaths(); err != nil {
		return err
	}
	return c.deaths.Filter(deathFilter(&o.Policy), o.OwnPortIDs...)
}

// deathFilter gives status bits of which every flow that was told has one.
func deathFilter(p *conntrack.Policy) conntrack.Status {
	if p.TCP == conntrack.WhenNew || p.Other == conntrack.WhenNew {
		return 0
	}
	return conntrack.SeenReply | conntrack.Assured
}

func (c *Capture) openProgram(o *Options) error {
	_, limit, err := c.table.Count()
	if err != nil {
		return err
	}
	for _, fast := range []bool{true, false} {
		spec, err := flowSpec(o, limit, fast)
		if err == nil {
			c.coll, err = load(spec, "tandem_flow")
		}
		if err == nil {
			c.fast = fast
			return fillIgnore(c.coll.Maps["tandem_ignore"], o.Policy.Ignore)
		}
		if !fast {
			return err
		}
		c.log.Debug("no direct reads of kernel memory; reading by helper", "error", err)
	}
	return nil
}

func (c *Capture) openMemory(o *Options) (err error) {
	if c.ring, err = maps.OpenRing(c.coll.Maps["tandem_flows"].FD()); err != nil {
		return err
	}
	if c.control, err = maps.OpenFlowControl(c.coll.Maps[".bss"]); err != nil {
		return err
	}
	c.reader = newReader(o, c.ring, c.table)
	c.audit = newAudit(o, c.reader, c.table)
	c.waiter, err = wakeup.New(c.ring.FD(), c.deaths.FD())
	return err
}

func (c *Capture) attach(o *Options) error {
	want := o.Mode
	if want == "auto" || want == "tc" {
		want = ""
	}
	rung, why, err := chooseRung(want)
	if err != nil {
		return err
	}
	c.rung, c.why = rung, why
	h := &hook{prog: c.coll.Programs["tandem_flow"], name: "tandem_flow", egress: true, rung: rung, nl: c.nl}
	c.ports = newPorts(c.ns, c.nl, h, o.selection(o.Exclude), c.log)
	c.exclude = func(names []string) { c.ports.choose(o.selection(names)) }
	if err := c.ports.sync(); err != nil && len(c.ports.names()) == 0 {
		return err
	}
	return nil
}

func (o *Options) selection(exclude []string) selection {
	return selection{include: o.Interface, exclude: slices.Concat(exclude, o.SyncLinks)}
}

// Exclude takes the place of Options.Exclude: soon.
func (c *Capture) Exclude(interfaces []string) { c.exclude(interfaces) }

// Run reads until ctx ends or a source fails. Once only.
func (c *Capture) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	attached := c.ports.attachments() // before the first audit, and before watch adds some
	g.Go(func() error { return c.ports.watch(ctx) })
	g.Go(func() error { return c.read(ctx) })
	g.Go(func() error { return c.watchLoss(ctx, attached) })
	g.Go(func() error { return c.audit.run(ctx, func() { close(c.ready) }) })
	defer context.AfterFunc(ctx, c.waiter.Ring)()
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}

// Ready is closed once the kernel table that existed at start was read.
func (c *Capture) Ready() <-chan struct{} { return c.ready }

func (c *Capture) String() string { return "capture" }

// Mode gives the rung of the ladder (tcx, clsact) and why it is that one.
func (c *Capture) Mode() (rung, why string) { return c.rung, c.why }

// Forget makes every flow be told again with its next packet. A new Active
// calls it: entries that it wrote for its peer are its own from now on.
func (c *Capture) Forget() { c.control.Forget() }

// read drains ring and death socket. While anything comes it pauses between
// drains and nobody wakes it; when nothing came it says that it sleeps. One
// goroutine reads both, and what it tells the sink is sent before it pauses:
// a window of flows costs one wake-up.
func (c *Capture) read(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := c.readWindow()
		if err != nil {
			return err
		}
		if n > 0 {
			pause := longPause
			if n >= crowded {
				pause = shortPause
			}
			if err := c.waiter.Pause(pause); err != nil {
				return err
			}
			continue
		}
		c.control.Wait()
		if !c.ring.Pending() {
			if err := c.waiter.Wait(idleWait); err != nil {
				return fmt.Errorf("wait for flows: %w", err)
			}
		}
		c.control.Awake()
	}
	return nil
}

// readWindow takes what is there to the sink; n: how much.
func (c *Capture) readWindow() (n int, err error) {
	c.dead = c.dead[:0]
	lost, err := c.deaths.Drain(func(d *conntrack.Death) { c.dead = append(c.dead, *d) })
	if err != nil {
		return 0, err
	}
	if lost {
		c.lostDeaths.Add(1)
		c.audit.hasten()
	}
	n, err = c.reader.window(c.dead, c.deaths.Drained())
	if err != nil {
		c.log.Warn("a death could not be settled; the next audit finds it", "error", err)
		c.audit.hasten()
	}
	return n, nil
}

// watchLoss hastens the audit when packets may have told something in vain: the
// ring was full, a record was not understood, or packets passed an interface
// before the program was attached to it, the first time or again.
func (c *Capture) watchLoss(ctx context.Context, seen uint64) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		packets, err := c.packets()
		if err != nil {
			return err
		}
		if lost := packets.Full + c.reader.malformed.Load() + c.ports.attachments(); lost != seen {
			seen = lost
			c.audit.hasten()
		}
	}
}

// Close detaches and frees everything; Run has returned, or never ran.
func (c *Capture) Close() error {
	c.close.Do(func() { c.closeErr = c.closeAll() })
	return c.closeErr
}

func (c *Capture) closeAll() error {
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	if c.ports != nil {
		keep(c.ports.close())
	}
	if c.waiter != nil {
		keep(c.waiter.Close())
	}
	if c.control != nil {
		keep(c.control.Close())
	}
	if c.ring != nil {
		keep(c.ring.Close())
	}
	if c.coll != nil {
		c.coll.Close()
	}
	if c.deaths != nil {
		keep(c.deaths.Close())
	}
	if c.table != nil {
		keep(c.table.Close())
	}
	if c.nl != nil {
		c.nl.Close()
	}
	c.ns.close()
	return errors.Join(errs...)
}

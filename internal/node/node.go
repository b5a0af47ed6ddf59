// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/internal/metrics"
	"github.com/tandem-ha/tandem/internal/takeover"
	"github.com/tandem-ha/tandem/loader"
	"github.com/tandem-ha/tandem/syncproto"
)

// eventHistory is how many events a late watcher can still read.
const eventHistory = 1024

// stopLimit bounds a clean stop: the hand-over has its own, shorter limits. It
// is long only where a peer that takes over still writes its kernel table.
const stopLimit = 80 * time.Second

// task is something long-lived.
type task interface {
	Run(ctx context.Context) error
	String() string
}

// daemon holds the rooms of one run.
type daemon struct {
	cfg     *config.Config
	log     *slog.Logger
	started time.Time
	version string
	stream  *event.Stream

	tracking *tracking
	hooks    *hooksProcess
	election *election
	backend  *backend     // set before anything runs
	elector  elector      // election, or who stands in its place
	sync     *replication // nil: election without copy
	accept   acceptance
	adverts  *loader.Adverts // nil: adverts are taken from a raw socket
	tasks    []task
	undo     []func()
}

// elector decides on roles: the advert process, or another program.
type elector interface {
	takeover.Election
	Run(ctx context.Context) error
	String() string
}

// replication is all that [conntrack-sync] brings to life.
type replication struct {
	replica *replica
	links   []*link.Link // in the order of the configuration
	runner  *takeover.Runner
	commit  *takeover.Committer
	fence   *loader.Fence
	gates   map[string]linkGate // by interface
	capture *loader.Capture
	shown   *lockedTable // for questions from outside
}

// Run is the daemon. It calls ready once when everything runs, and returns
// when ctx has ended and the role was handed over or released, or when a room
// failed. It runs in the network namespace of the process.
func Run(ctx context.Context, cfg *config.Config, version string, log *slog.Logger, ready func()) error {
	// The capture and each link block in system calls while flows come (see
	// package wakeup): the others need processors of Go's beside those.
	blocking := 1
	if cfg.Sync != nil {
		blocking += len(cfg.Sync.Links)
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + blocking)
	d := &daemon{cfg: cfg, log: log, started: time.Now(), version: version, stream: event.New(eventHistory)}
	defer d.close()
	if err := d.open(); err != nil {
		return err
	}
	return d.run(ctx, ready)
}

func (d *daemon) close() {
	for i := len(d.undo) - 1; i >= 0; i-- {
		d.undo[i]()
	}
}

// undoing remembers how to take something back.
func (d *daemon) undoing(fn func() error) {
	d.undo = append(d.undo, func() {
		if err := fn(); err != nil && !errors.Is(err, os.ErrClosed) {
			d.log.Warn("undo", "error", err)
		}
	})
}

// open opens every room; nothing runs and nothing speaks yet.
func (d *daemon) open() error {
	d.tracking = newTracking(d.cfg, d.stream, d.log)
	if err := d.tracking.open(); err != nil {
		return err
	}
	d.election = newElection(followed(d.cfg), d.stream, d.log)
	d.election.priorities = d.tracking.priorities
	d.elector = d.election
	if d.external() {
		d.elector = newExternal(d.election, func() bool { return movedHere(d.cfg) })
	}
	if d.cfg.Sync != nil {
		if err := d.openReplication(); err != nil {
			return err
		}
	}
	if err := d.openAccept(); err != nil {
		return err
	}
	b := newBackend(d)
	d.backend = b
	d.tasks = append(d.tasks, control.NewServer(d.cfg.Control.Socket, b, d.log), b.watch, d.tracking)
	d.hooks = &hooksProcess{config: d.tracking, again: make(chan struct{}, 1), stream: d.stream, log: d.log}
	d.tasks = append(d.tasks, d.hooks)
	if listen := d.cfg.Metrics.Listen; len(listen) > 0 {
		d.tasks = append(d.tasks, metrics.NewServer(listen, b, d.log))
	}
	return nil
}

// config is the configuration in force. What cannot change while the daemon runs
// is the same in cfg.
func (d *daemon) config() *config.Config { return d.tracking.config() }

// external says whether another program elects.
func (d *daemon) external() bool { return d.cfg.Sync != nil && d.cfg.Sync.External }

// followed is the set whose role the replication follows, "" for none.
func followed(cfg *config.Config) string {
	switch {
	case cfg.Sync == nil:
		return ""
	case cfg.Sync.External:
		return externalSet
	case cfg.Sync.SyncGroup != "":
		return cfg.Sync.SyncGroup
	}
	return cfg.Sync.Group
}

func (d *daemon) openReplication() error {
	kernel, err := d.openTable()
	if err != nil {
		return err
	}
	shown, err := d.openTable()
	if err != nil {
		return err
	}
	fence, err := loader.OpenFence(d.log)
	if err != nil {
		return err
	}
	d.undoing(fence.Close)
	r := &replication{fence: fence, gates: map[string]linkGate{}, shown: &lockedTable{t: shown}}
	d.sync = r
	r.replica = &replica{node: d.newNode(), sends: map[*syncproto.Peer]bool{}, now: monotonic, stream: d.stream, log: d.log}
	d.openTakeover(r, kernel)
	d.openLinks(r)
	// Before the first datagram and the first dump, not only when the task runs.
	if err := (&localAddresses{d: d}).apply(); err != nil {
		return err
	}
	return d.openCapture(r, kernel.PortID())
}

func (d *daemon) openTable() (*conntrack.Table, error) {
	t, err := conntrack.Open()
	if err != nil {
		return nil, fmt.Errorf("open the kernel table: %w", err)
	}
	d.undoing(t.Close)
	return t, nil
}

func (d *daemon) newNode() *link.Locked {
	cfg := syncproto.Config{Policy: d.cfg.Sync.Policy, Name: d.cfg.Node.Name, BootID: bootID(), NetNS: netnsCookie(),
		Rand: crand.Reader, HoldDeath: d.holdDeath(), Seeding: true, Heartbeat: d.heartbeat(), Rate: d.cfg.Sync.Rate, BatchWindow: -1}
	return &link.Locked{Node: syncproto.New(cfg)}
}

// holdDeath is one Active_Down_Interval of the slowest followed group: as long
// as it takes to learn that the role is lost. Another election has its own; 4 s
// are that of adverts of 1 s.
func (d *daemon) holdDeath() (hold time.Duration) {
	if d.external() {
		return 4 * time.Second
	}
	for _, g := range d.config().VRRP.Groups {
		hold = max(hold, 4*g.AdvertInterval)
	}
	return hold
}

func (d *daemon) openTakeover(r *replication, kernel *conntrack.Table) {
	r.runner = takeover.NewRunner(takeover.Config{
		Name:     d.cfg.Node.Name,
		Set:      d.election.followed,
		External: d.external(),
		Timing:   takeover.Timing{FenceLimit: d.cfg.Sync.FenceLimit, Alone: d.alone()},
		Epoch:    func() uint32 { return rand.Uint32() | 1 },
		Now:      monotonic,
		Election: d.elector,
		Fence:    r.fence,
		Replica:  r.replica,
		Lenient:  (&windows{log: d.log}).lenient,
		Note: func(s string) {
			d.stream.Publish(event.Event{Kind: event.Takeover, Subject: d.election.followed, Text: s})
		},
		Evidence: func() []string { return d.backend.evidence() },
		Log:      d.log,
	})
	r.commit = takeover.NewCommitter(r.replica, kernel, d.cfg.Sync.Commit == config.CommitContinuous,
		d.cfg.Sync.CommitAfter, r.runner.Post)
	r.runner.SetCommitter(r.commit)
	r.replica.post, r.replica.commit, d.election.runner = r.runner.Post, r.commit, r.runner
	d.tasks = append(d.tasks, r.runner, committing{r.commit}, &sending{d: d})
}

func (d *daemon) openCapture(r *replication, port uint32) error {
	capture, err := loader.Open(loader.Options{
		Policy: d.cfg.Sync.Policy, Mode: d.cfg.Capture.Mode, Interface: d.cfg.Capture.Interface,
		Exclude: captureExclude(d.cfg), SyncLinks: d.linkInterfaces(),
		Sink: sink{r.replica}, Log: d.log, OwnPortIDs: []uint32{port},
	})
	if err != nil {
		return err
	}
	d.undoing(capture.Close)
	r.capture, r.replica.forget = capture, capture.Forget
	d.tasks = append(d.tasks, capture, seeding{capture, r.replica})
	return nil
}

// run starts the rooms, and the election last: a node speaks when it is whole.
func (d *daemon) run(ctx context.Context, ready func()) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g, work := errgroup.WithContext(work)
	if !d.external() { // until the child says otherwise: peers are heard before there is one
		d.election.forward(d.election.followed, takeover.Event{Kind: takeover.EvFault, On: true})
	}
	for _, t := range d.tasks {
		g.Go(func() error { return named(t, t.Run(work)) })
	}
	g.Go(func() error {
		defer cancel()
		return d.elect(ctx, work, ready)
	})
	return g.Wait()
}

// elect runs the election from the moment the rooms are ready until it ended.
func (d *daemon) elect(ctx, work context.Context, ready func()) error {
	for _, t := range d.tasks {
		r, ok := t.(interface{ Ready() <-chan struct{} })
		if !ok {
			continue
		}
		select {
		case <-r.Ready():
		case <-work.Done():
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	if !d.external() {
		if err := d.startAdverts(work); err != nil {
			return err
		}
	}
	ready()
	d.stream.Publish(event.Event{Kind: event.Daemon, Text: "started"})
	stop := context.AfterFunc(ctx, d.stop)
	defer stop()
	return named(d.elector, d.elector.Run(work))
}

func (d *daemon) startAdverts(work context.Context) error {
	cfg := adverts.Config{Groups: d.cfg.VRRP.Groups, SyncGroups: d.cfg.VRRP.SyncGroups,
		StartupDelay: d.cfg.VRRP.StartupDelay, GatePreempt: d.sync != nil, Tracked: d.tracking.begin(), Log: d.log}
	if d.sync != nil {
		cfg.SecondPath, cfg.Vouched = secondPaths[d.cfg.Sync.SecondPath], d.election.followed
	}
	if d.cfg.Capture.Advert != "socket" {
		ring, err := d.openRing()
		switch {
		case err == nil:
			defer ring.Close() // the child has its own
			cfg.Ring = ring
		case d.cfg.Capture.Advert == "tc":
			return err
		default:
			d.log.Warn("adverts are taken from a raw socket", "reason", err)
		}
	}
	proc, err := adverts.Start(work, cfg)
	if err != nil {
		return err
	}
	d.election.mu.Lock()
	d.election.proc = proc
	d.election.mu.Unlock()
	d.tracking.attach(proc)
	if d.sync != nil {
		d.sync.replica.startVouching(proc.Vouch)
	}
	return nil
}

func (d *daemon) openRing() (*os.File, error) {
	a, err := loader.OpenAdverts(loader.AdvertOptions{Interfaces: advertInterfaces(d.cfg), XDP: d.cfg.Capture.Advert == "xdp", Log: d.log})
	if err != nil {
		d.election.reception.bySocket(err)
		return nil, err
	}
	d.undoing(a.Close)
	d.adverts = a
	d.election.reception.by(a)
	return a.Ring()
}

// stop asks for a clean end: a hand-over where there is a peer that can take
// over, else a release. A second limit catches what neither can.
func (d *daemon) stop() {
	d.election.stopping.Store(true)
	d.stream.Publish(event.Event{Kind: event.Daemon, Text: "stopping"})
	if d.sync == nil {
		d.elector.Stop()
		return
	}
	d.sync.runner.Post(takeover.Event{Kind: takeover.EvStop})
	time.AfterFunc(stopLimit, d.elector.Stop)
}

// committing runs the committer where it does not hold up the election.
type committing struct{ *takeover.Committer }

func (c committing) Run(ctx context.Context) error {
	if err := adverts.LeaveProcessor(); err != nil {
		return err
	}
	return c.Committer.Run(ctx)
}

func named(t interface{ String() string }, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", t, err)
}

func advertInterfaces(cfg *config.Config) (out []string) {
	seen := map[string]bool{}
	for _, g := range cfg.VRRP.Groups {
		if !g.Disable && !seen[g.Interface] {
			seen[g.Interface] = true
			out = append(out, g.Interface)
		}
	}
	return out
}

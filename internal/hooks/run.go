// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/track"
)

const (
	sayEvery = 2 * time.Second        // the daemon hears that we live
	again    = 300 * time.Millisecond // from one try to reach the daemon to the next
	goneFor  = time.Second            // so long a daemon may not answer, before it counts as gone

	startLimit = 10 * time.Second // so long a child waits for the daemon that started it
)

// daemon is what is needed of the daemon (control.Client).
type daemon interface {
	Events(ctx context.Context, after *uint64, follow bool, fn func(event.Event) error) error
	Hooks(ctx context.Context, word control.HooksWord) (control.HooksAnswer, error)
}

// Runner is the process.
type Runner struct {
	daemon daemon
	child  bool // it ends with the daemon that started it
	log    *slog.Logger
	plan   *planner
	checks *checks
	exec   func(ctx context.Context, j job) error
	say    chan struct{} // something changed

	mu       sync.Mutex
	queue    []job
	more     chan struct{}
	done     uint64    // the last event whose scripts have run
	daemonOf time.Time // whose number that is

	// Of the goroutine that follows.
	whom time.Time // the daemon's start; zero: none was reached yet
	seen uint64    // the last event that was queued
	gap  bool      // events were missed: only a snapshot helps
}

// New makes a Runner. With child it ends when the daemon does; else it waits for
// the next one.
func New(cfg *config.Config, child bool, log *slog.Logger) *Runner {
	r := &Runner{daemon: control.NewClient(cfg.Control.Socket), child: child, log: log, plan: newPlanner(cfg),
		say: make(chan struct{}, 1), more: make(chan struct{}, 1)}
	r.checks = newChecks(probesOf(cfg), func() { kick(r.say) }, log)
	r.exec = func(ctx context.Context, j job) error {
		p := track.Program{Argv: j.argv, Env: j.env, User: cfg.Hooks.User, Timeout: cfg.Hooks.Timeout}
		return p.Run(ctx)
	}
	return r
}

// kick wakes whoever reads the channel, now or when it comes to it.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run follows the daemon until ctx ends, or, a child, until the daemon has
// ended and the scripts for that have run.
func (r *Runner) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	var helpers, scripts sync.WaitGroup
	for i := range r.checks.probes {
		helpers.Go(func() { r.checks.run(work, i) })
	}
	helpers.Go(func() { r.tell(work) })
	ended := make(chan struct{})
	scripts.Go(func() { r.work(work, ended) })
	err := r.follow(work)
	close(ended)
	scripts.Wait()
	if work.Err() == nil {
		_, _ = r.daemon.Hooks(work, r.word()) // whoever comes next goes on from there
	}
	cancel()
	helpers.Wait()
	return err
}

// tell says to the daemon what is known. An error is the follower's to notice.
func (r *Runner) tell(ctx context.Context) {
	tick := time.NewTicker(sayEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.say:
		}
		if _, err := r.daemon.Hooks(ctx, r.word()); err != nil {
			r.log.Debug("tell the daemon", "error", err)
		}
	}
}

func (r *Runner) word() control.HooksWord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return control.HooksWord{PID: os.Getpid(), Checks: r.checks.now(), Done: r.done, Daemon: r.daemonOf}
}

// errGap has the follower begin again with a snapshot.
var errGap = errors.New("events are missing")

// errReload ends the process, for another one to begin with what the file says
// now.
var errReload = errors.New("the configuration was read again")

// errOther ends a child without a word: its daemon was started again, and that
// one has a child of its own.
var errOther = errors.New("another daemon is here")

// follow queues scripts as events come.
func (r *Runner) follow(ctx context.Context) error {
	heard := time.Now() // the daemon, last
	for {
		reached, err := r.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if reached {
			heard = time.Now()
		}
		if errors.Is(err, errOther) || errors.Is(err, errReload) {
			return nil
		}
		if errors.Is(err, errGap) {
			r.gap = true
			continue
		}
		known := !r.whom.IsZero()
		if known && (err == nil || time.Since(heard) > goneFor) { // a stream ends in good order only when the daemon does
			r.log.Info("the daemon has ended")
			r.push(r.plan.gone())
			r.whom = time.Time{}
			if r.child {
				return nil
			}
		}
		if !known && r.child && time.Since(heard) > startLimit {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
	}
}

// watch reads the daemon's stream to its end. What it goes on from: the events
// after the last one that this process saw; or after the last one whose scripts
// a former hooks process ran to their end; or how things are.
func (r *Runner) watch(ctx context.Context) (reached bool, err error) {
	a, err := r.daemon.Hooks(ctx, r.word())
	if err != nil {
		return false, err
	}
	if r.child && !r.whom.IsZero() && !a.Started.Equal(r.whom) {
		return true, errOther
	}
	var after *uint64
	switch {
	case r.gap:
		r.gap = false
	case a.Started.Equal(r.whom):
		after = &r.seen
	case a.Done != 0 && r.whom.IsZero() && r.fresh():
		after = &a.Done
	}
	if !a.Started.Equal(r.whom) {
		r.whom, r.seen = a.Started, a.Done
		r.mu.Lock()
		r.done, r.daemonOf = a.Done, a.Started
		r.mu.Unlock()
	}
	return true, r.daemon.Events(ctx, after, true, r.event)
}

// fresh: no script ran yet, so this process knows no state.
func (r *Runner) fresh() bool {
	for _, s := range r.plan.sets {
		if s.ran != "" {
			return false
		}
	}
	return true
}

func (r *Runner) event(e event.Event) error {
	if e.Seq == 0 { // the stream's own word: this reader was too slow
		return errGap
	}
	reload := e.Kind == event.Daemon && e.Subject == event.Configuration && !e.Snapshot
	jobs := r.plan.take(&e)
	r.seen = e.Seq
	if e.Kind == event.Role || len(jobs) > 0 || reload {
		jobs = append(jobs, job{seq: e.Seq})
	}
	r.push(jobs)
	if reload {
		return errReload
	}
	return nil
}

func (r *Runner) push(jobs []job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, jobs...)
	kick(r.more)
}

// work runs scripts one after the other, in the order of their events, until
// ended is closed and the queue is empty.
func (r *Runner) work(ctx context.Context, ended <-chan struct{}) {
	for {
		r.mu.Lock()
		var j *job
		if len(r.queue) > 0 {
			j = &r.queue[0]
			r.queue = r.queue[1:]
		}
		r.mu.Unlock()
		if j != nil {
			r.do(ctx, *j)
			continue
		}
		select {
		case <-r.more:
			continue
		default:
		}
		select {
		case <-ctx.Done():
			return
		case <-r.more:
		case <-ended:
			return
		}
	}
}

func (r *Runner) do(ctx context.Context, j job) {
	if j.argv == nil {
		r.mu.Lock()
		r.done = max(r.done, j.seq)
		r.mu.Unlock()
		kick(r.say)
		return
	}
	began := time.Now()
	err := r.exec(ctx, j)
	took := time.Since(began).Round(time.Millisecond)
	if err != nil {
		r.log.Warn("transition script", "name", j.name, "state", string(j.state), "script", j.argv[0], "took", took, "error", err)
		return
	}
	r.log.Info("transition script", "name", j.name, "state", string(j.state), "script", j.argv[0], "took", took)
}

// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"errors"
)

// Step is one moment of a command, nanoseconds of CLOCK_MONOTONIC.
type Step struct {
	Name string
	At   int64
}

// Outcome is what came of a command.
type Outcome struct {
	Active  string // who has the role, "" when this node does not know
	Already bool   // it was so before
	Text    string
	Began   int64
	Steps   []Step
}

// waiter is a command that waits for its outcome.
type waiter struct {
	out  Outcome
	done chan error
}

// Switchover has the machine exchange roles with a peer and waits for the
// outcome; an error is a refusal. to names who is to be Active, "" anybody.
func (r *Runner) Switchover(ctx context.Context, to string, force bool) (Outcome, error) {
	return r.command(ctx, Event{Kind: EvSwitchover, Name: to, On: force})
}

// Takeover and Yield are another election's words.
func (r *Runner) Takeover(ctx context.Context, cause string) (Outcome, error) {
	return r.command(ctx, Event{Kind: EvTakeover, Cause: cause})
}

// Resume is Takeover where the addresses were when this process started.
func (r *Runner) Resume(ctx context.Context, cause string) (Outcome, error) {
	return r.command(ctx, Event{Kind: EvTakeover, Cause: cause, On: true})
}

// Yield returns when the release is out.
func (r *Runner) Yield(ctx context.Context, cause string) (Outcome, error) {
	return r.command(ctx, Event{Kind: EvYield, Cause: cause})
}

var errGone = errors.New("the daemon ended meanwhile")

func (r *Runner) command(ctx context.Context, ev Event) (Outcome, error) {
	w := &waiter{done: make(chan error, 1)}
	w.out.Began = r.cfg.Now()
	r.mu.Lock()
	r.orders++
	ev.Order = r.orders
	r.waiters[ev.Order] = w
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiters, ev.Order)
	}()
	select {
	case r.events <- ev:
	case <-ctx.Done():
		return Outcome{}, errGone
	}
	select {
	case err := <-w.done:
		return w.out, err
	case <-ctx.Done():
		return Outcome{}, errGone
	}
}

// answer ends a command; the waiter's record is complete then.
func (r *Runner) answer(a Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.waiters[a.Order]
	if w == nil {
		return // whoever asked has gone
	}
	delete(r.waiters, a.Order)
	if !a.On {
		w.done <- errors.New(a.Note)
		return
	}
	w.out.Active, w.out.Already, w.out.Text = a.Active, a.Already, a.Note
	if where := r.machine.where(); !a.Already && where != "" {
		w.mark(where, r.cfg.Now())
	}
	w.done <- nil
}

// mark notes that the machine has come to another place.
func (w *waiter) mark(where string, now int64) {
	if n := len(w.out.Steps); n == 0 || w.out.Steps[n-1].Name != where {
		w.out.Steps = append(w.out.Steps, Step{where, now})
	}
}

// watch marks the waiters of what is under way; at rest nothing is.
func (r *Runner) watch(now int64) {
	if where := r.machine.where(); where != "" && r.machine.wish.on() {
		for _, w := range r.waiters {
			w.mark(where, now)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/takeover"
)

// Switchover is control.Changes: the roles of this node and a peer change.
func (b *backend) Switchover(ctx context.Context, o control.SwitchoverOrder) (control.RoleChange, error) {
	switch {
	case b.d.sync == nil:
		return control.RoleChange{}, errors.New("nothing is replicated: without [conntrack-sync] no peer can take over without loss")
	case b.d.cfg.Sync.External:
		return control.RoleChange{}, errors.New("another program elects here (failover-mechanism.external = true): have that one exchange the roles")
	}
	out, err := b.d.sync.runner.Switchover(ctx, o.To, o.Force)
	return roleChange(out), err
}

var errElects = errors.New("tandem elects by itself here: use tandem switchover (this is for failover-mechanism.external = true)")

// Takeover and Yield are control.Changes: another election has decided.
//
// A takeover without an address is late: scripts may overtake each other.
func (b *backend) Takeover(ctx context.Context, o control.ExternalOrder) (control.RoleChange, error) {
	if b.d.external() && !movedHere(b.d.cfg) {
		return control.RoleChange{}, errors.New("none of the addresses in failover-mechanism.address is on this machine: this word is late, or names other addresses")
	}
	return b.foreign(o, control.RoleActive, func(r *takeover.Runner, why string) (takeover.Outcome, error) { return r.Takeover(ctx, why) })
}

func (b *backend) Yield(ctx context.Context, o control.ExternalOrder) (control.RoleChange, error) {
	return b.foreign(o, control.RoleBackup, func(r *takeover.Runner, why string) (takeover.Outcome, error) { return r.Yield(ctx, why) })
}

func (b *backend) foreign(o control.ExternalOrder, role string, do func(*takeover.Runner, string) (takeover.Outcome, error)) (control.RoleChange, error) {
	if b.d.sync == nil || !b.d.cfg.Sync.External {
		return control.RoleChange{}, errElects
	}
	why := o.Reason
	if why == "" {
		why = "another election said so"
	}
	b.d.election.foreign(role, why)
	out, err := do(b.d.sync.runner, why)
	return roleChange(out), err
}

func roleChange(out takeover.Outcome) control.RoleChange {
	c := control.RoleChange{Active: out.Active, Already: out.Already, Text: out.Text, Steps: []control.Step{}}
	for _, s := range out.Steps {
		c.Steps = append(c.Steps, control.Step{Name: s.Name, AtMS: ms(time.Duration(s.At - out.Began))})
	}
	return c
}

// waiting says what an otherwise due preemption of a set waits for.
func (b *backend) waiting(set *control.Set) string {
	if !b.d.election.aside.IsZero() { // its lock is the caller's
		return maintenanceText
	}
	if set.Waiting == "" || b.d.sync == nil || set.Name != b.d.election.followed {
		return set.Waiting
	}
	if peer := b.d.sync.runner.Status().Held; peer != "" {
		return "a switchover gave the role to " + peer + ": this node does not preempt before " + peer +
			" loses it, another tandem switchover, or a restart"
	}
	return set.Waiting
}

func (b *backend) setWaits(name string) string {
	b.d.election.mu.Lock()
	defer b.d.election.mu.Unlock()
	return b.waiting(b.d.election.set(name))
}

// externalSet is the one unit of role when another program elects.
const externalSet = "external"

// foreign notes the role that another election gave.
func (e *election) foreign(role, why string) {
	e.mu.Lock()
	s := e.set(externalSet)
	change := s.Role != role
	if change {
		s.Role, s.Since, s.Reason = role, time.Now(), why
	}
	e.mu.Unlock()
	if change {
		e.publish(event.Role, externalSet, role+": "+why)
	}
}

// external stands where the advert process would: another program sends
// adverts and moves addresses. It is takeover.Election.
type external struct {
	*election
	here    func() bool // one of the addresses is on this machine
	stopped chan struct{}
}

func newExternal(e *election, here func() bool) *external {
	e.sets[externalSet] = &control.Set{Name: externalSet, Role: control.RoleBackup, Since: time.Now(),
		Reason: "started: tandem takeover was not called yet"}
	return &external{election: e, here: here, stopped: make(chan struct{})}
}

func (x *external) Fenced(string)          {}
func (x *external) Released(string)        {}
func (x *external) TakeOver(string, int64) {}
func (x *external) HandOver(string)        {}
func (x *external) Announce(string)        {}

// farewell is how long the link goes on after a release, so that it is heard.
const farewell = 100 * time.Millisecond

// Stop is called once, by the machine or when that does not answer.
func (x *external) Stop() {
	time.AfterFunc(farewell, func() {
		select {
		case <-x.stopped:
		default:
			close(x.stopped)
		}
	})
}

// Run lasts until the role is released. The other program says a word when
// something changes: one that it said before this process ran is read off the
// addresses.
func (x *external) Run(ctx context.Context) error {
	if x.here() {
		const why = "the addresses were here when tandem started"
		x.foreign(control.RoleActive, why)
		if _, err := x.runner.Resume(ctx, why); err != nil {
			x.log.Warn("takeover", "reason", why, "error", err)
		}
	}
	select {
	case <-x.stopped:
	case <-ctx.Done():
	}
	return nil
}

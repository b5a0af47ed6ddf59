// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// Views is what the committer needs of the peers' views. Calls are short and
// may come from any goroutine.
type Views interface {
	// Take appends what the kernel table lacks to ops, hottest first, at most
	// up to cap(ops); nothing younger than minAge. It is taken until Done. At
	// most two lots are out at a time. more: there are entries that it has not
	// looked at yet, and it gave nothing that would wait for them.
	Take(ops []conntrack.Op, minAge time.Duration) (all []conntrack.Op, more bool)
	// Done gives the outcome of the lot that was taken first of those that are
	// out; an op whose Err is set did not reach the kernel table and is not tried
	// again until it changes.
	Done(ops []conntrack.Op)
	// Uncommitted counts what Take would give with minAge 0.
	Uncommitted() int
	// Adopt makes a slice of the views' flows own flows and says whether there
	// are more.
	Adopt() (more bool)
}

// Kernel is what the committer needs of the kernel table.
type Kernel interface {
	Apply(ops []conntrack.Op) error
	Delete(k *conntrack.Key) error
}

// CommitStats counts what reached the kernel table, by outcome.
type CommitStats struct {
	Created, Replaced, Deleted uint64
	Renewed                    uint64 // timeouts set anew
	Clashes                    uint64 // another flow of this node holds the tuple
	Displaced                  uint64 // flows whose older claimants of a tuple had to go
	Failed                     uint64 // refused by the kernel for another reason
	LastError                  string
}

const (
	// A lot is four of the kernel table's batches: so long can the feeder of a
	// rush be kept from a processor before the kernel has nothing to do.
	batch = 1200

	// A committed entry gets at least this long: its owner says when it ends,
	// and the first packet forwarded here sets the true timeout.
	timeoutFloor = 600 // seconds

	// Progress is reported no more often than this: far below what the fence and
	// the patience of a hand-over need, and each report wakes the machine's
	// goroutine, which takes as long as a batch's encoding.
	progressEvery = 10 * time.Millisecond
)

// Committer writes views into the kernel table: in the background when it is
// continuous, all of it when a takeover asks.
type Committer struct {
	views      Views
	kernel     Kernel
	continuous bool
	after      time.Duration
	report     func(Event)

	rush, active atomic.Bool
	resumed      atomic.Bool // from Resume until the role is left, or a rush
	adopt        atomic.Bool // from Adopt until the role is left
	adopting     atomic.Bool // Adopt was not answered yet
	begun        time.Time
	pausedUntil  atomic.Int64 // since begun, nanoseconds: no step of the wall clock lengthens it
	wake         chan struct{}
	lots         [2]lot
	again        []conntrack.Op // of a lot, those whose tuples were taken
	progressed   atomic.Int64   // when it was reported last, since begun

	created, replaced, deleted, renewed, clashes, displaced, failed atomic.Uint64
	lastError                                                       atomic.Pointer[string]
}

// lot is one batch on its way: from the views to the kernel table, and back
// with the outcome.
type lot struct {
	ops  []conntrack.Op
	rush bool  // taken in one
	err  error // of the socket
}

// NewCommitter makes a committer. report takes EvProgress and EvCommitted.
func NewCommitter(v Views, k Kernel, continuous bool, after time.Duration, report func(Event)) *Committer {
	c := &Committer{views: v, kernel: k, continuous: continuous, after: after, report: report, begun: time.Now(),
		wake: make(chan struct{}, 1)}
	c.progressed.Store(-int64(progressEvery))
	for i := range c.lots {
		c.lots[i].ops = make([]conntrack.Op, 0, batch)
	}
	return c
}

func (c *Committer) String() string { return "commit" }

// Wake tells the committer that there may be something to do.
func (c *Committer) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Rush asks for everything at once, or no longer. It is answered by
// EvCommitted when nothing is left.
func (c *Committer) Rush(on bool) {
	c.rush.Store(on)
	if on {
		c.resumed.Store(false)
	}
	c.Wake()
}

// Rushing says whether everything was asked for.
func (c *Committer) Rushing() bool { return c.rush.Load() }

// SetActive tells the role: an Active goes on committing what arrives late, if
// it does not clash.
func (c *Committer) SetActive(on bool) {
	c.active.Store(on)
	if !on {
		c.adopt.Store(false)
		c.resumed.Store(false)
	}
}

// Resume says that what is in the kernel table is in use, and newer than any copy
// of a peer: this node forwarded before the term that begins, or its fence is
// down. Only what is missing there is created, until the role is left.
func (c *Committer) Resume() { c.resumed.Store(true) }

// Adopt asks for the views' flows to become own flows, in slices.
func (c *Committer) Adopt() {
	c.adopting.Store(true)
	c.adopt.Store(true)
	c.Wake()
}

// Pause holds background commits back.
func (c *Committer) Pause(d time.Duration) { c.pausedUntil.Store(int64(time.Since(c.begun) + d)) }

// Stats reads the counters.
func (c *Committer) Stats() CommitStats {
	s := CommitStats{Created: c.created.Load(), Replaced: c.replaced.Load(), Deleted: c.deleted.Load(),
		Renewed: c.renewed.Load(), Clashes: c.clashes.Load(), Displaced: c.displaced.Load(), Failed: c.failed.Load()}
	if e := c.lastError.Load(); e != nil {
		s.LastError = *e
	}
	return s
}

// Run commits until ctx ends. It must be called from one goroutine only.
func (c *Committer) Run(ctx context.Context) error {
	poll := time.NewTicker(100 * time.Millisecond) // flows come of age without a wake
	defer poll.Stop()
	for {
		more, err := c.pass(ctx)
		if err != nil {
			return err
		}
		if more && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-poll.C:
		}
	}
}

// pass does one batch, or all there is in a rush, and says whether to look for
// another.
func (c *Committer) pass(ctx context.Context) (more bool, err error) {
	rush := c.rush.Load()
	minAge, ok := c.due(rush)
	if l := &c.lots[0]; ok {
		c.take(l, minAge, rush)
		switch {
		case len(l.ops) == 0:
		case rush && len(l.ops) == cap(l.ops):
			return true, c.rushThrough(ctx)
		default:
			if c.write(l); l.err == nil {
				c.settle(l)
			}
			// In the background what is ripe by now would be a lot of one or two,
			// and each lot costs as much as twenty flows.
			if rush || len(l.ops) == cap(l.ops) || l.err != nil {
				return true, l.err
			}
		}
	}
	if rush && c.rush.Load() {
		c.report(Event{Kind: EvCommitted, On: true})
	}
	return c.adoptSome(), nil
}

// adoptSome adopts a slice. It goes on as long as this node is Active: the
// former Active's last words may still be on their way. The first time that
// nothing is left is reported.
func (c *Committer) adoptSome() (more bool) {
	if !c.adopt.Load() {
		return false
	}
	if more = c.views.Adopt(); !more && c.adopting.CompareAndSwap(true, false) {
		c.report(Event{Kind: EvAdopted})
	}
	return more
}

// due says whether to commit now, and from which age on.
func (c *Committer) due(rush bool) (time.Duration, bool) {
	switch {
	case rush || c.active.Load():
		return 0, true
	case !c.continuous || int64(time.Since(c.begun)) < c.pausedUntil.Load():
		return 0, false
	}
	return c.after, true
}

// take fills a lot, if there is anything: to look at a million entries takes long,
// and the views' lock is free between slices.
func (c *Committer) take(l *lot, minAge time.Duration, rush bool) {
	l.rush, l.err, l.ops = rush, nil, l.ops[:0]
	for {
		var more bool
		if l.ops, more = c.views.Take(l.ops, minAge); !more || len(l.ops) > 0 {
			return
		}
		c.gotOn()
	}
}

// gotOn reports progress, but not too often.
func (c *Committer) gotOn() {
	if now := time.Since(c.begun); now-time.Duration(c.progressed.Load()) >= progressEvery {
		c.progressed.Store(int64(now))
		c.report(Event{Kind: EvProgress})
	}
}

// write carries a lot out.
func (c *Committer) write(l *lot) {
	resumed := c.resumed.Load()
	for i := range l.ops {
		if f := &l.ops[i].Flow; f.Timeout < timeoutFloor {
			f.Timeout = timeoutFloor
		}
		if resumed && l.ops[i].Kind == conntrack.OpReplace {
			l.ops[i].Kind = conntrack.OpCreate
		}
	}
	if err := c.apply(l.ops); err != nil {
		l.err = fmt.Errorf("commit %d flows: %w", len(l.ops), err)
		return
	}
	if !resumed && (!c.active.Load() || l.rush) {
		if l.err = c.displace(l.ops); l.err != nil {
			return
		}
	}
	c.count(l.ops, resumed)
	if resumed {
		if l.err = c.settleExisting(l.ops); l.err != nil {
			return
		}
	}
	c.gotOn()
}

// settle gives the outcome back.
func (c *Committer) settle(l *lot) { c.views.Done(l.ops) }

// settleExisting: what exists is in the kernel table, as it should be, but for
// its windows.
func (c *Committer) settleExisting(ops []conntrack.Op) error {
	c.again = c.again[:0]
	for i := range ops {
		if op := &ops[i]; errors.Is(op.Err, unix.EEXIST) && op.Flow.Proto == unix.IPPROTO_TCP {
			c.again = append(c.again, conntrack.Op{Kind: conntrack.OpLiberal, Flow: op.Flow})
		}
	}
	if err := c.kernel.Apply(c.again); err != nil {
		return fmt.Errorf("have the windows of %d flows not judged: %w", len(c.again), err)
	}
	n := 0
	for i := range ops {
		op := &ops[i]
		if !errors.Is(op.Err, unix.EEXIST) {
			continue
		}
		if op.Err = nil; op.Flow.Proto == unix.IPPROTO_TCP {
			if op.Err = c.again[n].Err; errors.Is(op.Err, unix.ENOENT) { // the other tuple is taken, or it died
				op.Err = nil
			}
			n++
		}
	}
	return nil
}

// displace removes the older claimants of a tuple that a flow of the view
// needs, and tries once more. At an Active only a takeover may do that: later
// its own entries are younger than any word of a peer.
//
// Most often the claimant is the same flow, committed by a former life of this
// daemon: all of those at once.
func (c *Committer) displace(ops []conntrack.Op) error {
	c.again = c.again[:0]
	for i := range ops {
		if op := &ops[i]; op.Kind != conntrack.OpDelete && errors.Is(op.Err, unix.EEXIST) {
			c.again = append(c.again, *op)
			c.again[len(c.again)-1].Kind = conntrack.OpReplace
		}
	}
	if len(c.again) == 0 {
		return nil
	}
	if err := c.kernel.Apply(c.again); err != nil {
		return fmt.Errorf("displace older claimants of tuples: %w", err)
	}
	n := 0
	for i := range ops {
		op := &ops[i]
		if op.Kind == conntrack.OpDelete || !errors.Is(op.Err, unix.EEXIST) {
			continue
		}
		op.Err = c.again[n].Err
		n++
		c.displaced.Add(1)
		if errors.Is(op.Err, unix.EEXIST) {
			if err := c.makeRoom(ops[i : i+1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeRoom removes whoever has either tuple of the one flow, and writes it again.
func (c *Committer) makeRoom(ops []conntrack.Op) error {
	op := &ops[0]
	orig, reply := op.Flow.Key(), op.Flow.ReplyKey()
	for _, k := range []*conntrack.Key{&orig, &reply} {
		if err := c.kernel.Delete(k); err != nil {
			return fmt.Errorf("displace the older claimant of a tuple: %w", err)
		}
	}
	if err := c.kernel.Apply(ops); err != nil {
		return fmt.Errorf("commit a flow again: %w", err)
	}
	return nil
}

func (c *Committer) count(ops []conntrack.Op, resumed bool) {
	for i := range ops {
		switch op := &ops[i]; {
		case op.Kind == conntrack.OpRenew && errors.Is(op.Err, unix.ENOENT): // it is created next
		case errors.Is(op.Err, unix.EEXIST) && resumed: // as it should be
		case errors.Is(op.Err, unix.EEXIST):
			c.clashes.Add(1)
		case op.Err != nil:
			c.failed.Add(1)
			s := op.Err.Error()
			c.lastError.Store(&s)
		case op.Kind == conntrack.OpCreate:
			c.created.Add(1)
		case op.Kind == conntrack.OpReplace:
			c.replaced.Add(1)
		case op.Kind == conntrack.OpRenew:
			c.renewed.Add(1)
		default:
			c.deleted.Add(1)
		}
	}
}

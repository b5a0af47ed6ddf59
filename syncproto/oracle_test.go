// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"errors"
	"fmt"
	"maps"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// check holds the invariants that must be true at every moment.
func (w *world) check() error {
	for _, h := range w.hosts {
		if err := h.checkBounds(); err != nil {
			return err
		}
		if w.flipped {
			_ = h.node.Events()
			continue // only convergence counts
		}
		if err := h.checkView(); err != nil {
			return err
		}
		if err := h.checkEvents(); err != nil {
			return err
		}
	}
	return nil
}

// checkBounds: what a sender keeps does not grow with loss or time.
func (h *host) checkBounds() error {
	owned := 0
	h.node.Own(func(_ *conntrack.Flow, owner bool) bool {
		owned += int(bit(owner))
		return true
	})
	if n := h.node.Owned(); n != owned {
		return fmt.Errorf("host %d owns %d flows and counts %d", h.id, owned, n)
	}
	o := &h.peer.out
	slots := int(h.node.own.tabs[kind4].size + h.node.own.tabs[kind6].size)
	if o.again.n+o.fresh.n > slots || o.dirty < 0 || o.inFlight < 0 || o.both < 0 || o.both > min(o.dirty, o.inFlight) || o.joinLeft < 0 || o.joinTodo < 0 ||
		o.dirty > slots || o.inFlight > slots || o.flights.n > maxWindow || slots > 2*universe {
		return fmt.Errorf("not bounded: %d slots, %d+%d queued, %d dirty, %d in flight, join %d/%d",
			slots, o.again.n, o.fresh.n, o.dirty, o.inFlight, o.joinLeft, o.joinTodo)
	}
	if h.node.own.tabs[kind4].tuples.purged+h.node.own.tabs[kind6].tuples.purged > 0 ||
		!h.w.flipped && h.peer.View().tabs[kind4].tuples.purged+h.peer.View().tabs[kind6].tuples.purged > 0 {
		return fmt.Errorf("host %d: an index lost a flow", h.id)
	}
	if v := h.peer.View(); v.live > 2*universe || v.live < 0 || v.former < 0 || v.former > v.live {
		return fmt.Errorf("view of %d, %d former", v.live, v.former)
	}
	return nil
}

// checkView: what a view shows was told, never goes backwards, and no flow
// that lives leaves it, whoever restarts.
func (h *host) checkView() error {
	w, now := h.w, map[conntrack.Key]bool{}
	var err error
	h.peer.View().Each(func(f *conntrack.Flow) bool {
		k := f.Key()
		now[k] = true
		f.Mark &^= damage
		in := w.byMark[f.Mark]
		switch {
		case in == nil || in.host == h.id:
			err = fmt.Errorf("host %d has a flow that nobody told: %+v", h.id, *f)
		case f.Mark < h.seen[k] && !h.present[k] && in != w.byMark[h.seen[k]]:
			// An earlier life in another slot, overtaken by all of a later one.
			// Its slot's deletion is on its way; convergence needs it.
			h.seen[k] = f.Mark
		case f.Mark < h.seen[k]:
			err = fmt.Errorf("host %d went backwards from mark %d: %v", h.id, h.seen[k], in)
		case in.flow.Key() != k:
			err = fmt.Errorf("host %d has the content of another flow: %+v is %v", h.id, *f, in)
		case in.ended && f.Mark == h.seen[k] && !h.present[k] && in.index >= 8:
			// The same for a record that was sent twice: between the two a
			// neighbour took its tuple, ended, and both overtook the second.
		case in.ended && f.Mark == h.seen[k] && !h.present[k]:
			err = fmt.Errorf("host %d brought back a flow that was over: %v", h.id, in)
		}
		h.seen[k], h.shown[in] = max(h.seen[k], f.Mark), true
		return err == nil
	})
	if err != nil {
		return err
	}
	for k := range h.present {
		if in := w.byMark[h.seen[k]]; !now[k] && !in.ended {
			return fmt.Errorf("host %d lost %v", h.id, in)
		}
	}
	h.present = now
	return nil
}

// checkEvents: who says complete has all that the peer had when the session
// began and still has.
func (h *host) checkEvents() error {
	o := h.other()
	for _, e := range h.node.Events() {
		if e.Kind != ViewComplete {
			continue
		}
		has := flowsOf(h.peer.View())
		for _, in := range o.alive {
			if _, ok := has[in.flow.Key()]; !ok && in.at <= h.peer.session.since {
				return fmt.Errorf("host %d says complete without %v", h.id, in)
			}
		}
	}
	return nil
}

// commit lets the committer of a host work: some operations are taken, and the
// outcome of those taken before is told.
func (h *host) commit(max int) error {
	v := h.peer.View()
	if len(h.tokens) > 0 {
		v.Done(h.tokens, h.ops)
		h.tokens, h.ops = nil, nil
		return nil
	}
	h.ops, h.tokens = v.Pending(nil, nil, max, 0, h.w.now)
	for i := range h.ops {
		op := &h.ops[i]
		if !h.w.clean && h.w.noise.IntN(20) == 0 {
			op.Err = unix.ENOMEM
			continue
		}
		if err := h.apply(op, h.tokens[i]); err != nil {
			return err
		}
	}
	return nil
}

// apply is the kernel table: a tuple, in either direction, is one entry's.
func (h *host) apply(op *conntrack.Op, tok Token) error {
	k := op.Flow.Key()
	if op.Kind == conntrack.OpRenew {
		if _, ok := h.holder(&k); !ok {
			op.Err = unix.ENOENT
		}
		return nil
	}
	if op.Kind != conntrack.OpCreate {
		if f, ok := h.holder(&k); ok {
			if op.Kind == conntrack.OpDelete && tok&tokenRoom == 0 {
				if h.active {
					return fmt.Errorf("host %d deletes %v while Active", h.id, h.w.byMark[f.Mark&^damage])
				}
				if err := h.mayDelete(&f); err != nil {
					return err
				}
				h.w.tally.Deleted++
			}
			delete(h.kernel, f.Key())
		}
	}
	if op.Kind == conntrack.OpDelete {
		return nil
	}
	rk := op.Flow.ReplyKey()
	if _, ok := h.holder(&k); ok {
		op.Err = unix.EEXIST
		return nil
	}
	if _, ok := h.holder(&rk); ok {
		op.Err = unix.EEXIST
		return nil
	}
	h.w.tally.Committed++
	h.kernel[k] = op.Flow
	delete(h.unknown, k)
	return nil
}

func (h *host) holder(k *conntrack.Key) (conntrack.Flow, bool) {
	for _, f := range h.kernel {
		if f.Key() == *k || f.ReplyKey() == *k {
			return f, true
		}
	}
	return conntrack.Flow{}, false
}

// mayDelete: only the owner's word deletes, that of this life of the flow or
// of a later one with the same tuples; or a later flow that has one of them.
func (h *host) mayDelete(f *conntrack.Flow) error {
	at := f.Mark &^ damage
	first := h.w.byMark[at]
	if first == nil && h.w.flipped {
		return nil
	}
	for mark, in := range h.w.byMark {
		if mark >= at && in.host == first.host && in.index == first.index && in.ended && (in.byOwner || in.unsure) {
			return nil
		}
		if mark > at && in.host == first.host && first.index >= 8 && in.index == first.index^1 {
			return nil
		}
	}
	return fmt.Errorf("host %d deletes %v from its kernel table", h.id, first)
}

// sure says whether the peer must know that the owner ended it.
func (i *instance) sure() bool { return i.ended && i.byOwner && !i.unsure }

// mustGo says whether an entry with that content must leave the kernel table:
// the owner ended that life of the flow, and each later one that came here. One
// that was nobody's to end leaves the entry to the kernel: the view knows of it
// no more, whatever comes and goes before it would be written.
func (h *host) mustGo(mark uint32) bool {
	first := h.w.byMark[mark]
	for _, in := range h.w.byMark {
		later := in.host == first.host && in.index == first.index && in.mark > first.mark
		if (in == first || later && h.shown[in]) && h.leaves(in) {
			return false
		}
	}
	return true
}

// leaves says whether the entry of a life that is over may stay. The owner's
// word may come too late: after that of RELEASE, and after a neighbour that took
// a tuple, so that there is no slot any more that it could end.
func (h *host) leaves(in *instance) bool {
	if !in.sure() {
		return true
	}
	for _, by := range h.w.byMark {
		if in.late && in.index >= 8 && by.host == in.host && by.index == in.index^1 && by.mark > in.mark && h.shown[by] {
			return true
		}
	}
	return false
}

// kernelLoses ages an entry of the kernel table.
func (h *host) kernelLoses(i int) {
	if len(h.tokens) > 0 {
		return
	}
	k := h.other().flow(i, 0).Key()
	if _, ok := h.kernel[k]; ok {
		delete(h.kernel, k)
		h.peer.View().Lost(&k)
	}
}

// heal lets the network behave for a while; then all must be equal.
func (w *world) heal() error {
	w.parted, w.clean = false, true
	for _, h := range w.hosts {
		h.demote()
	}
	if err := w.rest(); err != nil {
		return err
	}
	w.flipped = true
	for _, h := range w.hosts {
		h.damageAny()
	}
	return w.rest()
}

// rest lets time pass until all must be equal, and a differing range was asked
// for again.
func (w *world) rest() error {
	for n := 0; n < 6 || n < 600 && w.troubled(); n++ {
		if err := w.pass(1000 * ms); err != nil {
			return err
		}
	}
	for _, h := range w.hosts {
		if err := h.settled(); err != nil {
			return err
		}
		s := h.peer.RepairStats()
		w.tally.Digests, w.tally.Healed = w.tally.Digests+int(s.Compared), w.tally.Healed+int(s.Healed)
	}
	return nil
}

func (h *host) settled() error {
	o, v := h.other(), h.peer.View()
	want := map[conntrack.Key]conntrack.Flow{}
	for _, in := range o.alive {
		f := in.flow
		normal(&f)
		want[f.Key()] = f
	}
	if diff := cmp.Diff(want, flowsOf(v)); diff != "" {
		return fmt.Errorf("host %d did not converge (-want +got):\n%s", h.id, diff)
	}
	if !h.peer.Up() || !h.peer.Drained() || !v.Complete() || v.former != 0 {
		return fmt.Errorf("host %d: up %v, drained %v, complete %v, %d former", h.id, h.peer.Up(), h.peer.Drained(), v.Complete(), v.former)
	}
	for range 100 {
		if err := h.commit(10); err != nil {
			return err
		}
	}
	if n := v.Uncommitted(); n != 0 {
		return fmt.Errorf("host %d: %d operations never end", h.id, n)
	}
	return h.kernelEquals(want)
}

// kernelEquals: the kernel table has the view, and of what is not in it only
// what nobody with a right to it ended.
func (h *host) kernelEquals(want map[conntrack.Key]conntrack.Flow) error {
	have := maps.Clone(h.kernel)
	var errs []error
	for k, f := range want {
		got, ok := have[k]
		if !ok || got.Mark != f.Mark || got.Reply != f.Reply || got.Status != f.Status {
			errs = append(errs, fmt.Errorf("host %d: its kernel table lacks %v, has %+v", h.id, h.w.byMark[f.Mark], got))
		}
		delete(have, k)
	}
	for k, f := range have {
		if at := f.Mark &^ damage; h.mustGo(at) && !h.unknown[k] {
			errs = append(errs, fmt.Errorf("host %d: its kernel table still has %v", h.id, h.w.byMark[at]))
		}
		h.w.tally.Kept++
	}
	return errors.Join(errs...)
}

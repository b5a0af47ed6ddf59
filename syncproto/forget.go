// SPDX-License-Identifier: Apache-2.0

package syncproto

import "github.com/tandem-ha/tandem/conntrack"

// forgetPace is how many entries one slice of a Forget looks at, most of them with
// a look-up in own flows.
const forgetPace = 8192

// forgetting is a Forget under way: entries from kind and pos on are still to be
// forgotten. All of a million at once would hold the caller's lock for longer
// than heartbeats may be silent.
type forgetting struct {
	running bool
	reclaim bool // Reclaim's: each entry's own flow is untold as well
	kind    kind
	pos     uint32
	size    [kinds]uint32 // of the tables then: what came later is as it is said
}

// Forget makes all uncommitted again, as replacements: after a yield, what was
// not restored here and so has stale windows, or when somebody flushed the
// kernel table. Pending does it, slice by slice, ahead of what it gives.
func (v *View) Forget() {
	v.forgetting, v.forgotten = forgetting{reclaim: v.reclaiming()}, true
	for k := range v.tabs {
		v.forgetting.size[k] = v.tabs[k].size
		v.forgetting.running = v.forgetting.running || v.tabs[k].size > 0
	}
}

// Stale says whether the kernel table has entries of a term that ended here,
// whose windows are stale: some that were not written since, or, until the new
// Active has told all that it took over, any.
func (n *Node) Stale() bool {
	if n.own.drop.released && n.own.tabs[kind4].n+n.own.tabs[kind6].n > 0 {
		return true
	}
	for _, p := range n.peers {
		if p.view.stale() {
			return true
		}
	}
	return false
}

func (v *View) stale() bool {
	if v.forgetting.running || !v.forgotten {
		return v.forgotten
	}
	for k := range v.want {
		m, t := &v.want[k], &v.tabs[k]
		for i := m.next(0); i != nobody; i = m.next(i + 1) {
			if t.at(i).has(viewKernel) {
				return true
			}
		}
	}
	v.forgotten = false
	return false
}

// left is how many entries are still to be looked at.
func (f *forgetting) left() (n int) {
	if !f.running {
		return 0
	}
	for k := f.kind; k < kinds; k++ {
		n += int(f.size[k])
	}
	return max(1, n-int(f.pos))
}

// forgetSlice goes on with a Forget.
func (v *View) forgetSlice() {
	f := &v.forgetting
	if !f.running {
		return
	}
	t := &v.tabs[f.kind]
	for end := min(f.size[f.kind], f.pos+forgetPace); f.pos < end; f.pos++ {
		v.forgetEntry(t, f.pos)
	}
	if f.pos >= f.size[f.kind] {
		f.kind, f.pos = f.kind+1, 0
	}
	if f.kind == kinds {
		*f = forgetting{}
	}
}

// Forgetting says whether a Forget is under way: what Pending gives is not all.
func (v *View) Forgetting() bool { return v.forgetting.running }

// forgetLate is for a node that becomes Active in the middle of a Forget. What was
// late in a former term is not; from here on what is late is no matter of this
// Forget, though it may stand where the Forget has not been.
func (v *View) forgetLate() {
	f := &v.forgetting
	for k := f.kind; f.running && k < kinds; k++ {
		i := uint32(0)
		if k == f.kind {
			i = f.pos
		}
		for ; i < f.size[k]; i++ {
			v.tabs[k].at(i).clear(viewLate)
		}
	}
}

// reclaiming says whether own flows are still to be untold. A node that left
// Active has none that are told.
func (v *View) reclaiming() bool {
	return v.n.active && v.forgetting.running && v.forgetting.reclaim
}

// catchUp forgets an entry that is about to change before its turn.
func (v *View) catchUp(t *table, i uint32) {
	if f := &v.forgetting; f.running && i < f.size[t.kind] && (t.kind > f.kind || t.kind == f.kind && i >= f.pos) {
		v.forgetEntry(t, i)
	}
}

func (v *View) forgetEntry(t *table, i uint32) {
	b := t.at(i)
	if !b.has(flagUsed) || v.n.active && b.has(viewLate) {
		return
	}
	b.clear(viewLate | viewClash) // of a dead one too: it may come back
	if v.reclaiming() && !b.has(viewDead) {
		var k conntrack.Key
		t.key(i<<1, &k)
		v.n.own.untell(&k)
	}
	switch {
	case b.has(viewDead):
	case b.has(viewBusy):
		b.set(viewAgain)
	default:
		t.load(i, &v.scratch)
		if v.keep(t, i) {
			v.renewLeft(t, i)
			return
		}
		if v.n.cfg.Policy.Match(&v.scratch) == conntrack.Replicate {
			b.set(viewKernel)
			v.want[t.kind].set(i)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// remains is what the kernel table of a Backup has of a flow though no view was
// committed: from a term that ended here, or from before this daemon.
type remains struct {
	there  bool
	other  bool // under the same original tuple: it is another flow
	judges bool // windows, by those of that term
	is     mutable
}

// stale says whether it has to be written again to be m.
func (r *remains) stale(proto uint8, m mutable) bool {
	return r.other || r.judges || significant(proto, r.is, m)
}

// judges says whether an entry with these flags judges windows: those that
// packets made do, those that were restored do not.
func judges(proto, flags uint8) bool {
	return proto == unix.IPPROTO_TCP && flags&liberal != liberal
}

// left says what own flows that are not owned know of f.
func (o *own) left(f *conntrack.Flow) (r remains) {
	t := &o.tabs[kindOf(f.Family)]
	if t.n == 0 {
		return r
	}
	k := f.Key()
	i, ok := t.findOrig(&k)
	if !ok || t.at(i).has(ownOwner|ownGhost) {
		return r
	}
	b := t.at(i)
	return remains{there: true, other: !t.sameName(i, f), judges: judges(b.proto, b.flags), is: t.mutable(i)}
}

// found tells views that the kernel table has f, which is in normal form. It
// says whether one of them has a flow of that name.
func (n *Node) found(f *conntrack.Flow) (yes bool) {
	k := f.Key()
	for _, p := range n.peers {
		v := &p.view
		t := v.table(k.Family)
		if _, ok := v.find(&k); !ok {
			continue
		}
		yes = true
		i, ok := t.findOrig(&k)
		if !ok {
			continue
		}
		if b := t.at(i); !b.has(viewKernel | viewBusy | viewDead) {
			m := mutableOf(f)
			r := remains{other: !t.sameName(i, f), judges: judges(b.proto, m.flags), is: m}
			if b.set(viewKernel); !r.stale(b.proto, t.mutable(i)) {
				v.want[t.kind].clear(i)
				v.renewLeft(t, i)
			}
		}
	}
	return yes
}

// keep says whether the kernel table's entry may stay as it is at a Forget; the
// view's flow is in v.scratch. What a former session of the peer said of it is
// older than what packets told here.
func (v *View) keep(t *table, i uint32) bool {
	b, r := t.at(i), v.n.own.left(&v.scratch)
	if !r.there || r.other || r.judges || !b.has(viewKernel) || v.want[t.kind].has(i) {
		return false
	}
	if b.has(viewFormer) {
		t.setMutable(i, &r.is)
	}
	return !r.stale(b.proto, t.mutable(i))
}

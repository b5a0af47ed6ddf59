// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// OwnFlow reads the own flow of that original tuple into f. sure: it stands for
// an entry of the kernel table; one whose death waits, or that died after
// Release, does not.
func (n *Node) OwnFlow(k *conntrack.Key, f *conntrack.Flow) (found, sure bool) {
	t := &n.own.tabs[kindOf(k.Family)]
	i, ok := t.findOrig(k)
	if !ok {
		return false, false
	}
	t.load(i, f)
	return true, !t.at(i).has(ownHeld | ownGhost)
}

// Flow reads the flow of that original tuple into f. age is since its record
// came, former: it is of a session before this one.
func (v *View) Flow(k *conntrack.Key, f *conntrack.Flow, now int64) (age time.Duration, former, found bool) {
	i, ok := v.find(k)
	if !ok {
		return 0, false, false
	}
	t := v.table(k.Family)
	t.load(i, f)
	b := t.at(i)
	return time.Duration(b.age(now)) << tickShift, b.has(viewFormer), true
}

// Keys is OwnKeys for a view.
func (v *View) Keys(from uint32, max int, fn func(k *conntrack.Key)) (next uint32) {
	return keysOf(&v.tabs, from, max, flagUsed, viewDead, fn)
}

// KernelKeys is Keys for those flows that the kernel table has from us, as far
// as is known.
func (v *View) KernelKeys(from uint32, max int, fn func(k *conntrack.Key)) (next uint32) {
	return keysOf(&v.tabs, from, max, flagUsed|viewKernel, viewDead|viewBusy, fn)
}

// keysOf calls fn for the names of entries that have all flags of with and none
// of not, looking at no more than max places.
func keysOf(tabs *[kinds]table, from uint32, max int, with, not flag, fn func(k *conntrack.Key)) (next uint32) {
	var k conntrack.Key
	for kind, base := range [kinds]uint32{kind6: tabs[kind4].size} {
		t := &tabs[kind]
		for ; from >= base && from-base < t.size; from++ {
			if max--; max < 0 {
				return from
			}
			if b := t.at(from - base); flag(b.at)&with == with && !b.has(not) {
				t.key((from-base)<<1, &k)
				fn(&k)
			}
		}
	}
	return 0
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import "github.com/tandem-ha/tandem/conntrack"

// OwnSlice calls fn for own flows, looking at no more than max places from
// position from on (first 0), and gives the next position, 0 after the last. A
// flow that comes or goes between two calls may be missed; f is reused. Walking
// all of a million at once would hold the caller's lock for longer than
// Config.DeadAfter.
func (n *Node) OwnSlice(from uint32, max int, fn func(f *conntrack.Flow)) (next uint32) {
	return slice(&n.own.tabs, from, max, func(t *table, i uint32) {
		t.load(i, &n.own.scratch)
		fn(&n.own.scratch)
	})
}

// Slice is OwnSlice for the flows of a view.
func (v *View) Slice(from uint32, max int, fn func(f *conntrack.Flow)) (next uint32) {
	return slice(&v.tabs, from, max, func(t *table, i uint32) {
		if !t.at(i).has(viewDead) {
			t.load(i, &v.scratch)
			fn(&v.scratch)
		}
	})
}

// slice walks the used entries of all kinds; the highest bit of a position is
// the kind.
func slice(tabs *[kinds]table, from uint32, max int, fn func(t *table, i uint32)) (next uint32) {
	const kindBit = 31
	for k := kind(from >> kindBit); k < kinds; k++ {
		t := &tabs[k]
		for i := from & (1<<kindBit - 1); i < t.size; i++ {
			if max--; max < 0 {
				return uint32(k)<<kindBit | i
			}
			if t.at(i).has(flagUsed) {
				fn(t, i)
			}
		}
		from = 0
	}
	return 0
}

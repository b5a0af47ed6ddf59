// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

// reconfigure gives a group other addresses, or announces them otherwise. What
// stays of them stays in, untouched, and keeps its announcements; what is new goes
// in before what is gone goes out.
func (st *stage) reconfigure(ss *stageSet, to seat) {
	if ss.out != 0 {
		st.takeOut(ss)
	}
	now := st.clock.now()
	before, addrs := ss.virtual, ss.addrs
	ss.virtual, ss.addrs = nil, nil
	var left []int // of before
	for i := range before {
		if before[i].group != to.group {
			ss.virtual, ss.addrs = append(ss.virtual, before[i]), append(ss.addrs, addrs[i])
		} else {
			left = append(left, i)
		}
	}
	for _, v := range to.virtuals() {
		at := slices.IndexFunc(left, func(i int) bool { return before[i].same(&v) })
		var a vip.Address
		announce := true
		if at >= 0 {
			i := left[at]
			left = slices.Delete(left, at, at+1)
			before[i].index = v.index
			v, a = before[i], addrs[i]
			announce = st.said.Retime(v.announced, to.cfg.Place.Timing)
		} else {
			st.speaker(&v, ss, to.cfg.Place.Timing)
			if ss.in {
				a = st.place(&v)
			}
		}
		ss.virtual, ss.addrs = append(ss.virtual, v), append(ss.addrs, a)
		if announce && ss.in && !ss.hushed {
			st.said.Start(v.announced, now)
		}
	}
	ss.errs = make([]unix.Errno, len(ss.virtual))
	st.locate(ss)
	if ss.in {
		st.put(ss)
	}
	st.drop(ss, before, addrs, left)
	st.said.Due(now, st.say)
}

// drop ends what a group no longer has: those of before that are left.
func (st *stage) drop(ss *stageSet, before []virtual, addrs []vip.Address, left []int) {
	var gone []vip.Address
	for _, i := range left {
		v := &before[i]
		st.said.Remove(v.announced)
		if v.failed != 0 {
			st.report(report{kind: reportAddress, set: ss.slot, group: v.group})
		} else if ss.in && !st.carries(addrs[i]) {
			gone = append(gone, addrs[i])
		}
	}
	if len(gone) > 0 {
		st.delete(gone)
	}
}

// carries: an address is in for some set, perhaps since it went from one group to
// another.
func (st *stage) carries(a vip.Address) bool {
	return slices.ContainsFunc(st.sets, func(ss *stageSet) bool { return ss.in && slices.Contains(ss.addrs, a) })
}

// same: one address at one place, whatever its index.
func (v *virtual) same(w *virtual) bool {
	return v.prefix == w.prefix && v.iface == w.iface && v.wire == w.wire
}

// speaker gives an address of a set its place among the announcements.
func (st *stage) speaker(v *virtual, ss *stageSet, t vip.Timing) {
	if _, known := st.wires[v.wire]; !known {
		st.wires[v.wire] = len(st.wires)
	}
	v.announced = st.said.Add(st.wires[v.wire], t)
	if v.announced == len(st.spoken) {
		st.spoken = append(st.spoken, spoken{})
	}
	st.spoken[v.announced].set = ss
}

// locate tells the announcements where the set's addresses are.
func (st *stage) locate(ss *stageSet) {
	for i := range ss.virtual {
		st.spoken[ss.virtual[i].announced].at = i
	}
}

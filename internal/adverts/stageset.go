// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

// linger is how long a virtual MAC still takes frames after its addresses were
// to go because the role was handed over: mostly the new Active has announced
// itself by then, and what is under way is forwarded, not lost.
const linger = int64(50 * time.Millisecond)

// stageSet is one set's addresses.
type stageSet struct {
	slot    uint16
	ports   []*stagePort // by member
	vouched bool
	virtual []virtual
	addrs   []vip.Address // what is in, same index as virtual
	errs    []unix.Errno
	macs    []*stageMAC
	in      bool
	hushed  bool          // nothing speaks for them any more: see hush
	sure    *atomic.Int64 // the election thread's: until when the role is certain
	doubt   int64         // of sure, what the machine slept past

	repair   int64 // an address is not there: put it back then, 0 no
	repaired int64
	out      int64 // a lingering set: its addresses go then, 0 no
}

// virtual is one configured address.
type virtual struct {
	group, index uint16
	prefix       netip.Prefix
	iface        string     // the device that carries it
	wire         string     // the interface that its announcements leave by
	announced    int        // index in the stage's announcements
	failed       unix.Errno // last reported
	gone         bool       // somebody removed it
	says         [2][]byte  // request, reply, or twice the same; for mac
	mac          [6]byte
}

// next is when the set has work, 0 never.
func (ss *stageSet) next(refresh int64) int64 {
	if !ss.in {
		return ss.out
	}
	return earlier(refresh, ss.repair)
}

// speaks says whether addresses may be put back and announced without an order. Not
// so for a dead election thread, nor after a sleep in which another router may have
// taken over: the election listens first, and orders an announcement when nobody has.
func (st *stage) speaks(ss *stageSet, now int64) bool {
	until := ss.sure.Load()
	return !ss.hushed && st.lives(now) && now <= until && until != ss.doubt
}

// lives says whether the election thread does: a dead one must not keep addresses
// alive.
func (st *stage) lives(now int64) bool { return now-st.alive.Load() < deadAfter }

// mended: nothing is missing any more, or nothing is to be there.
func (ss *stageSet) mended() {
	ss.repair = 0
	for i := range ss.virtual {
		ss.virtual[i].gone = false
	}
}

func (st *stage) install(ss *stageSet, o order) {
	now := st.clock.now()
	if ss.out != 0 {
		st.takeOut(ss)
	}
	if !ss.in {
		st.plan(ss)
	}
	ss.in, ss.hushed = true, false
	ss.mended()
	st.raise(ss)
	st.put(ss)
	if st.refresh == 0 || st.refresh < now {
		st.refresh = now + refreshEvery
	}
	st.announce(ss, now)
	st.said.Due(now, st.say)
	st.report(report{kind: reportInstalled, set: o.set, term: o.term})
}

func (st *stage) plan(ss *stageSet) {
	for i := range ss.virtual {
		ss.addrs[i] = st.place(&ss.virtual[i])
	}
}

// place decides where and in which form an address goes in. A subnet of an
// address on a virtual MAC is its parent's.
func (st *stage) place(v *virtual) vip.Address {
	own := st.own[st.links[v.wire].Index]
	if v.prefix.Addr().Is6() {
		own = st.own6[st.links[v.wire].Index]
	}
	a := vip.Address{Prefix: vip.Plan(v.prefix, own), IfIndex: st.links[v.iface].Index}
	if a.Prefix.Addr().Is4() && !a.Prefix.IsSingleIP() && v.iface == v.wire && st.restore[v.iface] == nil {
		restore, err := vip.KeepSecondaries(v.iface)
		if err != nil {
			fmt.Fprintln(os.Stderr, "adverts:", err)
		}
		st.restore[v.iface] = restore
	}
	return a
}

// put writes a set's addresses, new or refreshed, and reports what changed.
func (st *stage) put(ss *stageSet) {
	clear(ss.errs)
	if err := st.conn.Put(ss.addrs, ss.errs); err != nil {
		fmt.Fprintln(os.Stderr, "adverts:", err)
		return
	}
	for i, errno := range ss.errs {
		v := &ss.virtual[i]
		if errno != 0 { // an interface that is late or made anew: the next refresh tries again
			ss.addrs[i].IfIndex = st.links[v.iface].Index
		}
		if errno != v.failed {
			v.failed = errno
			st.report(report{kind: reportAddress, set: ss.slot, group: v.group, port: v.index, errno: errno, on: errno != 0})
			if errno == 0 {
				st.said.Start(v.announced, st.clock.now())
			}
		}
	}
}

// remove takes a set's addresses out. Where a virtual MAC was handed over they
// linger, on a mute device: to everybody else they are out.
func (st *stage) remove(ss *stageSet, o order) {
	lingers := o.linger && ss.in && len(ss.macs) > 0
	ss.in = false
	ss.mended()
	st.hush(ss)
	if lingers {
		ss.out = st.clock.now() + linger
	} else {
		st.takeOut(ss)
	}
	st.report(report{kind: reportRemoved, set: o.set, term: o.term})
}

// takeOut: virtual MACs first, which is one request for all that is on them;
// from then on nothing is answered or sent by them.
func (st *stage) takeOut(ss *stageSet) {
	ss.out = 0
	for _, m := range ss.macs {
		if m.index != 0 {
			complain(m.Down(m.index))
		}
	}
	st.delete(ss.addrs)
	st.look() // what the kernel reports of this is our own doing, not to be mended if the set comes back at once
}

// delete takes addresses out.
func (st *stage) delete(addrs []vip.Address) {
	errs := make([]unix.Errno, len(addrs))
	complain(st.conn.Remove(addrs, errs))
	for i, errno := range errs {
		if errno != 0 {
			fmt.Fprintf(os.Stderr, "adverts: remove %s: %v\n", addrs[i].Prefix, errno)
		}
	}
}

func complain(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "adverts:", err)
	}
}

// missing: someone removed an address of ours, or its lifetime ended while we slept.
// It goes back in at once, but whoever fights for it does not make us spin.
func (st *stage) missing(a vip.Address) {
	for _, ss := range st.sets {
		for j := range ss.addrs {
			if ss.in && ss.addrs[j] == a {
				ss.virtual[j].gone = true
				st.mend(ss)
			}
		}
	}
}

// mend plans a repair of the set, the first one at once.
func (st *stage) mend(ss *stageSet) {
	if ss.repair == 0 {
		ss.repair = max(st.clock.now(), ss.repaired+repairEvery)
	}
}

// repair puts back what is not there.
func (st *stage) repair(ss *stageSet, now int64) {
	ss.repaired = now
	for i := range ss.virtual {
		if v := &ss.virtual[i]; v.gone {
			st.report(report{kind: reportAddress, set: ss.slot, group: v.group, port: v.index, on: true})
		}
	}
	ss.mended()
	st.raise(ss)
	st.put(ss)
	st.announce(ss, now)
}

// work does what is due: refresh, repair, announcements.
func (st *stage) work(now int64) {
	refresh := st.refresh != 0 && now >= st.refresh
	if refresh {
		st.refresh = now + refreshEvery
	}
	for _, ss := range st.sets {
		if ss.out != 0 && now >= ss.out {
			st.takeOut(ss)
		}
		if !ss.in {
			continue
		}
		switch due := ss.repair != 0 && now >= ss.repair; {
		case due && st.speaks(ss, now):
			st.repair(ss, now)
		case due:
			ss.repair = now + repairLater
		case ss.repair == 0 && refresh && st.lives(now):
			st.put(ss)
		}
	}
	st.holdRefreshes(now)
	st.said.Due(now, st.say)
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

// Announcements of a new Active: a burst at once, paced, and another one when
// switches and hosts that were busy then have calmed down (the names and
// numbers of the garp options: master-repeat 5, master-delay 5 s).
const (
	burst      = 5
	burstGap   = int64(20 * time.Millisecond)
	burstDelay = int64(5 * time.Second)
)

// stageSet is one set's addresses.
type stageSet struct {
	virtual []virtual
	addrs   []vip.Address // what is in, same index as virtual
	errs    []unix.Errno
	in      bool

	round    int   // of the announcement, 0..2*burst
	burstAt  int64 // next round, 0 none
	repair   int64 // someone removed an address: put it back then, 0 no
	repaired int64
}

// virtual is one configured address.
type virtual struct {
	group, index uint16
	prefix       netip.Prefix
	iface        string
	failed       unix.Errno // last reported
	garp         [2][]byte  // request, reply, for mac
	mac          [6]byte
}

func newStageSets(s *setup) []stageSet {
	out := make([]stageSet, s.Sets)
	for i := range s.groups {
		ss := &out[s.setOf[i]]
		for j, a := range s.groups[i].Addresses {
			ss.virtual = append(ss.virtual, virtual{group: uint16(i), index: uint16(j), prefix: a.Prefix, iface: a.Interface})
		}
	}
	for i := range out {
		out[i].addrs = make([]vip.Address, len(out[i].virtual))
		out[i].errs = make([]unix.Errno, len(out[i].virtual))
	}
	return out
}

// next is when the set has work, 0 never.
func (ss *stageSet) next(refresh int64) int64 {
	if !ss.in {
		return 0
	}
	return earlier(earlier(refresh, ss.burstAt), ss.repair)
}

// announce starts a burst now.
func (ss *stageSet) announce(now int64) {
	if ss.in {
		ss.round, ss.burstAt = 0, now
	}
}

func (st *stage) install(o order) {
	ss := &st.sets[o.set]
	now := st.clock.now()
	if !ss.in {
		st.plan(ss)
	}
	ss.in = true
	st.put(o.set)
	if st.refresh == 0 || st.refresh < now {
		st.refresh = now + refreshEvery
	}
	ss.announce(now)
	st.announceRound(ss, now)
	st.report(report{kind: reportInstalled, set: o.set, term: o.term})
}

// plan decides where and in which form each address goes in.
func (st *stage) plan(ss *stageSet) {
	for i := range ss.virtual {
		v := &ss.virtual[i]
		l := st.links[v.iface]
		ss.addrs[i] = vip.Address{Prefix: vip.Plan(v.prefix, st.own[l.Index]), IfIndex: l.Index}
		if p := ss.addrs[i].Prefix; p.Addr().Is4() && !p.IsSingleIP() && st.restore[v.iface] == nil {
			restore, err := vip.KeepSecondaries(v.iface)
			if err != nil {
				fmt.Fprintln(os.Stderr, "adverts:", err)
			}
			st.restore[v.iface] = restore
		}
	}
}

// put writes a set's addresses, new or refreshed, and reports what changed.
func (st *stage) put(set uint16) {
	ss := &st.sets[set]
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
			st.report(report{kind: reportAddress, set: set, group: v.group, port: v.index, errno: errno, on: errno != 0})
		}
	}
}

func (st *stage) remove(o order) {
	ss := &st.sets[o.set]
	ss.in, ss.burstAt, ss.repair = false, 0, 0
	clear(ss.errs)
	if err := st.conn.Remove(ss.addrs, ss.errs); err != nil {
		fmt.Fprintln(os.Stderr, "adverts:", err)
	}
	for i, errno := range ss.errs {
		if errno != 0 {
			fmt.Fprintf(os.Stderr, "adverts: remove %s: %v\n", ss.addrs[i].Prefix, errno)
		}
	}
	st.report(report{kind: reportRemoved, set: o.set, term: o.term})
}

// missing: someone removed an address of ours. It goes back in at once, but
// whoever fights for it does not make us spin.
func (st *stage) missing(a vip.Address) {
	for i := range st.sets {
		ss := &st.sets[i]
		for j := range ss.addrs {
			if ss.in && ss.repair == 0 && ss.addrs[j] == a {
				ss.repair = max(st.clock.now(), ss.repaired+repairEvery)
				v := &ss.virtual[j]
				st.report(report{kind: reportAddress, set: uint16(i), group: v.group, port: v.index, on: true})
			}
		}
	}
}

// work does what is due: refresh, repair, announcements.
func (st *stage) work(now int64) {
	refresh := st.refresh != 0 && now >= st.refresh
	if refresh {
		st.refresh = now + refreshEvery
	}
	for i := range st.sets {
		ss := &st.sets[i]
		if !ss.in {
			continue
		}
		repair := ss.repair != 0 && now >= ss.repair
		// A dead election thread must not keep addresses alive.
		if (refresh || repair) && now-st.alive.Load() < deadAfter {
			st.put(uint16(i))
		}
		if repair {
			ss.repair, ss.repaired = 0, now
			ss.announce(now)
		}
		if ss.burstAt != 0 && now >= ss.burstAt {
			st.announceRound(ss, now)
		}
	}
}

// announceRound sends one gratuitous ARP per address and plans the next
// round: requests and replies by turns.
func (st *stage) announceRound(ss *stageSet, now int64) {
	for i := range ss.virtual {
		v := &ss.virtual[i]
		l, ok := st.links[v.iface]
		if !ok || ss.errs[i] != 0 || !v.prefix.Addr().Is4() || l.MAC == ([6]byte{}) {
			continue
		}
		if v.build(l.MAC) == nil {
			st.garp.Send(l.Index, v.garp[ss.round%2])
		}
	}
	ss.round++
	switch {
	case ss.round >= 2*burst:
		ss.burstAt = 0
	case ss.round == burst:
		ss.burstAt = now + burstDelay
	default:
		ss.burstAt = now + burstGap
	}
}

// build makes the messages anew only when the MAC changed.
func (v *virtual) build(mac [6]byte) (err error) {
	if v.garp[0] != nil && v.mac == mac {
		return nil
	}
	v.mac = mac
	ip := v.prefix.Addr()
	if v.garp[0], err = vip.GARP(ip, mac, false); err == nil {
		v.garp[1], err = vip.GARP(ip, mac, true)
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

// This file is what a set's begin and end are to the stage.

func (st *stage) set(slot uint16) *stageSet {
	for _, ss := range st.sets {
		if ss.slot == slot {
			return ss
		}
	}
	return nil
}

// begin makes a set: the sockets of its ports, the devices of its virtual MACs,
// and a place among the announcements for every address.
func (st *stage) begin(o order) {
	ss := &stageSet{slot: o.set, vouched: o.vouched, sure: o.sure}
	st.sets = append(st.sets, ss)
	for _, s := range o.seats {
		ss.ports = append(ss.ports, st.portOf(s))
		if mac := s.cfg.device(); mac != nil {
			ss.macs = append(ss.macs, &stageMAC{MAC: mac, group: s.group})
		}
		for _, v := range s.virtuals() {
			st.speaker(&v, ss, s.cfg.Place.Timing)
			ss.virtual = append(ss.virtual, v)
		}
	}
	ss.addrs, ss.errs = make([]vip.Address, len(ss.virtual)), make([]unix.Errno, len(ss.virtual))
	st.locate(ss)
	st.makeMACs(st.clock.now())
}

// end takes all away that begin made, and reports it. The addresses are out,
// perhaps they linger.
func (st *stage) end(ss *stageSet) {
	if ss.in || ss.out != 0 {
		st.takeOut(ss)
	}
	for i := range ss.virtual {
		st.said.Remove(ss.virtual[i].announced)
	}
	st.sets = slices.DeleteFunc(st.sets, func(other *stageSet) bool { return other == ss })
	for _, m := range ss.macs {
		st.removeMAC(m)
	}
	for _, p := range ss.ports {
		st.endPort(p)
	}
	st.report(report{kind: reportEnded, set: ss.slot})
}

// virtuals are the addresses of a group, which nothing speaks for yet.
func (s *seat) virtuals() (out []virtual) {
	mac := s.cfg.device()
	for j, a := range s.cfg.installed() {
		v := virtual{group: s.group, index: uint16(j), prefix: a.Prefix, iface: a.Interface, wire: a.Interface}
		if mac != nil && a.Interface == s.cfg.Interface {
			v.iface = mac.Name()
		}
		out = append(out, v)
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
)

// stagePort is an interface with groups of one family, as the stage knows it.
type stagePort struct {
	slot   uint16
	name   string
	v6     bool
	rx     int
	index  int32
	reason reason
	addr   netip.Addr
}

// portOf is the port of a group, which begins with its first one.
func (st *stage) portOf(s seat) *stagePort {
	for _, p := range st.ports {
		if p.slot == s.port {
			return p
		}
	}
	p := &stagePort{slot: s.port, name: s.cfg.Interface, v6: s.cfg.v6(), rx: -1, reason: reasonStarting}
	st.ports = append(st.ports, p)
	st.checkPort(p)
	return p
}

// checkPort compares a port with what is known of its interface and reports
// a difference. The socket is opened when the interface first exists.
func (st *stage) checkPort(p *stagePort) {
	n := stagePort{slot: p.slot, name: p.name, v6: p.v6, rx: p.rx}
	l, ok := st.links[p.name]
	n.addr, n.reason = st.source(l.Index, p.v6)
	switch {
	case !ok:
		n.reason = reasonMissing
	case !l.Up:
		n.reason = reasonDown
	}
	if n.index = l.Index; n.index != p.index || (ok && n.rx < 0) {
		n.rx = -1
		if ok {
			n.rx = st.openPort(&n)
		}
	}
	if *p != n {
		*p = n
		st.report(report{kind: reportPort, port: n.slot, reason: n.reason, rx: n.rx, index: n.index, addr: n.addr})
	}
}

// source is the address of an interface that adverts of a family are sent
// from, or why there is none: section 5.1.1.1 the primary IPv4 address, section
// 5.1.2.1 the link-local one, which may still be in doubt.
func (st *stage) source(index int32, v6 bool) (netip.Addr, reason) {
	own, local := st.own[index], st.local[index]
	switch {
	case !v6 && len(own) == 0:
		return netip.Addr{}, reasonNoAddress
	case !v6:
		return own[0].Addr(), reasonNone
	case !local.Addr.IsValid():
		return netip.Addr{}, reasonNoLinkLocal
	case local.Duplicate:
		return local.Addr, reasonDuplicate
	case local.Tentative:
		return local.Addr, reasonTentative
	}
	return local.Addr, reasonNone
}

func (st *stage) openPort(p *stagePort) int {
	fd, err := openReceiver(p.name, p.index, p.v6)
	if err != nil {
		fmt.Fprintln(os.Stderr, "adverts:", err)
		if p.reason = reasonMissing; p.v6 { // IPv6 is off
			p.reason = reasonNoLinkLocal
		}
		return -1
	}
	return fd
}

// endPort ends a port that no set is on any more. Its socket is the election
// thread's to let go of.
func (st *stage) endPort(p *stagePort) {
	if slices.ContainsFunc(st.sets, func(ss *stageSet) bool { return slices.Contains(ss.ports, p) }) || !slices.Contains(st.ports, p) {
		return
	}
	st.ports = slices.DeleteFunc(st.ports, func(other *stagePort) bool { return other == p })
	st.report(report{kind: reportPort, port: p.slot, rx: -1, reason: reasonStarting})
}

// SPDX-License-Identifier: Apache-2.0

package vip

import "slices"

// Timing says when a group's addresses are announced. Its names are those of
// the garp options; times are nanoseconds.
type Timing struct {
	Interval      int64 // least time between two announcements on an interface, the widest of its groups counts; 0: see crowd
	Delay         int64 // from the first set of announcements to the second; 0: no second
	Refresh       int64 // between refreshes while the role lasts; 0: none
	Repeat        int   // announcements of each address in a set, 1 or more
	RefreshRepeat int   // and in a refresh
}

const (
	// roundGap lies between two announcements of one address: a host or switch
	// that lost one in a burst of ours shall not lose all.
	roundGap = int64(20_000_000)
	// Without an interval of the operator's a crowd of addresses is announced
	// at once, and what is beyond at a pace that switches and hosts still learn
	// from: 64, then 4000 a second, per interface.
	crowd     = 64
	crowdPace = int64(250_000)
)

// Announcements is the machine that says which address is announced when. It
// sends nothing and knows no clock: now is CLOCK_MONOTONIC in nanoseconds. An
// address is an index, an interface another one; what is announced on one
// interface does not hold up another.
//
//	Start ->  Repeat rounds, roundGap apart  ->  after Delay: Repeat rounds  ->  each Refresh: RefreshRepeat rounds
type Announcements struct {
	items  []announcement
	ifaces []pace
	due    []int // scratch
}

// pace is one interface's.
type pace struct {
	interval int64
	free     int64 // when it may send, as if there were no crowd
}

type announcement struct {
	timing Timing
	iface  int
	at     int64 // next round, 0: none
	second int64 // when the second set begins, 0: none to come
	left   int   // rounds left of this set or refresh
	reply  bool  // requests and replies by turns: some stacks learn from one only
	slow   bool  // the next round is a refresh

	removed bool // the index is free
}

// Add adds an address on an interface and gives its index: that of one that was
// removed, or the next one from 0.
func (m *Announcements) Add(iface int, t Timing) (i int) {
	i = slices.IndexFunc(m.items, func(a announcement) bool { return a.removed })
	if i < 0 {
		i = len(m.items)
		m.items = append(m.items, announcement{})
	}
	m.items[i] = announcement{timing: t, iface: iface}
	for len(m.ifaces) <= iface {
		m.ifaces = append(m.ifaces, pace{})
	}
	m.ifaces[iface].interval = max(m.ifaces[iface].interval, t.Interval)
	return i
}

// Remove ends address i: nothing is announced of it, and its index is free.
func (m *Announcements) Remove(i int) {
	m.Retime(i, Timing{})
	m.items[i] = announcement{iface: m.items[i].iface, removed: true}
}

// Retime gives address i another timing, from its next Start on; false: it has
// that one.
func (m *Announcements) Retime(i int, t Timing) bool {
	if m.items[i].timing == t {
		return false
	}
	m.items[i].timing = t
	on := m.items[i].iface
	m.ifaces[on].interval = 0
	for k := range m.items {
		if a := &m.items[k]; a.iface == on {
			m.ifaces[on].interval = max(m.ifaces[on].interval, a.timing.Interval)
		}
	}
	return true
}

// Start announces address i from now on, as at a takeover; one that is being
// announced begins again.
func (m *Announcements) Start(i int, now int64) {
	a := &m.items[i]
	a.at, a.left, a.second, a.reply, a.slow = now, a.timing.Repeat, 0, false, false
	if a.timing.Delay > 0 {
		a.second = now + a.timing.Delay
	}
}

// Stop ends what Start began.
func (m *Announcements) Stop(i int) { m.items[i].at = 0 }

// Hold puts refreshes of address i off until a time; sets go on.
func (m *Announcements) Hold(i int, until int64) {
	if a := &m.items[i]; a.slow && a.at != 0 {
		a.at = max(a.at, until)
	}
}

// Next is when Due has work, 0 never.
func (m *Announcements) Next() int64 {
	next := int64(0)
	for i := range m.items {
		a := &m.items[i]
		if a.at == 0 {
			continue
		}
		if t := max(a.at, m.ifaces[a.iface].opens()); next == 0 || t < next {
			next = t
		}
	}
	return next
}

// opens is when the interface takes the next announcement.
func (p *pace) opens() int64 {
	if p.interval == 0 {
		return p.free - (crowd-1)*crowdPace
	}
	return p.free
}

// take counts an announcement.
func (p *pace) take(now int64) {
	step := p.interval
	if step == 0 {
		step = crowdPace
	}
	p.free = max(p.free, now) + step
}

// Due calls send for each announcement that is due, those that waited longest
// first: every address has its first one before any has its second.
func (m *Announcements) Due(now int64, send func(i int, reply bool)) {
	m.due = m.due[:0]
	for i := range m.items {
		if a := &m.items[i]; a.at != 0 && a.at <= now {
			m.due = append(m.due, i)
		}
	}
	slices.SortStableFunc(m.due, func(a, b int) int { return int(m.items[a].at/1e3 - m.items[b].at/1e3) })
	for _, i := range m.due {
		a := &m.items[i]
		p := &m.ifaces[a.iface]
		if p.opens() > now {
			continue
		}
		p.take(now)
		send(i, a.reply)
		a.next(now)
	}
}

// next plans the round after the one of now.
func (a *announcement) next(now int64) {
	a.left--
	a.reply = !a.reply
	switch {
	case a.left > 0:
		a.at = now + roundGap
	case a.second != 0:
		a.at, a.left, a.second = max(a.second, now+roundGap), a.timing.Repeat, 0
	case a.timing.Refresh != 0:
		a.at, a.left, a.slow = now+a.timing.Refresh, a.timing.RefreshRepeat, true
	default:
		a.at = 0
	}
}

// SPDX-License-Identifier: Apache-2.0

package vrrp

import "net/netip"

// Status is what a member shows.
type Status struct {
	State          State
	Priority       uint8 // effective
	Active         netip.Addr
	ActivePriority uint8
	ActiveInterval int64 // ns
	Since          int64 // of State
	WouldPreempt   bool
	Checksum       Checksum // of the next advert; v3 over IPv4 alone has a choice
	PeerChecksum   Checksum // of the last advert heard, ChecksumAuto: none was
	Conflict       bool
	Counters       *Counters // live; the caller adds what it alone sees (SendErrors)
}

// Status describes member i. Active is this router's own primary address
// when it has the role.
func (s *Set) Status(i int) Status {
	in := &s.members[i]
	st := Status{
		State: s.state, Priority: in.cfg.Priority, Since: s.since,
		Active: in.peer, ActivePriority: in.peerPriority, ActiveInterval: in.activeInterval,
		WouldPreempt: s.wants, Conflict: s.rival == i+1, Counters: &in.count,
		Checksum: in.checksum(), PeerChecksum: in.peerSum,
	}
	if s.state == Active {
		st.Active, st.ActivePriority, st.ActiveInterval = in.source, in.cfg.Priority, in.cfg.Interval
	}
	return st
}

// Advert fills a with member i's advert at the given priority and returns the
// checksum to send it with: the configured one, or the peer's.
func (s *Set) Advert(i int, priority uint8, a *Advert) Checksum {
	in := &s.members[i]
	*a = Advert{Version: in.cfg.Version, VRID: in.cfg.VRID, Priority: priority,
		Interval: in.cfg.Interval, Addresses: in.cfg.Addresses,
		AuthType: in.cfg.AuthType, Auth: in.cfg.Auth}
	return in.checksum()
}

// checksum is the configured one, else the peer's, else with the pseudo-header.
func (in *Instance) checksum() Checksum {
	switch {
	case in.cfg.Checksum != ChecksumAuto:
		return in.cfg.Checksum
	case in.peerSum != ChecksumAuto:
		return in.peerSum
	}
	return ChecksumPseudoHeader
}

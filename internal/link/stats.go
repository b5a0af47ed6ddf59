// SPDX-License-Identifier: Apache-2.0

package link

import (
	"net/netip"
	"time"
)

// Stats is what a Link counted since Run.
type Stats struct {
	Interface                        string
	Local                            netip.Addr // invalid while the interface has no address
	Carrier                          bool
	MTU                              int
	LastHeard                        time.Time // of any valid datagram; zero: never
	SentDatagrams, SentBytes         uint64
	ReceivedDatagrams, ReceivedBytes uint64
	SendErrors                       uint64
	LastSendError                    string
	DroppedHops                      uint64 // hop limit not 255: not from this link
	DroppedInterface                 uint64 // came by another interface
	DroppedStranger                  uint64 // source is no peer
	DroppedTruncated                 uint64 // longer than the MTU
	DroppedUnsealed                  uint64 // not sealed, though we have keys
	DroppedUnknownKey                uint64 // sealed with a key that is not ours
	DroppedForged                    uint64 // the seal is broken
	Peers                            []PeerStats
}

// PeerStats is one peer on this link.
type PeerStats struct {
	Address   netip.Addr
	Name      string
	Up        bool
	LastHeard time.Time // of a valid datagram; zero: never
}

// Stats gives the counters.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	s := l.stats
	l.mu.Unlock()
	now, wall := l.cfg.Now(), time.Now()
	l.node.Lock()
	defer l.node.Unlock()
	for _, st := range l.stations() {
		ps := PeerStats{Address: st.addr, Name: st.peer.Name(), Up: st.peer.Up()}
		if at := st.peer.Heard(); at != 0 {
			ps.LastHeard = wall.Add(time.Duration(at - now))
		}
		s.Peers = append(s.Peers, ps)
	}
	return s
}

// count changes the counters under their lock.
func (l *Link) count(fn func(s *Stats)) {
	l.mu.Lock()
	fn(&l.stats)
	l.mu.Unlock()
}

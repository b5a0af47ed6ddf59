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
	DroppedOwn                       uint64 // our own call, come back
	DroppedNamesake                  uint64 // of a node that has our name, or a peer's
	Namesake                         netip.Addr
	NamesakeName                     string
	NamesakeHeard                    time.Time // the last time
	DroppedTruncated                 uint64    // longer than the MTU
	DroppedUnsealed                  uint64    // not sealed, though we have keys
	DroppedUnknownKey                uint64    // sealed with a key that is not ours
	DroppedForged                    uint64    // the seal is broken
	Peers                            []PeerStats
}

// PeerStats is one station on this link, and the path to its peer.
type PeerStats struct {
	Address   netip.Addr
	Given     bool      // configured
	Name      string    // of the peer; empty: not known yet
	Up        bool      // the peer, whatever the path
	LastHeard time.Time // of a valid datagram by this path; zero: never

	InUse    bool      // the path carries more than heartbeats
	Hearing  bool      // the peer is heard by it
	Echoed   bool      // the peer hears us by it, as far as it says
	Since    time.Time // when one of the two changed last; zero: no peer
	Payload  int       // largest datagram
	Sent     uint64
	Received uint64
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
		ps := PeerStats{Address: st.addr, Given: st.given}
		if st.path != nil {
			p := st.path.Stats()
			ps.Name, ps.Up = st.peer.Name(), st.peer.Up()
			ps.InUse, ps.Hearing, ps.Echoed, ps.Payload, ps.Sent, ps.Received = p.InUse, p.Hearing, p.Echoed, p.Payload, p.Sent, p.Received
			ps.Since = wall.Add(time.Duration(p.Since - now))
			if p.Heard != 0 {
				ps.LastHeard = wall.Add(time.Duration(p.Heard - now))
			}
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

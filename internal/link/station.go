// SPDX-License-Identifier: Apache-2.0

package link

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tandem-ha/tandem/syncproto"
)

const (
	callEvery = 100 * time.Millisecond // to whom an answer is expected
	callSlow  = time.Second            // to whom none has come for a while
	eagerFor  = 3 * time.Second        // how long one is expected
	maxFound  = 8                      // stations found on one link
	maxPeers  = 16                     // nodes, over all links
)

// station is an address on this link at which a node lives, or may live. It has
// a peer once a call or a hello from there told the name: a call may be an old
// one, played again, and must not begin more than this. The Node's lock guards it.
type station struct {
	addr  netip.Addr
	given bool // configured
	peer  *syncproto.Peer
	path  *syncproto.Path // of peer, by this link to addr; nil as long as peer is

	heardCall int64 // when it called last
	called    int64 // when we did
	bound     int64 // when it got its peer
	owes      bool  // it asked for a call
	eager     int64 // calls are frequent until then
}

// addStation makes room for an address; nil: there is none. The lock is held.
func (l *Link) addStation(a netip.Addr, given bool, now int64) *station {
	st := &station{addr: a, given: given, eager: now + int64(eagerFor)}
	all := slices.Clone(l.stations())
	if !given && len(all) >= maxFound {
		i := oldestCaller(all)
		if i < 0 || now < l.nextEvict {
			return nil
		}
		l.nextEvict = now + int64(callEvery)
		all[i].leave(now)
		all = slices.Delete(all, i, i+1)
	}
	all = append(all, st)
	l.mu.Lock()
	l.peers = all
	l.mu.Unlock()
	return st
}

// oldestCaller gives the station that was found, never spoke in a session, and
// called longest ago; -1: there is none such.
func oldestCaller(all []*station) int {
	oldest := -1
	for i, st := range all {
		spoke := st.path != nil && st.path.Stats().Heard != 0
		if !st.given && !spoke && (oldest < 0 || st.heardCall < all[oldest].heardCall) {
			oldest = i
		}
	}
	return oldest
}

// stations gives them; the slice is never written to.
func (l *Link) stations() []*station {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peers
}

// at gives the station of an address, nil if there is none.
func at(all []*station, a netip.Addr) *station {
	for _, st := range all {
		if st.addr == a {
			return st
		}
	}
	return nil
}

// leave takes the station's path from its peer.
func (st *station) leave(now int64) {
	if st.path != nil {
		st.peer.RemovePath(st.path, now)
	}
	st.peer, st.path = nil, nil
}

// hearing says whether the peer is heard at this station.
func (st *station) hearing() bool { return st.path != nil && st.path.Hearing() }

// introduced takes the name that a call or a hello from an address told. The
// lock is held.
func (l *Link) introduced(a netip.Addr, who *syncproto.Who, now int64) *station {
	st := at(l.stations(), a)
	if st == nil && len(l.cfg.Peers) == 0 {
		st = l.addStation(a, false, now)
	}
	if st == nil {
		return nil
	}
	name := who.Name
	if name == "" {
		name = a.String()
	}
	if st.peer == nil || st.peer.Name() != name && !st.hearing() && now >= st.bound+int64(callEvery) {
		l.bind(st, name, now)
	}
	if who.Call {
		st.heardCall, st.owes = now, st.owes || who.Asks
	}
	return st
}

// bind makes a station a path to the peer of that name.
func (l *Link) bind(st *station, name string, now int64) {
	st.leave(now)
	p := l.node.Named(name)
	if p == nil && len(l.node.Peers()) < maxPeers {
		p = l.node.AddPeer(name, now)
	}
	if p == nil {
		return
	}
	if pa := p.AddPath(l.order, now); pa != nil {
		st.peer, st.path, st.bound = p, pa, now
		st.eager = now + int64(eagerFor) // whoever told its name may not know ours
		l.cfg.Log.Debug("found a path", "peer", name, "interface", l.cfg.Interface, "address", st.addr)
	}
}

// nextCall is when the station is to be called: often as long as an answer is
// expected, not at all while the peer is heard and does not ask.
func (st *station) nextCall(now int64) int64 {
	switch {
	case st.owes || st.given && st.path == nil:
	case st.hearing():
		return never
	case now >= st.eager:
		return st.called + int64(callSlow)
	}
	return st.called + int64(callEvery)
}

const never = int64(1<<63 - 1)

// due is when there is something to send to the station.
func (st *station) due(now int64) int64 {
	d := st.nextCall(now)
	if st.path != nil {
		d = min(d, st.path.Deadline())
	}
	return d
}

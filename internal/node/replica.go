// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/internal/takeover"
	"github.com/tandem-ha/tandem/syncproto"
)

// adoptSlice bounds how long the node's lock is held for one slice of Adopt.
const adoptSlice = 1024

// replica shows the replication machine, under its one lock, to the takeover
// (Replica, Views) and to the capture (loader.Sink, sink.go).
type replica struct {
	node   *link.Locked
	wake   func() // of the link: there is something to send
	now    func() int64
	post   func(takeover.Event) // to the machine of the takeover
	stream *event.Stream
	log    *slog.Logger

	commit  *takeover.Committer
	forget  func()                   // of the capture: every flow is told again
	vouch   func(at int64)           // of the election, nil until it runs; under the lock
	sends   map[*syncproto.Peer]bool // who says that it is Active and that its adverts leave; under the lock
	drained bool                     // as last told; under the lock
	active  bool                     // under the lock
	whole   int64                    // since when all of the views is own, in a term as Active; 0: not yet; under the lock
	local   map[netip.Addr]bool      // own non-virtual addresses; under the lock

	telling sync.Mutex // held from when events are taken until they are posted; taken before the node's lock

	out   [2]taken // what the committer has, in the order in which it took them; under the lock
	taken int      // of out
}

// taken is what one Take gave: whose, and the token of each operation.
type taken struct {
	peers  []*syncproto.Peer
	tokens [][]syncproto.Token // by peer
}

// SetActive, SetState, Release, Forget and DropReleased are takeover.Replica.
//
// A promotion makes the capture forget what it has told: an entry that was
// written anew may look like its former life to it, and would stay untold.
func (r *replica) SetActive(on bool) {
	if on {
		r.forget()
	}
	r.locked(func(int64) {
		r.active, r.whole = on, 0
		r.node.SetActive(on)
	})
}

func (r *replica) SetState(s takeover.State) {
	r.locked(func(now int64) { r.node.SetState(s.Append(nil), now) })
}

func (r *replica) Release() { r.locked(func(now int64) { r.node.Release(now) }) }

func (r *replica) DropReleased() { r.locked(func(now int64) { r.node.DropReleased(now) }) }

func (r *replica) Forget() {
	r.locked(func(int64) {
		for _, p := range r.node.Peers() {
			p.View().Forget()
		}
	})
	r.commit.Wake()
}

// Stale is takeover.Replica too.
func (r *replica) Stale() bool {
	r.node.Lock()
	defer r.node.Unlock()
	return r.node.Stale()
}

// Reclaim is takeover.Replica too.
func (r *replica) Reclaim(id takeover.PeerID) {
	r.locked(func(now int64) {
		if peers := r.node.Peers(); int(id) < len(peers) {
			r.whole = 0
			r.node.Reclaim(peers[id], now)
		}
	})
}

// Bequeath is takeover.Replica too.
func (r *replica) Bequeath(id takeover.PeerID) {
	r.locked(func(now int64) {
		if peers := r.node.Peers(); int(id) < len(peers) {
			r.node.Bequeath(peers[id], now)
		}
	})
}

// Take, Done, Uncommitted and Adopt are takeover.Views.
func (r *replica) Take(ops []conntrack.Op, minAge time.Duration) (_ []conntrack.Op, more bool) {
	r.node.Lock()
	defer r.node.Unlock()
	t := &r.out[r.taken]
	t.peers = append(t.peers[:0], r.node.Peers()...)
	for len(t.tokens) < len(t.peers) {
		t.tokens = append(t.tokens, nil)
	}
	now, before := r.now(), len(ops)
	for i, p := range t.peers {
		ops, t.tokens[i] = p.View().Pending(ops, t.tokens[i][:0], cap(ops)-len(ops), minAge, now)
		more = more || p.View().Forgetting()
	}
	if len(ops) > before {
		r.taken++
	}
	return ops, more
}

func (r *replica) Done(ops []conntrack.Op) {
	r.node.Lock()
	defer r.node.Unlock()
	t := &r.out[0]
	for i, p := range t.peers {
		n := len(t.tokens[i])
		p.View().Done(t.tokens[i], ops[:n])
		ops = ops[n:]
	}
	r.out[0], r.out[1] = r.out[1], r.out[0]
	r.taken--
}

func (r *replica) Uncommitted() (n int) {
	r.node.Lock()
	defer r.node.Unlock()
	for _, p := range r.node.Peers() {
		n += p.View().Uncommitted()
	}
	return n
}

// Adopt wakes the link only for what is new. The committer calls it again and
// again while this node is Active, whenever the link has ticked: the two would
// wake each other for ever.
func (r *replica) Adopt() (more bool) {
	r.node.Lock()
	now := r.now()
	before, _ := r.node.Backlog(now)
	if more = r.node.Adopt(adoptSlice, now); !more && r.whole == 0 {
		r.whole = now
	}
	after, _ := r.node.Backlog(now)
	r.node.Unlock()
	if after != before {
		r.wake()
	}
	return more
}

// locked runs fn under the lock and lets the link send what came of it.
func (r *replica) locked(fn func(now int64)) {
	r.node.Lock()
	fn(r.now())
	r.node.Unlock()
	r.wake()
}

// notify is called by each link, without the lock, after it received or ticked:
// what happened goes to the machine, and news to the committer. Of two links the
// one that took a state first posts it first: else an old one could be the last.
func (r *replica) notify() {
	r.telling.Lock()
	defer r.telling.Unlock()
	r.node.Lock()
	var out []takeover.Event
	for _, ev := range r.node.Events() {
		out = r.translate(out, ev)
		if ev.Kind == syncproto.PeerUp {
			r.drained = false // the machine forgets it, too
		}
	}
	if r.vouch != nil {
		r.vouch(r.vouches())
	}
	drained := r.drainedNow()
	if drained != r.drained {
		r.drained = drained
		out = append(out, takeover.Event{Kind: takeover.EvDrained, On: drained})
	}
	urgent := r.commit.Rushing() || r.active && r.late()
	r.node.Unlock()
	for _, ev := range out {
		r.post(ev)
	}
	if urgent {
		r.commit.Wake()
	}
}

// late says whether an Active has something of a view to write or to adopt.
// What a Backup commits ahead of need waits for its age, and for the committer
// to look: after each datagram it would look for nothing.
func (r *replica) late() bool {
	for _, p := range r.node.Peers() {
		if v := p.View(); v.Uncommitted() > 0 || v.Fresh() {
			return true
		}
	}
	return false
}

// closeEnough is a backlog so young that it is no reason to wait at an Active:
// under load there is always some change on its way.
const closeEnough = 20 * time.Millisecond

// drainedNow: an Active that has not made all of a view its own has not told it
// yet, however little is on its way; nor is what it told last acknowledged before
// everything older is.
func (r *replica) drainedNow() bool {
	now := r.now()
	flows, oldest := r.node.Backlog(now)
	if !r.active {
		return flows == 0
	}
	return r.whole != 0 && (flows == 0 || oldest < min(closeEnough, time.Duration(now-r.whole)))
}

func (r *replica) translate(out []takeover.Event, ev syncproto.Event) []takeover.Event {
	id := r.id(ev.Peer)
	name := ev.Peer.Name()
	say := func(k event.Kind, text string) {
		r.stream.Publish(event.Event{Kind: k, Subject: name, Text: text})
		r.log.Info("peer", "peer", name, "event", text)
	}
	view := func(on bool) takeover.Event {
		return takeover.Event{Kind: takeover.EvView, Peer: id, On: on}
	}
	switch ev.Kind {
	case syncproto.PeerUp:
		say(event.Peer, name+" is heard")
		return append(out, takeover.Event{Kind: takeover.EvPeerUp, Peer: id, Name: name}, view(ev.Peer.View().Complete()))
	case syncproto.PeerDown:
		say(event.Peer, name+" is silent: "+ev.Why)
		return append(out, takeover.Event{Kind: takeover.EvPeerDown, Peer: id})
	case syncproto.ViewComplete:
		say(event.View, "the view of "+name+" is complete")
		return append(out, view(true))
	case syncproto.PeerState:
		s, err := takeover.ParseState(ev.Blob)
		if err != nil {
			r.log.Warn("peer state not understood", "peer", name, "error", err)
			return out
		}
		r.sends[ev.Peer] = s.Role == takeover.RoleActive && s.Sending
		return append(out, takeover.Event{Kind: takeover.EvPeerState, Peer: id, State: s})
	}
	return out
}

// id is the peer's place; peers are never removed while the daemon runs.
func (r *replica) id(p *syncproto.Peer) takeover.PeerID {
	for i, q := range r.node.Peers() {
		if p == q {
			return takeover.PeerID(i)
		}
	}
	return -1
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"slices"
	"time"
)

// maxPaths is how many ways to one peer a PATH record can number.
const maxPaths = 16

// returnAfter is how long a better path must have worked again before it is
// used again: one that comes and goes is not worth the changes.
const returnAfter = int64(3 * time.Second)

// Path is one way to a peer: a link here and an address there. Sequence,
// sessions, window and dirty-set are the peer's, whatever the path; a path has
// its size and its liveness only.
//
//	A: path 1 -- heartbeat: "my path 1; I hear your path 2" --> B: path 2
//
// Whether a path carries is known at its far end, and may differ by direction.
// So each heartbeat says which of the receiver's paths were heard lately, by
// the number that their own heartbeats gave, and goes out on every path. What
// is not a heartbeat goes over the path in use.
type Path struct {
	p      *Peer
	number uint8 // 1 to maxPaths, in our PATH records
	order  int   // lower is better
	theirs uint8 // the number that the peer gave the same way; 0: not known
	limit  int   // largest datagram that the peer's end takes; 0: not known
	size   int   // largest that ours takes

	heard   int64 // last valid datagram; 0: never
	hearing bool  // one came lately
	echoed  bool  // the peer hears us by it
	since   int64 // when hearing or echoed changed last
	silence silence

	beat       int64 // when a heartbeat went out
	owesHello  bool
	owesBeat   bool
	sent, came uint64 // datagrams
}

// PathStats is how a path does.
type PathStats struct {
	InUse    bool // records, acknowledgements and state go by it
	Hearing  bool // the peer is heard by it
	Heard    int64
	Echoed   bool  // the peer says that it hears us by it, or says nothing of paths
	Since    int64 // when Hearing or Echoed changed last
	Payload  int   // largest datagram
	Sent     uint64
	Received uint64
}

// AddPath adds a way to the peer. Of several that carry the one of the lowest
// order is used. nil: there are too many.
func (p *Peer) AddPath(order int, now int64) *Path {
	taken := [maxPaths + 1]bool{}
	for _, q := range p.paths {
		taken[q.number] = true
	}
	number := 1 + slices.Index(taken[1:], false)
	if number == 0 {
		return nil
	}
	pa := &Path{p: p, number: uint8(number), order: order, since: now, size: MinPayload}
	p.paths = append(p.paths, pa)
	if p.use == nil {
		p.use = pa
	}
	pa.owesBeat = true
	if s := &p.session; !s.confirmed {
		s.due = min(s.due, max(now, s.next))
	}
	return pa
}

// RemovePath forgets a way to its peer.
func (p *Peer) RemovePath(pa *Path, now int64) {
	p.paths = slices.DeleteFunc(p.paths, func(q *Path) bool { return q == pa })
	if p.use != pa {
		return
	}
	p.use = nil
	p.choose(now)
	if p.use == nil && len(p.paths) > 0 {
		p.use = p.paths[0]
	}
	p.out.unreachable()
}

// Peer is whom the path leads to.
func (pa *Path) Peer() *Peer { return pa.p }

// Hearing says whether the peer was heard by this path lately.
func (pa *Path) Hearing() bool { return pa.hearing }

// InUse says whether what is not a heartbeat goes by this path.
func (pa *Path) InUse() bool { return pa.p.use == pa }

// Stats says how the path does.
func (pa *Path) Stats() PathStats {
	return PathStats{InUse: pa.InUse(), Hearing: pa.hearing, Heard: pa.heard, Echoed: pa.works(), Since: pa.since,
		Payload: pa.payload(), Sent: pa.sent, Received: pa.came}
}

func (pa *Path) payload() int {
	if pa.limit > 0 {
		return min(pa.size, pa.limit)
	}
	return pa.size
}

// quiet is how long a path may be silent before it is given up: three
// heartbeats, but no less than a host that is busy stands still.
func (p *Peer) quiet() int64 { return max(3*int64(p.n.cfg.Heartbeat), shortestSilence) }

const shortestSilence = 150 * int64(time.Millisecond)

// beatEvery is how often each path has a heartbeat. With several paths six of
// them fit a silence: so many in a row are seldom lost where one of five is.
func (p *Peer) beatEvery() int64 {
	if len(p.paths) > 1 {
		return min(int64(p.n.cfg.Heartbeat), p.quiet()/6)
	}
	return int64(p.n.cfg.Heartbeat)
}

// works says whether what we send by it arrives. A peer that says nothing of
// paths is taken at our own ears.
func (pa *Path) works() bool {
	if pa.p.reported == 0 {
		return pa.hearing
	}
	return pa.echoed
}

// hear notes a valid datagram.
func (pa *Path) hear(now int64) {
	pa.heard = now
	if !pa.hearing {
		pa.hearing, pa.since = true, now
		pa.p.oweBeats()
		pa.p.choose(now)
	}
}

// oweBeats lets every path say at once what changed.
func (p *Peer) oweBeats() {
	for _, q := range p.paths {
		q.owesBeat = true
	}
}

// newPair: what the peer said of its paths was of another life.
func (p *Peer) newPair() {
	p.reported = 0
	for _, q := range p.paths {
		q.theirs, q.limit, q.echoed, q.owesHello = 0, 0, false, false
	}
}

// quietPaths notes paths that fell silent.
func (p *Peer) quietPaths(now int64) {
	for _, q := range p.paths {
		if q.hearing && q.silence.over(q.heard, q.quietAt(), int64(p.n.cfg.Heartbeat), now) {
			q.hearing, q.since = false, now
			p.oweBeats()
			p.choose(now)
		}
	}
}

// quietAt is until when the peer must be heard by this path.
func (pa *Path) quietAt() int64 { return pa.heard + pa.p.quiet() }

// reportedPaths takes a PATH record of the datagram seq: which of our paths the
// peer hears, and what it calls the one by which this came.
func (p *Peer) reportedPaths(m *pathRecord, seq uint64, now int64) {
	if p.from != nil {
		p.from.theirs, p.from.limit = m.number, max(m.payload, MinPayload)
	}
	if seq <= p.reported {
		return // overtaken by a younger one
	}
	p.reported = seq
	for _, q := range p.paths {
		if on := m.heard>>(q.number-1)&1 != 0; on != q.echoed {
			q.echoed, q.since = on, now
		}
	}
	p.choose(now)
}

// report is our PATH record for one path.
func (pa *Path) report() pathRecord {
	m := pathRecord{number: pa.number, payload: pa.size}
	for _, q := range pa.p.paths {
		if q.hearing && q.theirs != 0 {
			m.heard |= 1 << (q.theirs - 1)
		}
	}
	return m
}

// choose looks for the best path that works. It leaves the one in use when
// that is silent, and then what was on the way is dirty again at once; or when
// a better one has worked for a while, and then nothing is lost. A peer that
// paired just now has not heard all of our paths yet.
func (p *Peer) choose(now int64) {
	var best *Path
	for _, q := range p.paths {
		if q.works() && (best == nil || q.order < best.order) {
			best = q
		}
	}
	switch {
	case best == nil || best == p.use:
		return
	case p.use == nil || !p.use.works() && now-p.session.since > p.quiet():
		p.change(best)
		p.out.unreachable()
	case best.order < p.use.order && now-best.since >= returnAfter:
		p.change(best)
	}
}

func (p *Peer) change(to *Path) {
	if p.use != nil && p.session.confirmed {
		p.stats.PathChanges++
	}
	p.use = to
	if p.unacked > 0 {
		p.ackDue = p.n.now
	}
}

// Receive takes one datagram that came by this path. An error says why it was
// refused; refusing moves a counter and nothing else. payload is not kept.
func (pa *Path) Receive(payload []byte, now int64) error {
	p := pa.p
	pa.came++
	p.from = pa
	return p.take(payload, now)
}

// Deadline is when Fill has something to send by this path, if nothing happens
// before; it moves earlier by calls of the Node's and the Peer's methods.
func (pa *Path) Deadline() int64 {
	p := pa.p
	d := p.session.due
	if pa.owesHello {
		return 0
	}
	if !p.session.confirmed {
		return d
	}
	if pa.owesBeat {
		return 0
	}
	d = min(d, p.stateDue, pa.beat+p.beatEvery())
	if p.use == pa {
		d = min(d, p.ackDue, p.repair.due, p.out.round.due, p.out.ready())
	}
	return d
}

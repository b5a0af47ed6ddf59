// SPDX-License-Identifier: Apache-2.0

package syncproto

import "time"

// A word per slot and peer says how far the peer is with it.
const (
	slotDirty   = 1 << iota // its content was not sent since it changed
	slotQueued              // it stands in a queue
	slotBased               // the peer acknowledged a full record of this use
	slotTold                // the peer may hold something of this slot
	slotJoin                // it was there when the session began, and is not acknowledged
	slotFlight              // a datagram that is not acknowledged carried it
	slotBits    = 6
	slotSeqTop  = 1<<(32-slotBits) - 1 // lowest bits of that datagram's sequence
	minWindow   = 32                   // datagrams in flight
	maxWindow   = 1024
	reorder     = 16 // a datagram is lost when one so much younger was acknowledged
	minTimeout  = int64(30 * time.Millisecond)
	maxTimeout  = int64(2 * time.Second)
	maxInFlight = 4 << 20 // bytes; the peer's socket holds 8 MiB of memory at least
	firstWindow = 64
	joinTurn    = 2  // of so many datagrams one takes from the join first
	batchSlots  = 64 // so many dirty slots do not wait for more

	sliceEvery = int64(time.Millisecond) // between slices of a walk over all slots
)

// once is something that is said until it is acknowledged.
type once uint8

const (
	idle once = iota
	due
	flying
	acked
)

// sender is the dirty-set for one peer: what it does not know yet, what is on
// the way, and how much of that may be.
type sender struct {
	p     *Peer
	seq   uint64 // of the last datagram; never starts again, whatever the session
	words [kinds][]*[chunkSize]uint32

	again, fresh queue // slots that were lost on the way; slots that changed
	dirty        int
	inFlight     int // slots
	both         int // slots that are dirty and in flight: counted twice above
	batchAt      int64

	joinKind kind // where the join goes on
	joinPos  uint32
	joinEnd  [kinds]uint32
	joinLeft int // not acknowledged
	joinTodo int // not sent
	turn     uint

	pace      pace
	flights   flights
	window    int
	size      int // of a datagram on this link
	srtt      int64
	sampled   uint64 // sequence of the last round trip taken
	backoff   uint
	slowed    uint64 // sequence at which the window shrank last
	complete  once
	release   once
	releaseTo uint64 // what RELEASE says
	releaseAt uint64 // the datagram that carried it last
	resync    once   // please send everything again
	rotation  rotation
	round     round
}

func (o *sender) init(p *Peer) {
	*o = sender{p: p, window: firstWindow, seq: o.seq, batchAt: forever, pace: o.pace}
	o.rotation.given.rate, o.round.due = resyncRate, forever
}

func (o *sender) word(slot uint32) *uint32 {
	k, i := slot&1, slot>>1
	for len(o.words[k]) <= int(i>>chunkBits) {
		o.words[k] = append(o.words[k], new([chunkSize]uint32))
	}
	return &o.words[k][i>>chunkBits][i&chunkMask]
}

// join begins a session: all own flows are to be sent. They are not queued; a
// cursor walks over them while changes go through the queues.
func (o *sender) join(now int64) {
	words, release, to := o.words, o.release, o.releaseTo
	o.init(o.p)
	o.words = words
	if release == due || release == flying { // the peer did not hear of it
		o.release, o.releaseTo = due, to
	}
	for k := range o.words {
		t := &o.p.n.own.tabs[k]
		o.joinEnd[k] = t.size
		for i := range t.size {
			w := o.word(slotOf(kind(k), i))
			*w = 0
			if t.at(i).has(flagUsed) {
				*w = slotJoin
				o.joinLeft++
			}
		}
	}
	o.joinTodo = o.joinLeft
	o.batchAt = now
	o.finishJoin()
}

// joinRest makes part of the join what came since it began and is not
// acknowledged.
func (o *sender) joinRest() {
	for k := range o.words {
		t := &o.p.n.own.tabs[k]
		for i := range t.size {
			w := o.word(slotOf(kind(k), i))
			if !t.at(i).has(flagUsed) || *w&(slotBased|slotJoin) != 0 {
				continue
			}
			*w |= slotJoin
			o.joinLeft++
			if *w&slotTold == 0 {
				o.joinTodo++
			}
		}
	}
	o.finishJoin()
}

func (o *sender) finishJoin() {
	if o.joinLeft == 0 && !o.p.n.cfg.Seeding && o.complete == idle && (o.release == idle || o.release == acked) {
		o.complete = due
	}
}

// changed makes a slot dirty.
func (o *sender) changed(slot uint32) { o.mark(slot, &o.fresh, o.p.n.now) }

func (o *sender) mark(slot uint32, q *queue, since int64) {
	w := o.word(slot)
	if *w&slotDirty == 0 {
		if *w&slotFlight != 0 {
			o.both++
		}
		if o.dirty == 0 {
			o.batchAt = min(o.batchAt, o.p.n.now+int64(max(0, o.p.n.cfg.BatchWindow)))
		}
		if o.dirty++; o.dirty == batchSlots {
			o.batchAt = o.p.n.now
		}
	}
	if *w&slotQueued == 0 {
		q.push(slot, since)
	}
	*w |= slotDirty | slotQueued
}

// freed is told that the flow of a slot ended. What the peer never heard of
// needs no word.
func (o *sender) freed(slot uint32) {
	w := o.word(slot)
	if *w&slotJoin != 0 {
		o.joinLeft--
		if *w&slotTold == 0 {
			o.joinTodo--
		}
		o.finishJoin()
	}
	*w &^= slotJoin | slotBased
	if *w&slotTold != 0 {
		o.changed(slot)
	} else {
		o.cleaned(w)
	}
}

// cleaned takes a slot out of what is dirty.
func (o *sender) cleaned(w *uint32) {
	if *w&slotDirty == 0 {
		return
	}
	*w &^= slotDirty
	o.dirty--
	if *w&slotFlight != 0 {
		o.both--
	}
}

// next gives the slot to send next, and where it came from.
func (o *sender) next() (slot uint32, from *queue, since int64, ok bool) {
	joinFirst := o.turn%joinTurn == 1
	if joinFirst {
		if slot, ok = o.nextJoin(); ok {
			return slot, nil, o.p.n.now, true
		}
	}
	for _, q := range [...]*queue{&o.again, &o.fresh} {
		for {
			s, since, some := q.peek()
			if !some {
				break
			}
			if w := o.word(s); *w&slotDirty == 0 {
				*w &^= slotQueued
				q.pop()
				continue
			}
			return s, q, since, true
		}
	}
	slot, ok = o.nextJoin()
	return slot, nil, o.p.n.now, ok
}

// nextJoin moves the cursor to a slot that nothing has sent yet.
func (o *sender) nextJoin() (uint32, bool) {
	for ; o.joinTodo > 0 && o.joinKind < kinds; o.joinKind, o.joinPos = o.joinKind+1, 0 {
		for ; o.joinPos < o.joinEnd[o.joinKind]; o.joinPos++ {
			slot := slotOf(o.joinKind, o.joinPos)
			if *o.word(slot)&(slotJoin|slotDirty|slotTold) == slotJoin {
				return slot, true
			}
		}
	}
	return 0, false
}

// sent notes that a datagram carries a slot's record of that class.
func (o *sender) sent(slot uint32, class byte, from *queue) {
	w := o.word(slot)
	if from != nil {
		from.pop()
		*w &^= slotQueued
	}
	o.cleaned(w)
	if *w&(slotJoin|slotTold) == slotJoin {
		o.joinTodo--
	}
	switch class {
	case classFull:
		o.p.stats.SentFull++
	case classShort:
		o.p.stats.SentShort++
	case classDelete:
		o.p.stats.SentDeletes++
	}
	if class != classDelete {
		*w |= slotTold
	}
	if *w&slotFlight == 0 {
		o.inFlight++
	}
	*w = *w&(1<<slotBits-1) | slotFlight | uint32(o.seq)<<slotBits
}

// waiting says how many flows wait to be sent.
func (o *sender) waiting() int { return o.dirty + o.joinTodo }

// open says whether another datagram of records may be in flight.
func (o *sender) open() bool {
	if !o.p.up || o.flights.n >= o.window || o.flights.n*o.size >= maxInFlight {
		return false
	}
	f := o.flights.oldest()
	return f == nil || o.seq-f.seq < window-64
}

func (o *sender) backlog(now int64) (int, time.Duration) {
	since := now
	for _, q := range [...]*queue{&o.again, &o.fresh} {
		if _, s, ok := q.peek(); ok {
			since = min(since, s)
		}
	}
	if f := o.flights.oldest(); f != nil && f.flows > 0 {
		since = min(since, f.since)
	}
	return o.waiting() + o.inFlight - o.both, time.Duration(now - since)
}

// deadline is when what is on the way is given up, or a resend goes on.
func (o *sender) deadline() int64 {
	d := forever
	if f := o.flights.oldest(); f != nil {
		d = f.at + o.timeout()
	}
	if o.rotation.resend.running {
		d = min(d, o.p.n.now+sliceEvery)
	}
	return d
}

// ready is when a datagram with records may be filled.
func (o *sender) ready() int64 {
	switch {
	case !o.open():
		return forever
	case o.said():
		return 0
	case o.waiting() > 0:
		return max(o.batchAt, o.pace.until)
	}
	return forever
}

// said says whether something that is said until it is acknowledged is due.
func (o *sender) said() bool { return o.complete == due || o.release == due || o.resync == due }

func (o *sender) timeout() int64 {
	t := max(4*o.srtt+2*ackDelay, minTimeout) << o.backoff
	return min(t, maxTimeout)
}

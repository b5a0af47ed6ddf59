// SPDX-License-Identifier: Apache-2.0

package syncproto

// flight is a datagram that must be acknowledged, and what it carried.
type flight struct {
	seq               uint64
	at, since         int64 // sent; since when its oldest record had waited
	flows             int
	complete, release bool
	resync            bool
	done              bool
	records           []carried
}

// carried is one record of a flight. Use tells apart the flows that a slot had.
type carried struct {
	slot, use uint32
	class     byte
}

// flights is a ring of them in the order of their sequences.
type flights struct {
	ring    [maxWindow]flight
	head, n int // n counts from head, done ones included
	// When what was sent, whatever became of it: no sequence is ever sent
	// twice, so that every acknowledgement is a true round trip.
	times [maxWindow]struct {
		seq uint64
		at  int64
	}
}

// sentAt gives when a datagram with records was sent, if it is remembered.
func (r *flights) sentAt(seq uint64) (int64, bool) {
	m := &r.times[seq%maxWindow]
	return m.at, m.seq == seq
}

func (r *flights) at(i int) *flight { return &r.ring[(r.head+i)%maxWindow] }

func (r *flights) oldest() *flight {
	if r.n == 0 {
		return nil
	}
	return r.at(0)
}

// add gives a place for a new flight, its records kept for their memory.
func (r *flights) add(seq uint64, now int64) *flight {
	f := r.at(r.n)
	r.n++
	*f = flight{seq: seq, at: now, since: now, records: f.records[:0]}
	m := &r.times[seq%maxWindow]
	m.seq, m.at = seq, now
	return f
}

// trim lets go of what is done at the head.
func (r *flights) trim() {
	for r.n > 0 && r.ring[r.head].done {
		r.head = (r.head + 1) % maxWindow
		r.n--
	}
}

// acknowledged takes an ack: what is stored is clean, what others overtook by
// far is lost.
func (o *sender) acknowledged(a *ack, now int64) {
	progress := false
	for i := range o.flights.n {
		f := o.flights.at(i)
		switch {
		case f.done:
		case a.has(f.seq):
			f.done, progress = true, true
			o.stored(f)
			o.p.stats.AckedDatagrams++
		case a.highest > f.seq+reorder && a.covers(f.seq):
			f.done = true
			o.lost(f)
		}
	}
	if at, ok := o.flights.sentAt(a.highest); ok && a.highest > o.sampled {
		o.sampled = a.highest
		o.sample(now - at)
	}
	if progress {
		o.backoff = 0
	}
	o.flights.trim()
}

// sample takes a round trip, the peer's delay included. It follows a peer that
// becomes slow at once: what is taken for lost and is not makes it slower.
func (o *sender) sample(rtt int64) {
	if rtt > o.srtt {
		o.srtt += (rtt - o.srtt) / 2
	} else {
		o.srtt += (rtt - o.srtt) / 8
	}
}

func (o *sender) stored(f *flight) {
	o.window = min(o.window+1, maxWindow)
	for _, c := range f.records {
		o.storedSlot(&c, f.seq)
	}
	if f.complete && o.complete == flying {
		o.complete = acked
	}
	if f.release && o.release == flying && f.seq == o.releaseAt {
		o.release = acked
	}
	if f.resync && o.resync == flying {
		o.resync = acked
	}
	o.finishJoin()
}

func (o *sender) storedSlot(c *carried, seq uint64) {
	w := o.word(c.slot)
	b := o.p.n.own.body(c.slot)
	if c.class == classFull && b.has(flagUsed) && b.link == c.use {
		*w |= slotBased
		if *w&slotJoin != 0 {
			*w &^= slotJoin
			o.joinLeft--
		}
	}
	if *w&slotFlight == 0 || *w>>slotBits != uint32(seq)&slotSeqTop {
		return // a later datagram carries it
	}
	o.landed(w)
	if c.class == classDelete {
		*w &^= slotTold
	}
}

// landed takes a slot out of what is on the way.
func (o *sender) landed(w *uint32) {
	*w &^= slotFlight
	o.inFlight--
	if *w&slotDirty != 0 {
		o.both--
	}
}

// lost makes dirty again what no later datagram carried. Nothing is sent again
// as it was: what goes out is the content of then.
func (o *sender) lost(f *flight) {
	o.p.stats.LostDatagrams++
	if f.seq > o.slowed { // once per window
		o.window = max(o.window*3/4, minWindow)
		o.slowed = o.seq
	}
	for _, c := range f.records {
		w := o.word(c.slot)
		if *w&slotFlight == 0 || *w>>slotBits != uint32(f.seq)&slotSeqTop {
			continue
		}
		o.landed(w)
		o.mark(c.slot, &o.again, f.since)
	}
	if f.complete && o.complete == flying {
		o.complete = due
	}
	if f.release && o.release == flying && f.seq == o.releaseAt {
		o.release = due
	}
	if f.resync && o.resync == flying {
		o.resync = due
	}
}

// timeouts gives up on what nobody acknowledged for too long.
func (o *sender) timeouts(now int64) {
	late, any := now-o.timeout(), false
	for i := range o.flights.n {
		f := o.flights.at(i)
		if f.at > late {
			break
		}
		if !f.done {
			f.done, any = true, true
			o.lost(f)
		}
	}
	if any && o.backoff < 5 {
		o.backoff++
	}
	o.flights.trim()
}

// unreachable takes back what is on the way to a peer that fell silent.
func (o *sender) unreachable() {
	for i := range o.flights.n {
		if f := o.flights.at(i); !f.done {
			f.done = true
			o.lost(f)
		}
	}
	o.flights.trim()
	o.window, o.backoff = firstWindow, 0
}

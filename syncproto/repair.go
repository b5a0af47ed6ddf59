// SPDX-License-Identifier: Apache-2.0

package syncproto

import "time"

// Repair finds what no rule of the protocol can: a copy that differs though
// every record was acknowledged (damaged memory, a fault of ours).
//
//	sender                                   receiver
//	a quiet range of slots    --- DIGEST -->  compares it with its view
//	marks the range dirty     <-- RESYNC ---  if it differs, with back-off
//	full records              ----------->    the view is well again
//
// A range is quiet when the peer acknowledged all of it as it is: then both
// sides must have the same sum, and no clock and no luck is needed to say so.

// Constants of ours, not of the format.
const (
	maxDigests  = 8    // in one turn of the rotation: a round takes longer, not more, with very many flows
	lookAhead   = 32   // ranges that one turn looks at to find quiet ones
	maxTrouble  = 1024 // differing ranges that are remembered
	maxGaps     = 16   // parts around refused slots that are asked for, per range
	firstAgain  = int64(time.Second)
	longestWait = int64(10 * time.Minute)

	resyncRate  = 64    // ranges that a peer may ask for, each second
	compareRate = 20000 // digests that are compared, each second: 60 ms of work
	allEvery    = 5 * second
	resendPace  = 8192 // slots in one slice of resend
	second      = int64(time.Second)
)

// bucket lets rate things pass each second, and as many at once after a pause.
type bucket struct {
	rate, left int64
	at         int64
}

func (b *bucket) take(now int64) bool {
	if fresh := (now - b.at) * b.rate / second; b.at == 0 || now-b.at > second {
		b.left, b.at = b.rate, now
	} else if fresh > 0 {
		b.left, b.at = min(b.left+fresh, b.rate), now
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}

// RepairStats counts repair with one peer.
type RepairStats struct {
	SentDigests             uint64
	Compared                uint64 // ranges of the peer's flows, with our copy
	Differing, Healed       uint64 // of them: found to differ, found to be well again
	Incomparable, Overtaken uint64 // digests: refused slots, something newer applied
	SentResync              uint64 // ranges that we asked for
	ReceivedResync          uint64 // ranges that the peer asked for
	RefusedResync           uint64 // of them more than we give
	ResentAll               uint64 // times that everything was sent again
}

// repair is the receiver's side, and what it has to say.
type repair struct {
	due      int64 // forever: nothing to say
	asks     []slotRange
	details  []slotRange // of which digests are asked for
	verdicts []verdictRecord
	trouble  map[uint32]trouble // differing ranges by their first slot
	compare  bucket
	gaps     []slotRange // for their memory
	stats    RepairStats
}

// trouble is a range that differs: when it is asked for again, if it still does.
type trouble struct {
	next  int64
	tries uint
	well  bool // healed; it is remembered until next
}

func (r *repair) init() {
	*r = repair{due: forever, compare: bucket{rate: compareRate}, stats: r.stats}
}

// receiveDigest compares a range with the view.
func (p *Peer) receiveDigest(body []byte, seq uint64, now int64) {
	var d digestRecord
	parseDigest(body, &d)
	r := &p.repair
	if !r.compare.take(now) {
		return
	}
	sum, flows, say, gaps := p.view.digest(d.slotRange, seq, digestKey(p.session.their), r.gaps[:0])
	r.gaps = gaps[:0]
	switch {
	case seq <= p.view.releasedTo: // of before its owner gave all flows up
		say = verdictNewer
	case say == verdictSame && (sum != d.sum || flows != d.flows):
		say = verdictDiffers
	}
	if d.round != 0 {
		if len(r.verdicts) < maxRound {
			r.verdicts = append(r.verdicts, verdictRecord{d.round, d.first, say, flows})
			r.due = now
		}
		return
	}
	r.judge(d.slotRange, say, gaps, now)
}

// judge acts upon a digest of the rotation.
func (r *repair) judge(s slotRange, say verdict, gaps []slotRange, now int64) {
	switch say {
	case verdictNewer:
		r.stats.Overtaken++
	case verdictRefused:
		r.stats.Incomparable++
		if len(gaps) <= maxGaps && len(r.details)+len(gaps) <= maxResync && len(gaps) > 0 {
			r.details, r.due = append(r.details, gaps...), now
		}
	case verdictSame:
		r.stats.Compared++
		r.same(s, now)
	case verdictDiffers:
		r.stats.Compared++
		r.differs(s, now)
	}
}

func (r *repair) same(s slotRange, now int64) {
	tr, known := r.trouble[s.first]
	if known && !tr.well {
		r.stats.Healed++
		tr.well = true
		r.trouble[s.first] = tr
	}
	if known && now >= tr.next {
		delete(r.trouble, s.first)
	}
}

func (r *repair) differs(s slotRange, now int64) {
	tr, known := r.trouble[s.first]
	if !known && len(r.trouble) >= maxTrouble || now < tr.next || len(r.asks) >= maxResync {
		return
	}
	if !known || tr.well {
		r.stats.Differing++
	}
	tr.well = false
	tr.next = now + min(firstAgain<<tr.tries, longestWait)
	tr.tries = min(tr.tries+1, 10)
	if r.trouble == nil {
		r.trouble = map[uint32]trouble{}
	}
	r.trouble[s.first] = tr
	r.asks, r.due = append(r.asks, s), now
	r.stats.SentResync++
}

// fill appends what the receiver has to say, up to limit.
func (r *repair) fill(b []byte, limit int) []byte {
	r.due = forever
	b, r.asks = fillResync(b, limit, resyncRanges, r.asks)
	b, r.details = fillResync(b, limit, resyncDigests, r.details)
	n := 0
	for ; n < len(r.verdicts) && len(b)+maxDigest <= limit; n++ {
		b = appendVerdict(b, &r.verdicts[n])
	}
	r.verdicts = r.verdicts[:copy(r.verdicts, r.verdicts[n:])]
	if len(r.asks)+len(r.details)+len(r.verdicts) > 0 {
		r.due = 0
	}
	return b
}

func fillResync(b []byte, limit int, what byte, list []slotRange) ([]byte, []slotRange) {
	n := min(len(list), (limit-len(b)-4)/6) // a slot has at most 4 bytes, the count 1
	if n <= 0 {
		return b, list
	}
	return appendResync(b, what, list[:n]), list[:copy(list, list[n:])]
}

// rotation is the sender's side.
type rotation struct {
	at     int64 // when digests go out again, with whatever goes out
	credit int64 // ranges that are due, times the length of a round
	kind   kind
	pos    uint32

	asked  []slotRange // of which the peer wants digests
	given  bucket      // what it may ask for
	allAt  int64       // when everything was begun to be sent again last
	resend struct {
		running bool
		kind    kind
		pos     uint32
	}
}

// fillDigests appends the digests that are due. Sums are of now, so records
// that the same datagram carries are of other ranges.
func (o *sender) fillDigests(b []byte, limit int, now int64) []byte {
	r, own := &o.rotation, &o.p.n.own
	if now < r.at || !o.settled() || o.p.n.mutant == mutantNoDigest {
		return b
	}
	beat := int64(o.p.n.cfg.Heartbeat)
	r.at = now + beat
	for len(r.asked) > 0 && len(b)+maxDigest <= limit {
		s := r.asked[len(r.asked)-1]
		r.asked = r.asked[:len(r.asked)-1]
		b, _ = o.digest(b, s, 0)
	}
	ranges := int64(0)
	for k := range own.tabs {
		ranges += int64(own.tabs[k].size+rangeSlots-1) / rangeSlots
	}
	period := int64(o.p.n.cfg.DigestRound)
	r.credit = min(r.credit+ranges*beat, maxDigests*period)
	for looked := 0; r.credit >= period && looked < lookAhead && len(b)+maxDigest <= limit; looked++ {
		s, ok := r.next(own)
		if !ok {
			break
		}
		var quiet bool
		if b, quiet = o.digest(b, s, 0); quiet {
			r.credit -= period
		}
	}
	return b
}

// settled: nothing of a join, and no RELEASE, is still on its way.
func (o *sender) settled() bool {
	return o.p.up && o.joinLeft == 0 && (o.release == idle || o.release == acked)
}

// next gives the range after the one before, the first after the last.
func (r *rotation) next(own *own) (slotRange, bool) {
	for range 1 + int(kinds) {
		if t := &own.tabs[r.kind]; r.pos < t.size {
			s := slotRange{slotOf(r.kind, r.pos), rangeSlots}
			r.pos += rangeSlots
			return s, true
		}
		r.kind, r.pos = (r.kind+1)%kinds, 0
	}
	return slotRange{}, false
}

// digest appends the digest of a range, if it is quiet.
func (o *sender) digest(b []byte, s slotRange, round uint32) ([]byte, bool) {
	if !o.quiet(s) {
		return b, false
	}
	d := digestRecord{round: round, slotRange: s}
	d.sum, d.flows = o.p.n.own.digest(s, digestKey(o.p.session.my))
	o.p.repair.stats.SentDigests++
	return appendDigest(b, &d), true
}

// quiet says whether the peer acknowledged each slot of a range as it is.
func (o *sender) quiet(s slotRange) bool {
	first := s.first >> 1
	for i := first; i < min(o.p.n.own.tabs[s.first&1].size, first+uint32(s.count)); i++ {
		if *o.word(slotOf(kind(s.first&1), i))&(slotDirty|slotFlight|slotJoin) != 0 {
			return false
		}
	}
	return true
}

// receiveResync does what the peer asks for, but no more than so much of it:
// who asks on and on makes this node work no harder.
func (p *Peer) receiveResync(body []byte, now int64) {
	o, s := &p.out, &p.repair.stats
	var ranges [maxResync]slotRange
	n := 0
	what, _ := parseResync(body, func(r slotRange) {
		ranges[n] = r
		n++
	})
	if what == resyncAll {
		if o.rotation.allAt == 0 || now-o.rotation.allAt > allEvery {
			o.resendAll(now)
		}
		return
	}
	for _, r := range ranges[:n] {
		switch {
		case !o.rotation.given.take(now):
			s.RefusedResync++
		case what == resyncDigests:
			if len(o.rotation.asked) < maxResync {
				o.rotation.asked = append(o.rotation.asked, r)
			}
		default:
			s.ReceivedResync++
			first := r.first >> 1
			for i := first; i < min(p.n.own.tabs[r.first&1].size, first+uint32(r.count)); i++ {
				o.sendAnew(slotOf(kind(r.first&1), i))
			}
		}
	}
}

// sendAnew has a slot sent in full once more. That an empty one is empty is then
// nobody's word: what the peer has in it is not known, and not to be deleted in
// its kernel table.
func (o *sender) sendAnew(slot uint32) {
	own := &o.p.n.own
	if b := own.body(slot); b.has(flagUsed) {
		*o.word(slot) &^= slotBased
	} else if !own.heldByPeer(slot) {
		b.clear(ownOwner)
	}
	o.changed(slot)
}

// resendAll begins to send everything again, in slices. What the peer has
// stays until it is overwritten.
func (o *sender) resendAll(now int64) {
	o.rotation.allAt = now
	o.rotation.resend.running, o.rotation.resend.kind, o.rotation.resend.pos = true, 0, 0
	o.p.repair.stats.ResentAll++
}

// resendSlice goes on with it, while the queue is short.
func (o *sender) resendSlice() {
	r := &o.rotation.resend
	if !r.running || o.dirty > resendPace {
		return
	}
	t := &o.p.n.own.tabs[r.kind]
	for end := min(t.size, r.pos+resendPace); r.pos < end; r.pos++ {
		o.sendAnew(slotOf(r.kind, r.pos))
	}
	if r.pos >= t.size {
		r.kind, r.pos = r.kind+1, 0
	}
	r.running = r.kind < kinds
}

// Resync sends everything to the peer again and asks it for the same; the view
// stays meanwhile. It says false when the peer is not up.
func (p *Peer) Resync(now int64) bool {
	p.n.now = now
	if !p.up {
		return false
	}
	p.out.resendAll(now)
	p.out.resync = due
	return true
}

// RepairStats gives the counters of repair.
func (p *Peer) RepairStats() RepairStats { return p.repair.stats }

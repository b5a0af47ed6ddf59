// SPDX-License-Identifier: Apache-2.0

package syncproto

import "time"

const (
	maxRound    = 64 // digests of a round whose verdict is waited for
	roundAgain  = int64(40 * time.Millisecond)
	roundTries  = 25 // a second: silent or busy for so long is given up
	roundListed = 100
)

// Comparison is the outcome of one round of digests over all own flows, or how
// far it has come.
type Comparison struct {
	Done       bool
	Ranges     int // of slots, all
	Same       int
	Differing  int // the peer's copy is another
	Refused    int // the peer refused flows in it: cannot be compared
	Busy       int // never quiet for long enough
	Unanswered int
	Flows      int               // own flows in what was compared
	Where      []RangeDifference // the first that differ
}

// RangeDifference is a range of slots whose copy differs.
type RangeDifference struct {
	Family      uint8 // conntrack.IPv4 or IPv6
	First, Last uint32
	Here, There int // flows
}

// round is a comparison under way: a few ranges at a time, each asked until
// there is a verdict.
type round struct {
	id      uint32
	running bool
	due     int64
	kind    kind
	pos     uint32
	out     []asked
	result  Comparison
}

type asked struct {
	slotRange
	flows int
	at    int64 // when it is asked again
	tries int
	sent  bool
}

// Compare begins a round: each range of own flows is compared with the peer's
// copy of it. Ask Compared for the outcome. It says false when the peer is not
// up. A round that runs begins anew.
func (p *Peer) Compare(now int64) bool {
	p.n.now = now
	if !p.up {
		return false
	}
	r := &p.out.round
	*r = round{id: max(1, r.id+1), running: true, due: now, out: r.out[:0]}
	for k := range p.n.own.tabs {
		r.result.Ranges += int(p.n.own.tabs[k].size+rangeSlots-1) / rangeSlots
	}
	r.finish()
	return true
}

// Compared gives the outcome of the last round.
func (p *Peer) Compared() Comparison { return p.out.round.result }

// fillRound appends digests of the round.
func (o *sender) fillRound(b []byte, limit int, now int64) []byte {
	r := &o.round
	if !r.running || now < r.due {
		return b
	}
	for r.more(&o.p.n.own) {
	}
	next := now + roundAgain
	kept := r.out[:0]
	for _, a := range r.out {
		if a.at <= now && len(b)+maxDigest <= limit {
			if a.tries == roundTries {
				if a.sent {
					r.result.Unanswered++
				} else {
					r.result.Busy++
				}
				continue
			}
			a.at, a.tries, a.sent = now+roundAgain, a.tries+1, false
			if o.settled() {
				at := len(b)
				if b, a.sent = o.digest(b, a.slotRange, r.id); a.sent {
					var d digestRecord
					_, body, _, _ := parseControl(b[at:])
					parseDigest(body, &d)
					a.flows = d.flows
				}
			}
		}
		next = min(next, a.at)
		kept = append(kept, a)
	}
	r.out, r.due = kept, next
	r.finish()
	return b
}

// more takes the next range into the round.
func (r *round) more(own *own) bool {
	for len(r.out) < maxRound && r.kind < kinds {
		if t := &own.tabs[r.kind]; r.pos < t.size {
			r.out = append(r.out, asked{slotRange: slotRange{slotOf(r.kind, r.pos), rangeSlots}})
			r.pos += rangeSlots
			return true
		}
		r.kind, r.pos = r.kind+1, 0
	}
	return false
}

func (r *round) finish() {
	if r.running && len(r.out) == 0 && (r.kind == kinds || r.result.Ranges == 0) {
		r.running, r.result.Done, r.due = false, true, forever
	}
}

// judged takes a verdict of the peer.
func (r *round) judged(v *verdictRecord, now int64) {
	if !r.running || v.round != r.id {
		return
	}
	for i := range r.out {
		a := &r.out[i]
		if a.first != v.first || !a.sent {
			continue
		}
		if v.verdict == verdictNewer { // as if it had not been quiet
			a.sent = false
			return
		}
		r.result.take(a, v)
		r.out[i] = r.out[len(r.out)-1]
		r.out = r.out[:len(r.out)-1]
		r.due = now // for the next range
		return
	}
}

func (c *Comparison) take(a *asked, v *verdictRecord) {
	c.Flows += a.flows
	switch v.verdict {
	case verdictSame:
		c.Same++
	case verdictRefused:
		c.Refused++
	case verdictDiffers:
		if c.Differing++; len(c.Where) < roundListed {
			last := a.first>>1 + uint32(a.count) - 1
			c.Where = append(c.Where, RangeDifference{kind(a.first & 1).family(), a.first >> 1, last, a.flows, v.flows})
		}
	}
}

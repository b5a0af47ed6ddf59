// SPDX-License-Identifier: Apache-2.0

package vrrp

// SecondPath is what a Backup does with silence while the Active says
// elsewhere than by adverts that it is Active and sends them. RFC 9568 knows
// adverts only; the caller vouches for the rest.
type SecondPath uint8

// Second paths.
const (
	SecondPathOff   SecondPath = iota // nobody asks
	SecondPathAlarm                   // ActDoubt, and the takeover goes on
	SecondPathHold                    // ActDoubt, and one more interval, once per silence
)

type secondPath struct {
	path    SecondPath
	vouched int64 // when the Active said so last; 0: it does not
	doubted bool  // ActDoubt is on
}

// SetSecondPath says what a timeout does that the second path denies.
func (s *Set) SetSecondPath(p SecondPath) { s.second.path = p }

// Vouched tells when the Active said last, over the second path, that it is
// Active, its interfaces up and its adverts sent; 0: it does not say so.
func (s *Set) Vouched(at int64) { s.second.vouched = at }

// fresh: what was said before the last interval says nothing of the adverts
// that are missing since. An Active that fell silent is not vouched for: its
// word is two intervals old when the timer runs out.
func (p *secondPath) fresh(s *Set, now int64) bool {
	interval := int64(0)
	for i := range s.members {
		interval = max(interval, s.members[i].activeInterval)
	}
	return p.path != SecondPathOff && p.vouched != 0 && now-p.vouched <= interval
}

// A lower router is taken for the heir of the one that was followed when the word
// that some Active sends adverts outlives that one's by heirAfter intervals, and
// stays it when the word comes again as long after. A dead Active's last word is
// no younger than that, however late it is read; and at its death whoever floods
// the segment would be taken for the heir.
const heirAfter = 2

// disowns says whether a router that spoke just now, and that we outrank, is
// nobody's heir: not the one that was followed so far, nor one that is vouched for.
func (p *secondPath) disowns(in *Instance, at int64) bool {
	enough := heirAfter * in.activeInterval
	if in.isStranger() {
		return p.vouched == 0 || at-p.vouched > in.activeInterval || p.vouched-in.armed < enough
	}
	if in.onWord != 0 && p.vouched-in.onWord >= enough {
		in.onWord = 0
	}
	return in.onWord != 0 && at-in.onWord > enough+in.activeInterval
}

// waits is asked when every member has timed out. It tells a doubt once per
// silence, and with hold gives that one more interval. A lower Active that is
// heard and being preempted is no silence.
func (p *secondPath) waits(s *Set, now int64) bool {
	if p.doubted || !p.fresh(s, now) || s.hears(now) {
		return false
	}
	p.doubted = true
	s.out = append(s.out, Action{Kind: ActDoubt, On: true})
	if p.path != SecondPathHold {
		return false
	}
	for i := range s.members {
		in := &s.members[i]
		in.expired, in.down = 0, now+in.activeInterval
	}
	return true
}

// hears: an advert came within an Active_Down_Interval.
func (s *Set) hears(now int64) bool {
	for i := range s.members {
		if in := &s.members[i]; in.heard != 0 && now-in.heard < in.activeDown() {
			return true
		}
	}
	return false
}

// end takes the doubt back: an advert was heard, the role was left, or nobody
// vouches any more.
func (p *secondPath) end(s *Set) {
	if p.doubted {
		p.doubted = false
		s.out = append(s.out, Action{Kind: ActDoubt})
	}
}

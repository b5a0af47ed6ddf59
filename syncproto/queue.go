// SPDX-License-Identifier: Apache-2.0

package syncproto

// queue is a first-in first-out of slots that costs memory only while slots
// wait. It knows roughly since when its head waits: per page, not per slot.
type queue struct {
	pages []*page
	spare *page
	n     int
}

type page struct {
	since      int64
	head, tail int
	slots      [510]uint32
}

func (q *queue) push(slot uint32, since int64) {
	var last *page
	if len(q.pages) > 0 {
		last = q.pages[len(q.pages)-1]
	}
	if last == nil || last.tail == len(last.slots) {
		if last = q.spare; last == nil {
			last = new(page)
		}
		q.spare = nil
		last.head, last.tail, last.since = 0, 0, since
		q.pages = append(q.pages, last)
	}
	last.slots[last.tail] = slot
	last.tail++
	q.n++
}

// peek gives the head without taking it.
func (q *queue) peek() (slot uint32, since int64, ok bool) {
	if q.n == 0 {
		return 0, 0, false
	}
	p := q.pages[0]
	return p.slots[p.head], p.since, true
}

func (q *queue) pop() {
	p := q.pages[0]
	p.head++
	q.n--
	if p.head < p.tail {
		return
	}
	if q.n == 0 { // since of a page that empties and fills again starts anew
		p.head, p.tail = 0, 0
	}
	q.spare = p
	copy(q.pages, q.pages[1:])
	q.pages[len(q.pages)-1] = nil
	q.pages = q.pages[:len(q.pages)-1]
}

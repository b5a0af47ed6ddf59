// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"net/netip"

	"github.com/tandem-ha/tandem/maps"
	"github.com/tandem-ha/tandem/vrrp"
)

// origin says which way an advert came.
type origin uint8

const (
	fromSocket origin = iota
	fromRing
)

// deafAfter is how many intervals of ours a ring may miss a group before an
// advert from the raw socket counts: someone removed the program, or the ring
// is full. Until then the socket's copy of each advert is ignored.
const deafAfter = 2

// advertRing is the ring of the programs at TC ingress and XDP; maps.Ring.
type advertRing interface {
	FD() int
	Pending() bool
	Drain(fn func(rec []byte)) int
	Close() error
}

// openRing makes the ring the first source of adverts. The raw sockets are
// read on: a silent ring alone must never look like a silent Active.
func (l *loop) openRing(fd int) error {
	r, err := maps.OpenRing(fd)
	if err != nil {
		return err
	}
	l.ring = r
	l.onRecord = l.takeRecord
	return l.listen(r.FD(), readyRing, 0)
}

func (l *loop) readRing() {
	if l.ring != nil && l.ring.Pending() {
		l.ring.Drain(l.onRecord)
	}
}

func (l *loop) takeRecord(rec []byte) {
	a, err := maps.ParseAdvert(rec)
	if err != nil {
		return
	}
	for _, p := range l.ports {
		if p.index != int32(a.IfIndex) || p.index == 0 || p.v6 != a.Src.Is6() {
			continue
		}
		if a.Dst != multicast(p.v6) && !p.speaksFrom(a.Dst) {
			return // forwarded through this router, between others
		}
		l.receive(p, a.Payload, vrrp.Meta{Src: a.Src, Dst: a.Dst, TTL: a.TTL}, a.At, fromRing)
		return
	}
}

// speaksFrom: adverts of the port are sent from this address, by one of its
// groups at least.
func (p *port) speaksFrom(a netip.Addr) bool {
	if a == p.addr {
		return true
	}
	for _, g := range p.members {
		if g.cfg.Source == a {
			return true
		}
	}
	return false
}

// believe says whether an advert of group g counts, by the way it came.
func (l *loop) believe(g *member, from origin) bool {
	switch {
	case l.ring == nil:
		return true
	case from == fromRing:
		if g != nil {
			g.ringAt = l.now
		}
		return true
	case g == nil || l.byRing(g):
		return false
	}
	if l.readRing(); l.byRing(g) { // it came since the ring was read
		return false
	}
	if !l.ring.Pending() { // else it may stand behind a record that another processor has not finished
		l.shm.ringMissed().Add(1)
	}
	return true
}

// byRing says whether the ring has brought adverts of group g of late.
func (l *loop) byRing(g *member) bool {
	return l.now-g.ringAt <= deafAfter*g.cfg.Interval
}

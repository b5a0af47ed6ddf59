// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// world is a set of routers on one or two segments with a hostile network,
// stepped event by event. While chaos lasts packets are lost, delayed,
// reordered, duplicated, and lost one way; routers stop, restart, freeze,
// lose interfaces. Then the network is quiet and whole.
type world struct {
	t       *rapid.T
	rng     *rand.Rand
	now     int64
	routers []*node
	wire    []packet
	loss    float64
	delay   int64 // at most
	oneWay  map[[3]int]bool
	stuck   int // steps without progress of time

	interval int64
}

type node struct {
	*Set
	addr   [2]netip.Addr // by segment
	frozen int64         // until, 0 not
	queue  []packet
	active bool // addresses are in, as its actions said
	moves  int  // changes of state
}

type packet struct {
	segment, from, to int
	at                int64
	pdu               []byte
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)), now: start, oneWay: map[[3]int]bool{}}
	segments := rapid.IntRange(1, 2).Draw(t, "segments")
	n := rapid.IntRange(2, 5).Draw(t, "routers")
	preempt := rapid.Bool().Draw(t, "preempt")
	gated := rapid.Bool().Draw(t, "gated")
	kinds := w.kinds(t, segments)
	for i := range n {
		priority := uint8(rapid.IntRange(1, 254).Draw(t, "priority"))
		if rapid.IntRange(0, 2).Draw(t, "equal") == 0 {
			priority = 100
		}
		c := router(priority, func(c *Config) { c.Preempt = preempt })
		if rapid.IntRange(0, 3).Draw(t, "delayed") == 0 {
			c.PreemptDelay = 10 * w.interval
		}
		c.Checksum = Checksum(rapid.IntRange(0, 2).Draw(t, "checksum"))
		var members []Config
		r := &node{}
		for m, kind := range kinds {
			kind(&c)
			members = append(members, c)
			if r.addr[m] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}); len(c.Addresses) == 16 {
				r.addr[m] = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(i + 1)})
			}
		}
		r.Set = NewSet(members, gated && i%2 == 0)
		w.routers = append(w.routers, r)
		for m := range members {
			r.SetSource(m, r.addr[m])
		}
	}
	for i := range w.routers {
		w.routers[i].Start(w.now)
		w.act(i)
	}
	return w
}

// kinds draws what each segment's virtual router is: version 2 with or
// without a password, version 3 over IPv4 or IPv6; the same on every router.
func (w *world) kinds(t *rapid.T, segments int) (out []func(*Config)) {
	version := rapid.IntRange(2, 3).Draw(t, "version")
	w.interval = 100 * ms
	if version == 2 {
		w.interval = second
	}
	for range segments {
		six, text := version == 3 && rapid.Bool().Draw(t, "IPv6"), version == 2 && rapid.Bool().Draw(t, "password")
		out = append(out, func(c *Config) {
			c.Version, c.Interval, c.Addresses, c.AuthType, c.Auth = uint8(version), w.interval, vip4, AuthNone, [8]byte{}
			if six {
				c.Addresses = vip6
			}
			if text {
				c.AuthType, c.Auth = AuthText, ones
			}
		})
	}
	return out
}

// meta is what the IP header of an advert of router i says.
func (w *world) meta(segment, i int) Meta {
	m := Meta{Src: w.routers[i].addr[segment], Dst: Group4, TTL: TTL}
	if m.Src.Is6() {
		m.Dst = Group6
	}
	return m
}

// act carries out what router i asked for.
func (w *world) act(i int) {
	r := w.routers[i]
	for _, a := range r.Actions() {
		switch a.Kind {
		case ActSend:
			w.send(i, a)
		case ActPromote:
			if r.active {
				w.t.Fatalf("router %d promoted twice", i)
			}
			r.active = true
		case ActDemote:
			if !r.active {
				w.t.Fatalf("router %d demoted without a promotion", i)
			}
			r.active = false
		case ActChanged:
			r.moves++
		}
	}
	if r.active != (r.State() == Active) {
		w.t.Fatalf("router %d: state %v, addresses in: %v", i, r.State(), r.active)
	}
}

func (w *world) send(i int, a Action) {
	r := w.routers[i]
	if r.members[a.Member].fault {
		return
	}
	var adv Advert
	sum := r.Advert(a.Member, a.Priority, &adv)
	pdu := adv.Append(nil, sum, w.meta(a.Member, i))
	for to := range w.routers {
		if to == i || w.oneWay[[3]int{a.Member, i, to}] || w.rng.Float64() < w.loss {
			continue
		}
		for range 1 + btoi(w.rng.Float64() < w.loss/4) {
			w.wire = append(w.wire, packet{a.Member, i, to, w.now + w.rng.Int64N(w.delay+1), pdu})
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// step runs to the next event, or to end.
func (w *world) step(end int64) bool {
	next, router, wire := end, -1, -1
	for i, r := range w.routers {
		d := r.NextDeadline()
		if r.frozen != 0 {
			d = r.frozen
		}
		if d != 0 && max(d, w.now) < next {
			next, router = max(d, w.now), i
		}
	}
	for i, p := range w.wire {
		if p.at < next {
			next, wire = max(p.at, w.now), i
		}
	}
	if w.stuck++; next > w.now {
		w.stuck = 0
	} else if w.stuck > 100_000 {
		w.t.Fatal("time stands still: a deadline in the past is never served")
	}
	w.now = next
	switch {
	case wire >= 0:
		p := w.wire[wire]
		w.wire = append(w.wire[:wire], w.wire[wire+1:]...)
		w.deliver(p)
	case router >= 0:
		w.wake(router)
	default:
		return false
	}
	return true
}

func (w *world) deliver(p packet) {
	r := w.routers[p.to]
	if r.members[p.segment].fault {
		return
	}
	r.queue = append(r.queue, p)
	if r.frozen == 0 {
		w.wake(p.to)
	}
}

// wake is a turn of the runner: Wake, read everything, Tick.
func (w *world) wake(i int) {
	r := w.routers[i]
	r.frozen = 0
	r.Wake(w.now)
	for _, p := range r.queue {
		if d := r.Receive(p.segment, p.pdu, w.meta(p.segment, p.from), p.at, w.now); d != DropNone {
			w.t.Fatalf("an honest advert was dropped: %d", d)
		}
		w.act(i)
	}
	r.queue = nil
	r.Tick(w.now, true)
	w.act(i)
}

// harm does one evil thing.
func (w *world) harm() {
	i := w.rng.IntN(len(w.routers))
	r := w.routers[i]
	switch w.rng.IntN(12) {
	case 0:
		r.Shutdown(w.now)
	case 1:
		r.Start(w.now)
	case 2:
		r.SetFault(w.rng.IntN(len(r.members)), w.rng.IntN(2) == 0, w.now)
	case 3:
		r.frozen = w.now + w.rng.Int64N(20*w.interval)
	case 4:
		w.oneWay[[3]int{w.rng.IntN(len(r.members)), i, w.rng.IntN(len(w.routers))}] = w.rng.IntN(2) == 0
	case 5:
		r.AllowPreempt(w.rng.IntN(2) == 0)
	case 6:
		r.Refuse(w.now)
	case 7:
		r.HandOver(w.now)
	case 8:
		r.SetUnwell(w.rng.IntN(len(r.members)), w.rng.IntN(2) == 0, w.now)
	case 9:
		r.SetAside(w.rng.IntN(2) == 0, w.now)
	case 10: // a weight counts for all members
		for m, priority := 0, uint8(1+w.rng.IntN(254)); m < len(r.members); m++ {
			r.SetPriority(m, priority)
		}
	case 11: // version 2 needs the same on every router
		for m := range r.members {
			if c := r.members[m].cfg; c.Version == 3 {
				c.Interval = w.interval / 2 * (1 + w.rng.Int64N(4))
				r.Reconfigure(m, c, w.now)
			}
		}
	}
	w.act(i)
}

func (w *world) heal() {
	w.loss, w.delay = 0, ms
	clear(w.oneWay)
	for i, r := range w.routers {
		for m := range r.members {
			r.SetFault(m, false, w.now)
			r.SetUnwell(m, false, w.now)
		}
		r.SetAside(false, w.now)
		r.Start(w.now)
		w.act(i)
	}
}

func (w *world) actives() (n int, who string) {
	for i, r := range w.routers {
		if r.State() == Active {
			n++
			who += fmt.Sprintf(" %d(priority %d)", i, r.members[0].cfg.Priority)
		}
	}
	return n, who
}

// Once the network is quiet and whole there is one Active, for good: never
// two, never none; and transitions end.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.loss = rapid.Float64Range(0, 0.6).Draw(t, "loss")
		w.delay = rapid.Int64Range(0, 3*w.interval).Draw(t, "delay")
		for range rapid.IntRange(0, 30).Draw(t, "harms") {
			for end := w.now + w.rng.Int64N(10*w.interval); w.step(end); {
			}
			w.harm()
		}
		w.heal()
		for end := w.now + 100*w.interval; w.step(end); {
		}
		moves := 0
		for _, r := range w.routers {
			moves += r.moves
		}
		for end := w.now + 200*w.interval; ; {
			if n, who := w.actives(); n != 1 {
				t.Fatalf("%d Actives at rest:%s", n, who)
			}
			if !w.step(end) {
				break
			}
		}
		for _, r := range w.routers {
			moves -= r.moves
		}
		if moves != 0 {
			t.Fatalf("%d changes of state at rest", -moves)
		}
	})
}

// Under a lasting partition of one segment of two the routers of a sync group
// do not flap: the Backup's other member keeps it where it is.
func TestModelPartedSegment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.delay = ms
		for end := w.now + 100*w.interval; w.step(end); {
		}
		for i := range w.routers {
			for j := range w.routers {
				w.oneWay[[3]int{0, i, j}] = true
			}
		}
		before := 0
		for _, r := range w.routers {
			before += r.moves
		}
		for end := w.now + 600*w.interval; w.step(end); {
		}
		after := 0
		for _, r := range w.routers {
			after += r.moves
		}
		// One segment: everyone becomes Active, once. Two: nobody moves.
		bound := 0
		if len(w.routers[0].members) == 1 {
			bound = len(w.routers) - 1
		}
		if after-before > bound {
			t.Fatalf("%d changes of state under a partition, at most %d", after-before, bound)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// world is two hosts, each with a node and a kernel table, over a network that
// does what it likes; and a plain map of what each host has told (the oracle).
// Host 0 tells flows 0 to 15, host 1 the same numbers in another net.
type world struct {
	noise   chance
	mutant  mutant
	now     int64
	hosts   [2]*host
	air     []packet
	tape    [2][][]byte // recorded on the way to a host, to be replayed
	parted  bool
	cut     [2][2]bool // on the way to a host, by path
	clean   bool       // the network behaves
	flipped bool       // names in views were damaged
	mark    uint32     // versions: every telling has a higher one
	byMark  map[uint32]*instance
	tally   tally
}

type packet struct {
	at   int64
	to   int
	path int
	data []byte
}

const universe = 16

// instance is one life of a flow, from its first telling to its end.
type instance struct {
	host, index  int
	mark         uint32 // of its latest content
	owner, ended bool
	ownedFrom    uint32 // the mark with which it became owned
	unsure       bool   // the peer cannot know whose word ended it
	byOwner      bool   // ended by the word of its owner
	late         bool   // RELEASE was said before the peer knew of its end
	ghost        bool   // the kernel lost it after Release
	flow         conntrack.Flow
	at           int64 // when it began
	slot         uint32
	hadSlot      bool // slot is the one that it ended in
}

type host struct {
	w        *world
	id       int
	node     *Node
	peer     *Peer // this node's idea of the other
	alive    map[int]*instance
	kernel   map[conntrack.Key]conntrack.Flow // what was committed of the other's flows
	unknown  map[conntrack.Key]bool           // entries of a former life, of which the node knows nothing
	released bool
	dropping bool
	active   bool

	// What this host saw in its view of the other.
	seen    map[conntrack.Key]uint32 // highest mark
	present map[conntrack.Key]bool   // seen in this life of the node
	shown   map[*instance]bool       // so, too, even if it is over
	tokens  []Token
	ops     []conntrack.Op
}

func newWorld(seed uint64, m mutant) *world {
	w := &world{noise: seeded(seed), mutant: m, now: 1e12, byMark: map[uint32]*instance{}}
	for i := range w.hosts {
		w.hosts[i] = &host{w: w, id: i, alive: map[int]*instance{}, kernel: map[conntrack.Key]conntrack.Flow{}}
		w.hosts[i].boot()
	}
	return w
}

func (w *world) choose(n int, _ string) int { return w.noise.IntN(n) }

// boot makes a fresh node and seeds it with what its kernel table holds.
func (h *host) boot() {
	w := h.w
	h.node = New(Config{Policy: conntrack.DefaultPolicy(), Rand: w.noise, Name: fmt.Sprint(h.id), MaxFlows: 1000,
		DigestRound: 400 * time.Millisecond})
	h.node.mutant = w.mutant
	if h.peer != nil {
		w.tally.PathChanges += int(h.peer.stats.PathChanges)
	}
	h.peer = h.node.AddPeer("other", w.now)
	h.peer.AddPath(0, w.now)
	h.peer.AddPath(1, w.now)
	h.seen, h.present, h.shown = map[conntrack.Key]uint32{}, map[conntrack.Key]bool{}, map[*instance]bool{}
	h.tokens, h.ops = nil, nil
	h.unknown = map[conntrack.Key]bool{}
	for k := range h.kernel {
		h.unknown[k] = true
	}
	h.released, h.dropping, h.active = false, false, false
	for _, in := range w.byMark { // a RELEASE or an end may not have arrived, and never will
		in.unsure = in.unsure || in.host == h.id && (in.ended || !in.owner)
	}
	for _, i := range slices.Sorted(maps.Keys(h.alive)) {
		in := h.alive[i]
		switch {
		case in.ghost:
			h.end(in, false)
		case in.owner:
			h.node.Tell(&in.flow, w.now)
		default:
			h.node.Seed(&in.flow, w.now)
		}
	}
}

func (h *host) other() *host { return h.w.hosts[1-h.id] }

// flow is number i of this host. From 8 on two neighbours share a reply tuple;
// those that divide by 3 are IPv6.
func (h *host) flow(i int, mark uint32) *conntrack.Flow {
	n := uint32(i | h.id<<8)
	f := tcpFlow(n)
	if i%3 == 0 && i < 8 {
		f = udpFlow6(n)
	}
	if i >= 8 {
		f.Reply.DstPort = uint16(100+i/2) | uint16(h.id)<<8
	}
	f.Mark = mark
	if f.Proto == unix.IPPROTO_TCP && mark%3 == 0 {
		f.TCP.State, f.Timeout = conntrack.TCPFinWait, 120
	}
	return f
}

// tell makes flow i or changes it; a flow that had its tuples is over.
func (h *host) tell(i int) {
	w := h.w
	w.mark++
	in := h.alive[i]
	if i >= 8 && h.alive[i^1] != nil {
		loser := h.alive[i^1] // whoever owned it: the tuple is another's now
		h.end(loser, loser.owner)
		loser.unsure = true
	}
	if in == nil {
		in = &instance{host: h.id, index: i, at: w.now}
		h.alive[i] = in
	}
	if !in.owner {
		in.ownedFrom = w.mark
	}
	in.mark, in.owner, in.ghost, in.flow = w.mark, true, false, *h.flow(i, w.mark)
	w.byMark[w.mark] = in
	h.node.Tell(&in.flow, w.now)
}

// seed is an audit that finds a flow nobody told.
func (h *host) seed(i int) {
	if h.alive[i] != nil || i >= 8 && h.alive[i^1] != nil {
		return
	}
	h.w.mark++
	in := &instance{host: h.id, index: i, at: h.w.now, mark: h.w.mark, flow: *h.flow(i, h.w.mark)}
	if h.active {
		in.owner, in.ownedFrom = true, in.mark
	}
	h.alive[i], h.w.byMark[in.mark] = in, in
	h.node.Seed(&in.flow, h.w.now)
}

func (h *host) end(in *instance, byOwner bool) {
	in.ended, in.byOwner = true, byOwner
	k := in.flow.Key()
	t := &h.node.own.tabs[kindOf(k.Family)]
	if i, ok := t.findOrig(&k); ok {
		in.slot, in.hadSlot = slotOf(t.kind, i), true
	}
	if h.other().active || h.other().seen[in.flow.Key()] < in.ownedFrom {
		in.unsure = true // the peer deletes nothing, or never heard of an owner
	}
	delete(h.alive, in.index)
}

// die is a death that the kernel reports.
func (h *host) die(i int, gone bool) {
	in := h.alive[i]
	if in == nil || in.ghost {
		return
	}
	switch {
	case gone && in.owner:
		h.end(in, true)
		h.node.Gone(&in.flow, h.w.now)
		return
	case in.owner:
		h.end(in, true)
	case h.released && !h.dropping && !h.active:
		in.ghost = true
	default:
		h.end(in, false)
	}
	h.node.Died(&conntrack.Death{Flow: in.flow, PortID: 77}, h.w.now)
}

func (h *host) restart(dying int) {
	for i := range dying { // while nobody listened; a former owner's flows count as its word
		if in := h.alive[i]; in != nil && in.owner {
			h.end(in, true)
			in.unsure = true
		}
	}
	h.w.tally.Restarts++
	h.boot()
}

// step does one thing and lets a moment pass.
func (w *world) step(choose func(int, string) int) error {
	w.tally.Steps++
	h := w.hosts[choose(2, "host")]
	i := choose(universe, "flow")
	switch choose(27, "action") {
	case 0, 1, 2, 3, 4, 5:
		h.tell(i)
	case 6, 7:
		h.die(i, false)
	case 8:
		h.die(i, true)
	case 9:
		h.seed(i)
	case 10, 11, 12:
		if err := h.commit(choose(8, "ops")); err != nil {
			return err
		}
	case 13:
		if w.parted = choose(4, "parted") == 1; w.parted {
			w.tally.Parted++
		}
		w.cut[h.id][choose(2, "path")] = choose(2, "cut") == 1
	case 14:
		if choose(4, "restart") == 0 {
			h.restart(choose(3, "dying"))
		}
	case 15:
		if choose(4, "release") == 0 {
			h.release()
		}
	case 16:
		h.dropReleased()
	case 17, 18:
		w.replay(h.id)
	case 19:
		h.kernelLoses(choose(universe, "lost"))
	case 20:
		if choose(8, "forget") == 0 {
			h.peer.View().Forget()
		}
	case 21:
		if choose(4, "damage") == 0 {
			h.damageMark(choose(1000, "entry"))
		}
	case 23:
		if h.active {
			h.demote()
		} else if choose(4, "promote") == 0 {
			h.promote()
		}
	case 22:
		if choose(4, "resync") == 0 && h.peer.Resync(w.now) {
			w.tally.Resent++
		}
		if choose(2, "compare") == 0 && h.peer.Compare(w.now) {
			w.tally.Compared++
		}
	default:
		return w.pass(int64(choose(60, "pass")+1) * ms)
	}
	return w.pass(int64(choose(3, "moment")) * ms)
}

// pass lets time go by in steps of a millisecond.
func (w *world) pass(d int64) error {
	for end := w.now + d; w.now < end; w.now += ms {
		for _, h := range w.hosts {
			h.node.Tick(w.now)
			if h.dropping {
				h.reap()
				if !h.node.own.drop.running {
					h.dropping, h.released = false, false
				}
			}
			w.send(h)
		}
		if err := w.deliver(); err != nil {
			return err
		}
	}
	return nil
}

// send takes all that a node wants to send and treats it badly.
func (w *world) send(h *host) {
	buf := make([]byte, MinPayload)
	for i, pa := range h.peer.paths {
		for n := pa.Fill(buf, w.now); n > 0; n = pa.Fill(buf, w.now) {
			w.carry(h, i, slices.Clone(buf[:n]))
		}
	}
}

func (w *world) carry(h *host, path int, data []byte) {
	to := 1 - h.id
	w.tally.Sent++
	if w.tape[to] = append(w.tape[to], data); len(w.tape[to]) > 300 {
		w.tape[to] = w.tape[to][1:]
	}
	if w.clean {
		w.air = append(w.air, packet{w.now + ms, to, path, data})
		return
	}
	if w.parted || w.cut[to][path] || w.noise.IntN(100) < 15 {
		w.tally.Dropped++
		return
	}
	copies := 1
	if w.noise.IntN(100) < 10 {
		w.tally.Duplicated++
		copies = 2
	}
	for range copies {
		d := data
		if w.noise.IntN(100) < 3 {
			w.tally.Corrupted++
			d = slices.Clone(data)
			d[w.noise.IntN(len(d))] ^= 1 << w.noise.IntN(8)
		}
		at := w.now + int64(w.noise.IntN(40))*ms
		if n := len(w.air); n > 0 && w.air[n-1].to == to && w.air[n-1].at > at {
			w.tally.Reordered++
		}
		w.air = append(w.air, packet{at, to, path, d})
	}
}

// deliver looks at the views after each datagram: what comes and goes between
// two of them counts.
func (w *world) deliver() error {
	later := w.air[:0]
	var due []packet
	for _, p := range w.air {
		if p.at <= w.now {
			due = append(due, p)
		} else {
			later = append(later, p)
		}
	}
	w.air = later
	for _, p := range due {
		_ = w.hosts[p.to].peer.paths[p.path].Receive(p.data, w.now)
		if err := w.check(); err != nil {
			return err
		}
	}
	return w.check()
}

// replay gives a host something that was sent to it, or by it, before.
func (w *world) replay(to int) {
	tape := w.tape[to]
	if w.noise.IntN(5) == 0 {
		tape = w.tape[1-to] // reflected
	}
	if len(tape) > 0 {
		w.tally.Replayed++
		_ = w.hosts[to].peer.paths[w.noise.IntN(2)].Receive(tape[w.noise.IntN(len(tape))], w.now)
	}
}

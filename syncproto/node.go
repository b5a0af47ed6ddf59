// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"encoding/binary"
	"io"
	"net/netip"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// Config is what a Node needs to know. Zero values mean the default.
type Config struct {
	Policy conntrack.Policy // applied to what peers send, too
	Local  []netip.Addr     // own non-virtual addresses, see Node.SetLocal
	Rand   io.Reader        // crypto/rand.Reader, but for tests; must not fail

	Name   string   // this node's name, at most 64 bytes, shown by peers
	BootID [16]byte // /proc/sys/kernel/random/boot_id
	NetNS  uint64   // SO_NETNS_COOKIE: whose kernel table the flows are of

	// Seeding: the kernel table is still being read. Before Node.Seeded no peer
	// is told COMPLETE, or it would sweep what was not yet seeded.
	Seeding bool

	HoldDeath   time.Duration // how long an uncertain death waits; default 3.6 s (one Active_Down_Interval)
	BatchWindow time.Duration // how long a change waits for others; default 1 ms, negative: not at all, for who gathers them itself
	Heartbeat   time.Duration // default 50 ms
	DeadAfter   time.Duration // silence after which a peer is down; default 300 ms
	DigestRound time.Duration // in which every quiet range of slots is compared once; default 30 s
	MaxFlows    int           // bound of own flows and of each view, per family; default 1<<23
	Rate        int64         // bytes/s of flow records to one peer; 0: as fast as they are acknowledged
}

func (c *Config) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HoldDeath, 3600*time.Millisecond)
	def(&c.BatchWindow, time.Millisecond)
	def(&c.Heartbeat, 50*time.Millisecond)
	def(&c.DeadAfter, 300*time.Millisecond)
	def(&c.DigestRound, 30*time.Second)
	if c.MaxFlows == 0 {
		c.MaxFlows = 1 << 23
	}
}

// SetTimes gives HoldDeath and Heartbeat other values: the election has others.
func (n *Node) SetTimes(holdDeath, heartbeat time.Duration) {
	n.cfg.HoldDeath, n.cfg.Heartbeat = holdDeath, heartbeat
	n.cfg.setDefaults()
}

// EventKind tells events apart.
type EventKind uint8

// Kinds of Event.
const (
	PeerUp       EventKind = iota + 1 // both sides echoed each other's session
	PeerDown                          // Why says it; the view stays
	ViewComplete                      // the peer said complete: its view is all it has
	PeerState                         // Blob is what the peer's SetState said
)

// Event is something the owner of a Node may want to act upon.
type Event struct {
	Kind EventKind
	Peer *Peer
	Why  string // PeerDown: a sentence
	Blob []byte // PeerState: valid until the next Receive of this peer
}

// Node is this router's side of replication.
type Node struct {
	cfg       Config
	seed      uint64
	active    bool
	local     map[netip.Addr]struct{}
	localEnds [256]bool // last bytes of these
	own       own
	peers     []*Peer
	events    []Event
	blob      []byte
	blobV     uint32
	now       int64
	mutant    mutant
}

// mutant switches one rule of the protocol off. Only tests set it, to see that
// the model notices.
type mutant uint8

const (
	mutantOlderApplied mutant = iota + 1
	mutantForeignAck
	mutantShortWithoutBase
	mutantEarlySweep
	mutantForeignDelete
	mutantNoDigest
)

// New makes a Node without flows and peers.
func New(cfg Config) *Node {
	cfg.setDefaults()
	cfg.Name = cfg.Name[:min(len(cfg.Name), maxName)]
	n := &Node{cfg: cfg}
	n.seed = binary.LittleEndian.Uint64(n.random(8))
	n.own.init(n)
	n.SetLocal(cfg.Local)
	return n
}

func (n *Node) random(size int) []byte {
	b := make([]byte, size)
	if _, err := io.ReadFull(n.cfg.Rand, b); err != nil {
		panic("syncproto: the source of randomness failed: " + err.Error())
	}
	return b
}

// SetLocal says which addresses are this router's own and not virtual: a flow
// to or from one of them is never taken over from a peer.
func (n *Node) SetLocal(addrs []netip.Addr) {
	n.local = make(map[netip.Addr]struct{}, len(addrs))
	n.localEnds = [256]bool{}
	for _, a := range addrs {
		n.local[a.Unmap()] = struct{}{}
		if b := a.Unmap().AsSlice(); len(b) > 0 {
			n.localEnds[b[len(b)-1]] = true
		}
	}
}

// SetActive tells the role. While Active no view asks for a deletion or a
// replacement in the kernel table, and seeds are owned.
func (n *Node) SetActive(active bool) {
	if n.active == active {
		return
	}
	n.active = active
	if active {
		for _, p := range n.peers {
			p.view.forgetLate()
			p.view.forgetDeletes()
		}
	}
}

// Seeded ends Config.Seeding: what was there at start has been given by Seed.
func (n *Node) Seeded(now int64) {
	n.now = now
	n.cfg.Seeding = false
	for _, p := range n.peers {
		if p.session.confirmed {
			p.out.joinRest()
		}
	}
}

// SetState sets what this node says of itself: at most 64 opaque bytes,
// level-triggered. It goes out at once, again every few milliseconds until
// the peer has it, and in every heartbeat.
func (n *Node) SetState(blob []byte, now int64) {
	if len(blob) > maxBlob {
		panic("syncproto: state of more than 64 bytes")
	}
	n.now = now
	if n.blobV != 0 && string(blob) == string(n.blob) {
		return
	}
	n.blob = append(n.blob[:0], blob...)
	n.blobV++
	for _, p := range n.peers {
		p.stateChanged(now)
	}
}

// Events gives what happened since the last call. The slice is reused.
func (n *Node) Events() []Event {
	ev := n.events
	n.events = n.events[len(n.events):]
	if len(n.events) == cap(n.events) {
		n.events = nil
	}
	return ev
}

func (n *Node) event(e Event) { n.events = append(n.events, e) }

// Tick does what is due at now without a datagram: held deaths, lost
// datagrams, silent peers, sweeps. Call it at NextDeadline at the latest.
func (n *Node) Tick(now int64) {
	n.now = now
	n.own.tick(now)
	for _, p := range n.peers {
		p.tick(now)
	}
}

// NextDeadline is when Tick wants to be called next; Path.Deadline is for
// Fill. It moves earlier only by calls of this Node's methods.
func (n *Node) NextDeadline() int64 {
	d := n.own.deadline()
	for _, p := range n.peers {
		d = min(d, p.deadline())
	}
	return d
}

// Backlog says how far behind the slowest live peer is: flows not yet
// acknowledged by it, and how long the oldest of them has waited.
func (n *Node) Backlog(now int64) (flows int, oldest time.Duration) {
	for _, p := range n.peers {
		if !p.up {
			continue // it gets all that it lacks when it is heard again: nobody waits for the dead
		}
		f, o := p.Backlog(now)
		flows, oldest = max(flows, f), max(oldest, o)
	}
	return flows, oldest
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// This file is the API whose bodies are being written; it dissolves into
// own.go, peer.go, view.go and commit.go.

const maxBlob = 64

type own struct{}

func (o *own) init(n *Node)    {}
func (o *own) tick(now int64)  {}
func (o *own) deadline() int64 { return 1<<63 - 1 }

// Tell says that a packet made or changed f: this node owns it.
func (n *Node) Tell(f *conntrack.Flow, now int64) {}

// Gone says that a packet took f to TIME_WAIT or CLOSE: it ends at the peers.
func (n *Node) Gone(f *conntrack.Flow, now int64) {}

// Seed says that the kernel table holds f (dump at start, audit). It never
// overwrites what was told. It is owned only while Active.
func (n *Node) Seed(f *conntrack.Flow, now int64) {}

// Died says that the kernel table lost d.Flow. Only the owner's word counts;
// an uncertain death waits for Config.HoldDeath.
func (n *Node) Died(d *conntrack.Death, now int64) {}

// Adopt makes flows of all views that no own flow covers own, at most max in
// one call, and says whether there are more. Call it after SetActive(true).
func (n *Node) Adopt(max int, now int64) (more bool) { return false }

// Release ends ownership of all own flows: from here on no death is told.
// Call it first when leaving Active, before SetActive(false).
func (n *Node) Release(now int64) {}

// DropReleased drops own flows that the (complete) view of a peer covers.
func (n *Node) DropReleased(now int64) {}

// OwnLen is the number of own flows.
func (n *Node) OwnLen() int { return 0 }

// Own walks own flows; f is reused. owner says whether this node owns it.
func (n *Node) Own(fn func(f *conntrack.Flow, owner bool) bool) {}

// Peer is another node.
type Peer struct{ view View }

// AddPeer adds a peer; name is only for messages until hello told its own.
func (n *Node) AddPeer(name string, now int64) *Peer { return &Peer{} }

// RemovePeer forgets a peer and its view.
func (n *Node) RemovePeer(p *Peer) {}

// Peers are all peers, in the order they were added.
func (n *Node) Peers() []*Peer { return n.peers }

// Name is what the peer called itself in hello, else what AddPeer was given.
func (p *Peer) Name() string { return "" }

// Receive takes one datagram of this peer. An error says why it was refused;
// refusing moves a counter and nothing else. payload is not kept.
func (p *Peer) Receive(payload []byte, now int64) error { return nil }

// Fill writes the next datagram into buf, whose length is the largest payload
// the link carries (at least 512), and gives its length; 0: nothing to send.
func (p *Peer) Fill(buf []byte, now int64) int { return 0 }

// Up says whether both sides hear each other.
func (p *Peer) Up() bool { return false }

// Drained says whether this peer acknowledged every own flow as it is now.
func (p *Peer) Drained() bool { return true }

// Backlog is the number of flows this peer has not acknowledged as they are
// now, and how long the oldest has waited.
func (p *Peer) Backlog(now int64) (flows int, oldest time.Duration) { return 0, 0 }

// View is this node's copy of the peer's flows.
func (p *Peer) View() *View { return &p.view }

func (p *Peer) stateChanged(now int64) {}
func (p *Peer) tick(now int64)         {}
func (p *Peer) deadline() int64        { return 1<<63 - 1 }

// View is the copy of one peer's flows. It also keeps what the committer did
// with them: what the kernel table holds is its caller's word.
type View struct{}

func (v *View) forgetDeletes() {}

// Len is the number of flows.
func (v *View) Len() int { return 0 }

// Complete says whether the peer said that this is all it has.
func (v *View) Complete() bool { return false }

// Each walks the view; f is reused.
func (v *View) Each(fn func(f *conntrack.Flow) bool) {}

// Token ties one Op of Pending to its flow until Done.
type Token uint32

// Pending appends at most max operations that the kernel table lacks: first
// deletions, then creations and replacements of flows whose last record is
// older than minAge, the hottest first when minAge is 0. While Active there
// are only creations that clash with no own flow. Every Token must come back
// in Done; until then the flow is not offered again.
func (v *View) Pending(ops []conntrack.Op, tokens []Token, max int, minAge time.Duration, now int64) ([]conntrack.Op, []Token) {
	return ops, tokens
}

// Done takes the outcome of Pending's operations, ops[i].Err of tokens[i].
func (v *View) Done(tokens []Token, ops []conntrack.Op) {}

// Uncommitted is the number of operations that Pending would give in time.
func (v *View) Uncommitted() int { return 0 }

// Forget makes all uncommitted again, as replacements: after a yield (stale
// windows), or when somebody flushed the kernel table.
func (v *View) Forget() {}

// Lost says that the kernel table lost an entry that the view may hold: it is
// uncommitted again. It says whether it was there.
func (v *View) Lost(k *conntrack.Key) bool { return false }

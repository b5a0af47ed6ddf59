// SPDX-License-Identifier: Apache-2.0

package link

import (
	"net/netip"

	"github.com/tandem-ha/tandem/syncproto"
)

// Gate drops datagrams before the stack that no peer of this link could have
// sent now. It is told what may pass, with the Node's lock held: after each
// batch that was received, and before each that is sent. So it knows of a pair
// before the hello that confirms it is on the way, and the peer's first data
// come later. It must not block, nor keep the slice.
type Gate interface {
	Tell(peers []GatePeer, keys []GateKey)
}

// GatePeer is a peer's address and what it may say.
type GatePeer struct {
	Addr         netip.Addr
	Paired       bool              // Theirs and Mine are a pair: its data name both
	Theirs, Mine syncproto.Session //
	Offered      bool              // its hello may name Spare
	Spare        syncproto.Session
	Highest      uint64 // received of the pair, see Peer.Received
	Received     *[64]uint64
}

// GateKey is what stamps of one key are made with.
type GateKey struct {
	ID    byte
	Stamp [16]byte
}

// told is what the gate was told last, kept for its memory.
type told struct {
	peers   []GatePeer
	keys    []GateKey
	secrets *[]Secret // of keys
}

// tellGate tells the gate, if there is one. The Node's lock is held.
func (l *Link) tellGate() {
	if l.cfg.Gate == nil {
		return
	}
	t := &l.told
	t.peers = t.peers[:0]
	for _, st := range l.stations() {
		g := GatePeer{Addr: st.addr}
		if st.peer != nil {
			g.Theirs, g.Mine, g.Paired = st.peer.Pair()
			g.Spare, g.Offered = st.peer.Spare()
			g.Highest, g.Received = st.peer.Received()
		}
		t.peers = append(t.peers, g)
	}
	if secrets := l.secrets.Load(); secrets != t.secrets {
		t.secrets, t.keys = secrets, nil
		for _, k := range l.sealer(nil).keys {
			t.keys = append(t.keys, GateKey{k.id, k.stamp})
		}
	}
	l.cfg.Gate.Tell(t.peers, t.keys)
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/loader"
)

// linkGate is what stands before one link.
type linkGate struct {
	*loader.Gate        // nil: see none
	none         string // why there is none
}

// openGate puts the gate before the sync link. Without it everything works,
// and a flood costs more: so nothing of it keeps the daemon from starting.
func (d *daemon) openGate(r *replication, l config.Link) link.Gate {
	if l.XDP == "off" {
		r.gates[l.Interface] = linkGate{none: "switched off in the configuration"}
		return nil
	}
	g, err := loader.OpenGate(loader.GateOptions{Interface: l.Interface, Port: l.Port,
		Sealed: d.cfg.Sync.KeyFile != "", Discover: len(l.Peer) == 0, Log: d.log})
	if err != nil {
		r.gates[l.Interface] = linkGate{none: err.Error()}
		d.log.Warn("datagrams of the sync link are not judged before the stack", "error", err)
		return nil
	}
	d.undoing(g.Close)
	if mode, why := g.Mode(); mode == "" {
		d.log.Warn("datagrams of the sync link are not judged before the stack", "interface", l.Interface, "reason", why)
	}
	r.gates[l.Interface] = linkGate{Gate: g}
	return &gate{Gate: g}
}

// gate tells the loader's gate in the loader's words.
type gate struct {
	*loader.Gate
	peers []loader.GatePeer
	keys  []loader.GateKey
}

// Tell is link.Gate's.
func (g *gate) Tell(peers []link.GatePeer, keys []link.GateKey) {
	g.peers, g.keys = g.peers[:0], g.keys[:0]
	for _, p := range peers {
		g.peers = append(g.peers, loader.GatePeer{Addr: p.Addr, Paired: p.Paired, Theirs: p.Theirs, Mine: p.Mine,
			Offered: p.Offered, Spare: p.Spare, Highest: p.Highest, Received: p.Received})
	}
	for _, k := range keys {
		g.keys = append(g.keys, loader.GateKey(k))
	}
	g.Gate.Tell(g.peers, g.keys)
}

// shownGate is what became of packets at the gate.
func (r *replication) shownGate(iface string) *control.Gate {
	g := r.gates[iface]
	if g.Gate == nil {
		return &control.Gate{Reason: g.none}
	}
	s := g.Stats()
	out := &control.Gate{
		Passed: map[string]uint64{"other": s.PassedOther, "unseen": s.PassedUnseen, "data": s.PassedData,
			"hello": s.PassedHello, "call": s.PassedCall},
		Dropped: map[string]uint64{"fragment": s.DroppedFragment, "hop_limit": s.DroppedHops, "short": s.DroppedShort,
			"version": s.DroppedVersion, "type": s.DroppedType, "seal": s.DroppedSeal, "unknown_key": s.DroppedKey, "forged": s.DroppedForged, "stranger": s.DroppedStranger,
			"session": s.DroppedSession, "replay": s.DroppedReplay, "reflected": s.DroppedReflected, "rate": s.DroppedRate},
	}
	out.Mode, out.Reason = g.Mode()
	return out
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/syncproto"
)

// This file opens the links and shows them, and by which of them a peer is
// reached.

func (d *daemon) openLinks(r *replication) {
	r.fence.SetPorts(d.port())
	for _, l := range d.cfg.Sync.Links {
		opened := link.New(link.Config{Interface: l.Interface, Peers: l.Peer, Listen: l.Listen, Group: l.Group, Port: l.Port,
			KeyFile: d.cfg.Sync.KeyFile, Gate: d.openGate(r, l), Now: monotonic, Notify: r.replica.notify, Log: d.log}, r.replica.node)
		r.links = append(r.links, opened)
		d.tasks = append(d.tasks, opened)
	}
	r.replica.wake = r.replica.node.Wake
	d.tasks = append(d.tasks, &localAddresses{d: d})
}

// port is that of all links.
func (d *daemon) port() uint16 { return d.cfg.Sync.Links[0].Port }

// linkInterfaces are those that carry replication.
func (d *daemon) linkInterfaces() (out []string) {
	for _, l := range d.cfg.Sync.Links {
		out = append(out, l.Interface)
	}
	return out
}

// alone is how long a preemption waits for a peer where none is configured.
func (d *daemon) alone() time.Duration {
	for _, l := range d.cfg.Sync.Links {
		if len(l.Peer) > 0 {
			return 0
		}
	}
	return 10 * time.Second
}

func (b *backend) link(s *link.Stats) control.SyncLink {
	port := b.d.port()
	out := control.SyncLink{Interface: s.Interface, Local: netip.AddrPortFrom(s.Local, port).String(), Carrier: s.Carrier, MTU: s.MTU,
		Heard: time.Since(s.LastHeard) < heardWithin,
		Counters: control.LinkCounters{DatagramsSent: s.SentDatagrams, DatagramsRcvd: s.ReceivedDatagrams,
			BytesSent: s.SentBytes, BytesRcvd: s.ReceivedBytes, SendErrors: s.SendErrors,
			Dropped: map[string]uint64{"hop_limit": s.DroppedHops, "interface": s.DroppedInterface, "stranger": s.DroppedStranger,
				"unsealed": s.DroppedUnsealed, "unknown_key": s.DroppedUnknownKey, "forged": s.DroppedForged,
				"truncated": s.DroppedTruncated, "own": s.DroppedOwn, "same_name": s.DroppedNamesake}},
		Gate: b.d.sync.shownGate(s.Interface)}
	for _, p := range s.Peers {
		if p.Name == "" {
			out.Calling = append(out.Calling, p.Address.String())
		}
	}
	if !out.Heard {
		out.Hint = control.SilentLink(s.Interface, s.Carrier, port)
	}
	return out
}

func (b *backend) peer(p *syncproto.Peer, now int64, links []link.Stats) control.SyncPeer {
	v := p.View()
	flows, oldest := p.Backlog(now)
	out := control.SyncPeer{Name: p.Name(), Heard: p.Up(), Paths: []control.SyncPath{},
		View: v.Len(), Complete: v.Complete(), Uncommitted: v.Uncommitted(),
		BacklogFlows: flows, BacklogMS: ms(oldest), Counters: syncCounters(p.Stats(), v.Stats())}
	out.Counters.Repair = syncRepair(p.RepairStats())
	out.Committed = max(0, out.View-out.Uncommitted)
	if at := p.Heard(); at != 0 {
		out.LastHeard = time.Now().Add(time.Duration(at - now))
	}
	for i := range links {
		for _, s := range links[i].Peers {
			if s.Name == out.Name {
				b.addPath(&out, &links[i], &s)
			}
		}
	}
	return out
}

// addPath adds a way to its peer; the one in use is the peer's.
func (b *backend) addPath(p *control.SyncPeer, l *link.Stats, s *link.PeerStats) {
	if s.InUse || len(p.Paths) == 0 {
		p.Interface, p.Address, p.Carrier = l.Interface, s.Address.String(), l.Carrier
		if !p.Heard {
			p.Hint = control.SilentLink(l.Interface, l.Carrier, b.d.port())
		}
	}
	p.Paths = append(p.Paths, control.SyncPath{Interface: l.Interface, Address: s.Address.String(), InUse: s.InUse,
		Heard: s.Hearing, HearsUs: s.Echoed, Since: s.Since, LastHeard: s.LastHeard, Payload: s.Payload,
		Sent: s.Sent, Rcvd: s.Received})
}

// unnamed are configured peers that were never heard, under their addresses. A
// node may have one on each link: as many are shown as one link has, less
// those that are known.
func (b *backend) unnamed(links []link.Stats, known int) (out []control.SyncPeer) {
	for i := range links {
		var here []control.SyncPeer
		given := 0
		for _, s := range links[i].Peers {
			if s.Given {
				given++
			}
			if s.Given && s.Name == "" {
				addr := s.Address.String()
				here = append(here, control.SyncPeer{Name: addr, Address: addr, Interface: links[i].Interface, Carrier: links[i].Carrier,
					Hint: control.SilentLink(links[i].Interface, links[i].Carrier, b.d.port()), Paths: []control.SyncPath{}})
			}
		}
		if n := min(len(here), given-known); n > len(out) {
			out = here[:n]
		}
	}
	return out
}

// pathAlarms are ways by which a peer is heard and does not hear this node.
func pathAlarms(s *control.SyncStatus) (out []control.Alarm) {
	for _, p := range s.Peers {
		for _, w := range p.Paths {
			if w.Heard && !w.HearsUs {
				text := fmt.Sprintf("%s is heard on %s, and says that it does not hear this node there: "+
					"does a firewall on it, or a switch, drop what comes from here?", p.Name, w.Interface)
				out = append(out, control.Alarm{Kind: "path-deaf", Text: text, About: p.Name + " on " + w.Interface})
			}
		}
	}
	return out
}

// nameAlarms are other nodes that have this node's name.
func (b *backend) nameAlarms() (out []control.Alarm) {
	for _, l := range b.d.sync.links {
		if s := l.Stats(); time.Since(s.NamesakeHeard) < 3*time.Second {
			text := fmt.Sprintf("two nodes are called %s, one of them at %s on %s, which is not listened to: give each its own name ([node] name)",
				s.NamesakeName, s.Namesake, s.Interface)
			out = append(out, control.Alarm{Kind: "same-name", Text: text, About: s.Interface})
		}
	}
	return out
}

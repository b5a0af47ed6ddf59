// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/tandem-ha/tandem/internal/control"

// ofSync reads one figure of replication as a whole.
func ofSync(get func(s *control.SyncStatus) float64) func(*control.Status, put) {
	return func(s *control.Status, put put) {
		if s.Sync != nil {
			put(get(s.Sync))
		}
	}
}

// ofLink reads one figure of each link.
func ofLink(get func(l *control.SyncLink) float64) func(*control.Status, put) {
	return func(s *control.Status, put put) {
		if s.Sync != nil {
			for i := range s.Sync.Links {
				put(get(&s.Sync.Links[i]), s.Sync.Links[i].Interface)
			}
		}
	}
}

// ofGate reads the gate of each link that says something of it.
func ofGate(get func(l *control.SyncLink, put put)) func(*control.Status, put) {
	return func(s *control.Status, put put) {
		if s.Sync == nil {
			return
		}
		for i := range s.Sync.Links {
			if l := &s.Sync.Links[i]; l.Gate != nil {
				get(l, put)
			}
		}
	}
}

// ofPeer reads one figure of each peer.
func ofPeer(get func(p *control.SyncPeer) float64) func(*control.Status, put) {
	return func(s *control.Status, put put) {
		if s.Sync != nil {
			for i := range s.Sync.Peers {
				put(get(&s.Sync.Peers[i]), s.Sync.Peers[i].Name)
			}
		}
	}
}

// ofPath reads one figure of each path to each peer.
func ofPath(get func(a *control.SyncPath) bool) func(*control.Status, put) {
	return func(s *control.Status, put put) {
		if s.Sync == nil {
			return
		}
		for _, p := range s.Sync.Peers {
			for i := range p.Paths {
				put(flag(get(&p.Paths[i])), p.Name, p.Paths[i].Interface, p.Paths[i].Address)
			}
		}
	}
}

// counted reads one of a peer's counters.
func counted(get func(c *control.SyncCounters) uint64) func(*control.Status, put) {
	return ofPeer(func(p *control.SyncPeer) float64 { return float64(get(&p.Counters)) })
}

var replicationMetrics = []metric{
	{ownFlows, "Flows that this node replicates.", "", ofSync(func(s *control.SyncStatus) float64 { return float64(s.OwnFlows) })},
	{ownedFlows, "Own flows whose last packet this node saw.", "", ofSync(func(s *control.SyncStatus) float64 { return float64(s.OwnerOf) })},
	{commits, "Entries written into the kernel table, taken from it, or given another timeout, by operation.", "operation", func(s *control.Status, put put) {
		if s.Sync != nil {
			put(float64(s.Sync.Commits.Created), "create")
			put(float64(s.Sync.Commits.Replaced), "replace")
			put(float64(s.Sync.Commits.Deleted), "delete")
			put(float64(s.Sync.Commits.Renewed), "renew")
		}
	}},
	{commitFailures, "Entries that could not be written into the kernel table, by reason.", "reason", func(s *control.Status, put put) {
		if s.Sync != nil {
			byReason(put, s.Sync.Commits.Failed)
		}
	}},

	{linkCarrier, "Whether a sync link has a carrier.", "interface", ofLink(func(l *control.SyncLink) float64 { return flag(l.Carrier) })},
	{linkHeard, "Whether something valid was heard on a sync link lately.", "interface", ofLink(func(l *control.SyncLink) float64 { return flag(l.Heard) })},
	{linkSent, "Datagrams sent on a sync link.", "interface", ofLink(func(l *control.SyncLink) float64 { return float64(l.Counters.DatagramsSent) })},
	{linkReceived, "Datagrams received on a sync link.", "interface", ofLink(func(l *control.SyncLink) float64 { return float64(l.Counters.DatagramsRcvd) })},
	{linkBytesSent, "Bytes of datagrams sent on a sync link.", "interface", ofLink(func(l *control.SyncLink) float64 { return float64(l.Counters.BytesSent) })},
	{linkBytesRcvd, "Bytes of datagrams received on a sync link.", "interface", ofLink(func(l *control.SyncLink) float64 { return float64(l.Counters.BytesRcvd) })},
	{linkSendErrors, "Datagrams that the kernel refused to send on a sync link.", "interface", ofLink(func(l *control.SyncLink) float64 { return float64(l.Counters.SendErrors) })},
	{linkDropped, "Datagrams received on a sync link and dropped, by reason.", "interface reason", func(s *control.Status, put put) {
		if s.Sync != nil {
			for _, l := range s.Sync.Links {
				byReason(put, l.Counters.Dropped, l.Interface)
			}
		}
	}},
	{gateUp, "Whether datagrams of a sync link are judged before the stack, by mode of XDP.", "interface mode", ofGate(func(l *control.SyncLink, put put) {
		for _, mode := range []string{"native", "generic"} {
			put(flag(l.Gate.Mode == mode), l.Interface, mode)
		}
	})},
	{gatePassed, "Packets of a sync link that passed to the stack, by what they were.", "interface kind", ofGate(func(l *control.SyncLink, put put) {
		byReason(put, l.Gate.Passed, l.Interface)
	})},
	{gateDropped, "Datagrams dropped on a sync link before the stack, by reason.", "interface reason", ofGate(func(l *control.SyncLink, put put) {
		byReason(put, l.Gate.Dropped, l.Interface)
	})},

	{peerActiveToo, "Times that a peer began to say over the sync link that it is Active beside this node.", "", ofSync(func(s *control.SyncStatus) float64 { return float64(s.TwoActives) })},
	{peerHeard, "Whether a peer's heartbeats are heard.", "peer", ofPeer(func(p *control.SyncPeer) float64 { return flag(p.Heard) })},
	{peerComplete, "Whether a peer says that its copy of this node's flows is complete.", "peer", ofPeer(func(p *control.SyncPeer) float64 { return flag(p.PeerComplete) })},
	{peerBacklog, "Own flows whose latest content a peer has not acknowledged.", "peer", ofPeer(func(p *control.SyncPeer) float64 { return float64(p.BacklogFlows) })},
	{peerLag, "Age of the oldest change that a peer has not acknowledged.", "peer", ofPeer(func(p *control.SyncPeer) float64 { return p.BacklogMS / 1000 })},
	{viewFlows, "Flows in this node's copy of a peer's flows.", "peer", ofPeer(func(p *control.SyncPeer) float64 { return float64(p.View) })},
	{viewUncommitted, "Flows of the copy that are not in the kernel table of this node.", "peer", ofPeer(func(p *control.SyncPeer) float64 { return float64(p.Uncommitted) })},
	{viewComplete, "Whether this node's copy of a peer's flows is complete.", "peer", ofPeer(func(p *control.SyncPeer) float64 { return flag(p.Complete) })},

	{recordsSent, "Records sent to a peer.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.RecordsSent })},
	{recordsFull, "Records sent to a peer that carried their addresses.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.FullSent })},
	{recordsReceived, "Records received from a peer.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.RecordsRcvd })},
	{recordsDropped, "Records and datagrams of a peer that were not applied, by reason.", "peer reason", func(s *control.Status, put put) {
		if s.Sync != nil {
			for _, p := range s.Sync.Peers {
				byReason(put, p.Counters.Dropped, p.Name)
			}
		}
	}},
	{deletesSent, "Deletions sent to a peer.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.DeletesSent })},
	{deletesReceived, "Deletions received from a peer.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.DeletesRcvd })},
	{datagramsSent, "Datagrams sent to a peer.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.DatagramsSent })},
	{datagramsRcvd, "Datagrams received from a peer.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.DatagramsRcvd })},
	{datagramsLost, "Datagrams sent to a peer that were never acknowledged; their content was sent again.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.DatagramsLost })},
	{bytesSent, "Bytes sent to a peer.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.BytesSent })},
	{bytesReceived, "Bytes received from a peer.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.BytesRcvd })},
	{peerPathChanges, "Times that another path to a peer was taken.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.PathChanges })},
	{peerPaced, "Times that flows for a peer waited for the configured rate.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.Paced })},
	{pathInUse, "Whether a path to a peer carries flows.", "peer interface address", ofPath(func(a *control.SyncPath) bool { return a.InUse })},
	{pathHeard, "Whether a peer is heard by a path.", "peer interface address", ofPath(func(a *control.SyncPath) bool { return a.Heard })},
	{pathHearsUs, "Whether a peer hears this node by a path, as it says.", "peer interface address", ofPath(func(a *control.SyncPath) bool { return a.HearsUs })},
	{repairRanges, "Ranges of flows that were compared with a peer's or sent again, by what became of them.", "peer outcome", func(s *control.Status, put put) {
		if s.Sync != nil {
			for _, p := range s.Sync.Peers {
				r := &p.Counters.Repair
				for outcome, n := range map[string]uint64{"compared": r.Compared, "differing": r.Differing, "healed": r.Healed,
					"incomparable": r.Incomparable, "asked": r.Asked, "given": r.Given, "refused": r.Refused} {
					put(float64(n), p.Name, outcome)
				}
			}
		}
	}},
	{repairAll, "Times that everything was sent to a peer again.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.Repair.All })},
	{peerSessions, "Sessions begun with a peer.", "peer", counted(func(c *control.SyncCounters) uint64 { return c.Sessions })},
}

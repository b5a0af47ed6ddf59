// SPDX-License-Identifier: Apache-2.0

package node

import (
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/internal/takeover"
	"github.com/tandem-ha/tandem/loader"
	"github.com/tandem-ha/tandem/syncproto"
	"github.com/tandem-ha/tandem/vrrp"
)

// This file turns the rooms' counters into what the control socket shows.

func vrrpCounters(c vrrp.Counters) control.VRRPCounters {
	return control.VRRPCounters{
		AdvertSent: c.SentAdvertisements, AdvertRcvd: c.RcvdAdvertisements, BecomeActive: c.MasterTransitions,
		PriZeroRcvd: c.RcvdPriZeroPackets, PriZeroSent: c.SentPriZeroPackets,
		InvalidTypePktsRcvd: c.RcvdInvalidTypePackets, VersionErrors: c.VersionErrors,
		ChecksumErrors: c.ChecksumErrors, TTLErrors: c.IPTTLErrors, AddressListErrors: c.AddressListErrors,
		PacketLengthErrors: c.PacketLengthErrors, AdvertIntervalErrors: c.AdvIntervalErrors,
		CountZeroErrors: c.CountErrors, AuthTypeErrors: c.AuthTypeErrors, AuthFailures: c.AuthFailures,
		LinkLocalErrors: c.LinkLocalErrors, PeerErrors: c.PeerErrors, IntervalChanges: c.IntervalChanges, TwoActives: c.Conflicts, Oversleeps: c.Oversleeps, SendErrors: c.SendErrors,
	}
}

func fenceDrops(out map[string]uint64, s loader.FenceStats) {
	out["new"], out["invalid"] = s.DroppedNew, s.DroppedInvalid
}

func (b *backend) capture() *control.Capture {
	c := b.d.sync.capture
	s := c.Stats()
	rung, why := c.Mode()
	return &control.Capture{
		Mode: rung, Reason: why, Interfaces: s.Interfaces, Told: s.Told, Gone: s.Gone,
		Died: s.Deaths, DeathsLost: s.LostDeaths, Seeded: s.Seeded, Audits: s.Audits,
		RingFull: s.Packets.Full, Missed: s.Missed, Restored: s.Restored, Malformed: s.Malformed,
		Ignored: map[string]uint64{"own": s.Packets.Own, "untracked": s.Packets.Untracked,
			"unconfirmed": s.Packets.Unconfirmed, "protocol": s.Packets.Protocol, "young": s.Packets.Young,
			"address": s.Packets.Ignored},
	}
}

// heardWithin is how recent a datagram must be for a link to count as heard.
const heardWithin = time.Second

// Sync is replication as a whole.
func (b *backend) Sync() *control.SyncStatus {
	r := b.d.sync
	if r == nil {
		return nil
	}
	links := make([]link.Stats, len(r.links))
	out := &control.SyncStatus{Follows: b.d.election.followed, Commit: string(b.d.cfg.Sync.Commit), Rate: b.d.cfg.Sync.Rate,
		Peers: []control.SyncPeer{}, Commits: commits(r.commit.Stats()), TwoActives: b.watch.twoActives()}
	for i, l := range r.links {
		links[i] = l.Stats()
		out.Links = append(out.Links, b.link(&links[i]))
	}
	states := r.runner.Status().Peers
	n := r.replica.node
	n.Lock()
	defer n.Unlock()
	out.OwnFlows, out.OwnerOf = n.OwnLen(), n.Owned()
	now := monotonic()
	for i, p := range n.Peers() {
		sp := b.peer(p, now, links)
		if s, ok := states[takeover.PeerID(i)]; ok && p.Up() {
			sp.Role, sp.PeerComplete = s.Role.String(), s.Complete
			if s.Fault {
				sp.Role = control.RoleInitialize
			}
		}
		out.Peers = append(out.Peers, sp)
		addCounters(&out.Counters, sp.Counters)
	}
	out.Peers = append(out.Peers, b.unnamed(links, len(out.Peers))...)
	return out
}

func commits(s takeover.CommitStats) control.SyncCommits {
	return control.SyncCommits{Created: s.Created, Replaced: s.Replaced, Deleted: s.Deleted, Renewed: s.Renewed,
		Failed: map[string]uint64{"clash": s.Clashes, "refused": s.Failed}}
}

func syncCounters(s syncproto.PeerStats, v syncproto.ViewStats) control.SyncCounters {
	return control.SyncCounters{
		RecordsSent: s.SentFull + s.SentShort + s.SentDeletes, FullSent: s.SentFull, DeletesSent: s.SentDeletes,
		RecordsRcvd: s.ReceivedFull + s.ReceivedShort + s.ReceivedDeletes, DeletesRcvd: s.ReceivedDeletes,
		DatagramsSent: s.SentDatagrams, DatagramsRcvd: s.ReceivedDatagrams, DatagramsLost: s.LostDatagrams,
		BytesSent: s.SentBytes, BytesRcvd: s.ReceivedBytes, Sessions: s.Sessions,
		PathChanges: s.PathChanges, Paced: s.Paced,
		Dropped: map[string]uint64{"short": s.RefusedShort, "version": s.RefusedVersion, "seal": s.RefusedSeal,
			"checksum": s.RefusedChecksum, "session": s.RefusedSession, "replay": s.RefusedReplay,
			"hello": s.RefusedHello, "record": s.RefusedRecord, "reflected": s.RefusedReflected,
			"unknown_record": s.SkippedRecords, "broken_base": s.BrokenBase,
			"policy": v.RefusedPolicy, "local": v.RefusedLocal, "full": v.RefusedFull, "not_owner": v.NotOwner},
	}
}

func syncRepair(s syncproto.RepairStats) control.SyncRepair {
	return control.SyncRepair{Compared: s.Compared, Differing: s.Differing, Healed: s.Healed, Incomparable: s.Incomparable,
		Asked: s.SentResync, Given: s.ReceivedResync, Refused: s.RefusedResync, All: s.ResentAll}
}

func addRepair(sum *control.SyncRepair, r control.SyncRepair) {
	sum.Compared += r.Compared
	sum.Differing += r.Differing
	sum.Healed += r.Healed
	sum.Incomparable += r.Incomparable
	sum.Asked += r.Asked
	sum.Given += r.Given
	sum.Refused += r.Refused
	sum.All += r.All
}

func addCounters(sum *control.SyncCounters, c control.SyncCounters) {
	sum.RecordsSent += c.RecordsSent
	sum.RecordsRcvd += c.RecordsRcvd
	sum.FullSent += c.FullSent
	sum.DeletesSent += c.DeletesSent
	sum.DeletesRcvd += c.DeletesRcvd
	sum.DatagramsSent += c.DatagramsSent
	sum.DatagramsRcvd += c.DatagramsRcvd
	sum.DatagramsLost += c.DatagramsLost
	sum.BytesSent += c.BytesSent
	sum.BytesRcvd += c.BytesRcvd
	sum.Sessions += c.Sessions
	sum.PathChanges += c.PathChanges
	sum.Paced += c.Paced
	addRepair(&sum.Repair, c.Repair)
	if sum.Dropped == nil {
		sum.Dropped = map[string]uint64{}
	}
	for why, n := range c.Dropped {
		sum.Dropped[why] += n
	}
}

// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/tandem-ha/tandem/internal/control"
)

// unix is a moment in seconds, 0 when there was none.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}

// ofGroup reads one figure of each group.
func ofGroup(get func(g *control.VRRPGroup) float64) func(*control.Status, put) {
	return func(s *control.Status, put put) {
		for i := range s.Groups {
			put(get(&s.Groups[i]), s.Groups[i].Name)
		}
	}
}

var electionMetrics = []metric{
	{buildInfo, "Always 1; the labels say which tandem this is and how it is called.", "version node", func(s *control.Status, put put) {
		put(1, s.Version, s.Node)
	}},
	{startTime, "When the daemon started, in seconds since 1970.", "", func(s *control.Status, put put) { put(unix(s.Started)) }},
	{alarm, "Conditions that hold now and that somebody should act upon; tandem status says what to do.", "kind subject", func(s *control.Status, put put) {
		n := make(map[[2]string]float64)
		for _, a := range s.Alarms {
			n[[2]string{a.Kind, a.About}]++
		}
		for k, v := range n {
			put(v, k[0], k[1])
		}
	}},
	{setRole, "1 for the role that a sync group, or a group that is in none, has now.", "set role", func(s *control.Status, put put) {
		for _, set := range s.Sets {
			for _, role := range []string{control.RoleInitialize, control.RoleBackup, control.RoleActive} {
				put(flag(set.Role == role), set.Name, role)
			}
		}
	}},
	{setRoleSince, "Since when a set has its role, in seconds since 1970.", "set", func(s *control.Status, put put) {
		for _, set := range s.Sets {
			put(unix(set.Since), set.Name)
		}
	}},
	{groupPriority, "The priority in force of a group.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.EffectivePriority) })},
	{groupInterfaceUp, "Whether the interface of a group is up.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return flag(g.InterfaceUp) })},
	{groupTracked, "Whether what a group tracks is up: an interface, a health check; 0 also before its first answer.", "group thing", func(s *control.Status, put put) {
		for i := range s.Groups {
			for _, t := range s.Groups[i].Tracked {
				put(flag(t.State == "up"), s.Groups[i].Name, t.Name)
			}
		}
	}},
	{groupInstalled, "Whether the virtual addresses of a group are on this machine.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return flag(g.Installed) })},
	{groupBecameActive, "How often a group became Active.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.Counters.BecomeActive) })},
	{groupReleasedActive, "How often a group left Active.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.Counters.ReleasedActive) })},
	{advertsSent, "Adverts sent by a group.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.Counters.AdvertSent) })},
	{advertsReceived, "Valid adverts received by a group.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.Counters.AdvertRcvd) })},
	{priorityZeroSent, "Adverts of priority 0 sent by a group, which give the role up.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.Counters.PriZeroSent) })},
	{priorityZeroRcvd, "Adverts of priority 0 received by a group.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.Counters.PriZeroRcvd) })},
	{advertsDropped, "Adverts for a group that were refused, by reason.", "group reason", advertDrops},
	{advertsUnsent, "Adverts that the kernel refused to send.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.Counters.SendErrors) })},
	{advertsStray, "Packets of VRRP that belong to no group, by interface and reason.", "interface reason", func(s *control.Status, put put) {
		for _, x := range s.Strays {
			byReason(put, x.Dropped, x.Interface)
		}
	}},
	{twoActives, "Adverts of another Active that were heard while this node was Active.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.Counters.TwoActives) })},
	{oversleeps, "Timers of a group that were found late by more than an interval.", "group", ofGroup(func(g *control.VRRPGroup) float64 { return float64(g.Counters.Oversleeps) })},
	{advertsRealTime, "Whether the adverts process runs with real-time priority and locked memory.", "", func(s *control.Status, put put) {
		if s.Adverts != nil {
			put(flag(s.Adverts.RealTime))
		}
	}},
}

// advertDrops are the receive errors of RFC 6527 and ours.
func advertDrops(s *control.Status, put put) {
	for i := range s.Groups {
		c := &s.Groups[i].Counters
		byReason(put, map[string]uint64{
			"truncated": c.TruncatedErrors, "version": c.VersionErrors, "type": c.InvalidTypePktsRcvd, "vrid": c.VRIDErrors,
			"checksum": c.ChecksumErrors, "ttl": c.TTLErrors, "address_list": c.AddressListErrors, "length": c.PacketLengthErrors,
			"interval": c.AdvertIntervalErrors, "count_zero": c.CountZeroErrors, "auth_type": c.AuthTypeErrors,
			"password": c.AuthFailures, "link_local": c.LinkLocalErrors, "peer": c.PeerErrors,
		}, s.Groups[i].Name)
	}
}

var histograms = []histogram{
	{advertLateness, "How late periodic adverts were, from the timer to the device.", func(s *control.Status) *control.Histogram {
		if s.Adverts == nil {
			return nil
		}
		return s.Adverts.SentLate
	}},
	{decisionLateness, "How late decisions were that an Active is gone.", func(s *control.Status) *control.Histogram {
		if s.Adverts == nil {
			return nil
		}
		return s.Adverts.DecidedLate
	}},
}

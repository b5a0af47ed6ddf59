// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
)

// What other routers send for a group and this one refuses. The counters say
// how much, and an alarm says it once: a flood of adverts makes no flood of
// lines.
const (
	refusedFor   = 10 * time.Second // how long after the last one it is told
	refusedAlone = 3                // fewer are no router that speaks otherwise
)

// refused remembers the counters of refused adverts, by group and reason.
type refused map[string]*refusal

type refusal struct {
	count, began uint64 // now, and before the present ones
	last         time.Time
}

// look gives an alarm for each reason that holds.
func (r refused) look(groups []control.VRRPGroup, now time.Time) (out []control.Alarm) {
	for i := range groups {
		g := &groups[i]
		limit := max(refusedFor, 4*time.Duration(g.AdvertMS)*time.Millisecond)
		for _, m := range misfits(g) {
			key := g.Name + " " + m.kind
			x := r[key]
			if x == nil {
				x = &refusal{}
				r[key] = x
			}
			if now.Sub(x.last) > limit {
				x.began = x.count
			}
			if m.count != x.count {
				x.count, x.last = m.count, now
			}
			if x.count >= x.began+refusedAlone && now.Sub(x.last) <= limit {
				out = append(out, control.Alarm{Kind: "advert-" + m.kind, About: g.Name, Text: m.text})
			}
		}
	}
	return out
}

// misfit is one way in which another router's adverts do not fit a group.
type misfit struct {
	kind  string
	count uint64
	text  string
}

func misfits(g *control.VRRPGroup) []misfit {
	c := &g.Counters
	on := fmt.Sprintf("adverts for VRID %d on %s ", g.VRID, g.Interface)
	from := "by unicast, and this group has no peer-address"
	if len(g.Peers) > 0 {
		from = "from a router that is not in peer-address, or by multicast"
	}
	return []misfit{
		{"version", c.VersionErrors, on + fmt.Sprintf("are of another VRRP version than %d and are dropped: give every router of the group the same version", g.Version)},
		{"checksum", c.ChecksumErrors, on + "have a wrong checksum and are dropped: something between the routers damages them, or another program counts otherwise"},
		{"ttl", c.TTLErrors, on + "came through another router, by their TTL, and are dropped: give a peer behind a router its ttl-minimum; else somebody forges them"},
		{"authentication", c.AuthTypeErrors + c.AuthFailures, on + "have another authentication and are dropped: give every router of the group the same, or none"},
		{"interval", c.AdvertIntervalErrors, on + "have another interval and are dropped: give every router of the group the same advertise-interval"},
		{"link-local", c.LinkLocalErrors, on + "have no link-local address first and are dropped: put one first on the router that sends them (RFC 9568)"},
		{"peer", c.PeerErrors, on + "come " + from + ", and are dropped: name the same peers on every router, or none"},
		{"malformed", c.PacketLengthErrors + c.CountZeroErrors, on + "are malformed and are dropped: see tandem vrrp statistics"},
		{"addresses", c.AddressListErrors, on + "list other addresses than this group has: give every router of the group the same, in the same order"},
	}
}

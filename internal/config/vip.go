// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"time"

	"github.com/BurntSushi/toml"
)

// GARP says when a group announces its addresses, by gratuitous ARP and
// unsolicited neighbour advertisements.
type GARP struct {
	Interval      time.Duration // least time between two on an interface; 0: no pace of the operator's
	Delay         time.Duration // from the first set to the second; 0: no second
	Refresh       time.Duration // between refreshes while Active; 0: none
	RefreshRepeat int           // of each address in a refresh
	Repeat        int           // of each address in a set
}

// defaultGARP has VyOS's defaults.
var defaultGARP = GARP{Delay: 5 * time.Second, Refresh: 5 * time.Second, RefreshRepeat: 1, Repeat: 5}

const (
	maxGARPInterval = 1000 * time.Second
	maxGARPDelay    = 255 * time.Second
	maxGARPRepeat   = 255
)

// readGARP reads a table garp; what it leaves out is as in def.
func readGARP(t *table, def GARP) GARP {
	g := t.table("garp")
	defer g.finish()
	return GARP{
		Interval:      g.duration("interval", def.Interval, 0, maxGARPInterval, 0),
		Delay:         g.duration("master-delay", def.Delay, 0, maxGARPDelay, 0),
		Refresh:       g.duration("master-refresh", def.Refresh, 0, maxGARPDelay, 0),
		RefreshRepeat: int(g.number("master-refresh-repeat", int64(def.RefreshRepeat), 1, maxGARPRepeat)),
		Repeat:        int(g.number("master-repeat", int64(def.Repeat), 1, maxGARPRepeat)),
	}
}

// readPlaces reads how a group's addresses are put in and announced. The
// addresses and the priority have been read.
func readPlaces(t *table, g *Group, garp GARP) {
	g.GARP = readGARP(t, garp)
	if t.has("excluded-address") {
		g.Excluded = t.addresses("excluded-address", g.Interface)
	}
	compatible := t.flag("rfc3768-compatibility")
	if g.VirtualMAC = t.flag("virtual-mac") || compatible; t.has("virtual-mac") && t.has("rfc3768-compatibility") {
		t.fault("rfc3768-compatibility", "is the old name of virtual-mac, which stands here too: take this line out")
	}
	if g.VirtualMAC && g.Priority == owner {
		t.fault("priority", "255: with virtual-mac the addresses are on a device of their own, and an owner has them on its interface, "+
			"which answers by its own MAC: take them from the interface and write 254")
	}
}

// Installed are all addresses that the group puts in while it is Active: the
// advertised ones, and behind them the excluded.
func (g *Group) Installed() []Address { return slices.Concat(g.Addresses, g.Excluded) }

// checkExcluded: an address is in one group, once, advertised or not.
func checkExcluded(root *table, groups []Group) {
	for i := range groups {
		for j, a := range groups[i].Excluded {
			if other := holder(groups, i, j); other != "" {
				root.d.fault(append(toml.Key{"vrrp", "group", groups[i].Name}, "excluded-address"),
					"%q: stands in group %s already: an address belongs to one group, once", a.Prefix, other)
			}
		}
	}
}

// holder names the group that has excluded address j of group i, too.
func holder(groups []Group, i, j int) string {
	a := groups[i].Excluded[j]
	same := func(b Address) bool {
		ip := a.Prefix.Addr()
		return ip == b.Prefix.Addr() && (!ip.IsLinkLocalUnicast() || ip.Is4() || a.Interface == b.Interface)
	}
	for k := range groups {
		if slices.ContainsFunc(groups[k].Addresses, same) ||
			k < i && slices.ContainsFunc(groups[k].Excluded, same) ||
			k == i && slices.ContainsFunc(groups[k].Excluded[:j], same) {
			return groups[k].Name
		}
	}
	return ""
}

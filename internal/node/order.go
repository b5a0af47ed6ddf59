// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"

	"github.com/tandem-ha/tandem/internal/control"
)

// order remembers who was Active at the latest look, by group. Two routers of a
// sync group have to agree about who is the better one: else this one outranks
// the Active in some members, waits for the others, and never takes the role by
// its priority. A file alone cannot show that (config.Against has both); what is
// heard of the Active does. Only a Backup hears it.
type order map[string]string

// look gives an alarm for each sync group whose members disagree. A router that
// was not heard as the Active at the look before is perhaps a stray.
func (o order) look(groups []control.VRRPGroup) (out []control.Alarm) {
	better, other := map[string]*control.VRRPGroup{}, map[string]*control.VRRPGroup{} // one of each kind, by set
	var sets []string
	for i := range groups {
		g := &groups[i]
		before := o[g.Name]
		o[g.Name] = g.ActiveAddress
		if g.Role != control.RoleBackup || g.ActivePriority == 0 || g.ActiveAddress != before {
			continue
		}
		kind := other
		if g.EffectivePriority > g.ActivePriority {
			kind = better
		}
		if better[g.Set] == nil && other[g.Set] == nil {
			sets = append(sets, g.Set)
		}
		if kind[g.Set] == nil {
			kind[g.Set] = g
		}
	}
	for _, set := range sets {
		if b, w := better[set], other[set]; b != nil && w != nil {
			out = append(out, control.Alarm{Kind: "priority-order", About: set, Text: disagreement(b, w)})
		}
	}
	return out
}

func disagreement(better, other *control.VRRPGroup) string {
	return fmt.Sprintf("the routers of sync group %s disagree about which is the better one: the priority here is above the Active's in group %s (%d to %d) and not in group %s (%d to %d), "+
		"so that the role never moves by priority: make one router the higher one in every member; tandem check --against FILE, with the other router's file, shows which differ",
		better.Set, better.Name, better.EffectivePriority, better.ActivePriority, other.Name, other.EffectivePriority, other.ActivePriority)
}

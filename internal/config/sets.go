// SPDX-License-Identifier: Apache-2.0

package config

import "slices"

// Set is what changes state together: a sync group with its members, or a group
// that is in none.
type Set struct {
	Name   string
	Groups []Group // in the order of the file; at least one
}

// Sets are those of the enabled groups, in the order of their first one.
func (v *VRRP) Sets() (out []Set) {
	syncOf := map[string]string{}
	for _, s := range v.SyncGroups {
		for _, m := range s.Member {
			syncOf[m] = s.Name
		}
	}
	for _, g := range v.Groups {
		if g.Disable {
			continue
		}
		name := g.Name
		if s, ok := syncOf[name]; ok {
			name = s
		}
		i := slices.IndexFunc(out, func(s Set) bool { return s.Name == name })
		if i < 0 {
			i = len(out)
			out = append(out, Set{Name: name})
		}
		out[i].Groups = append(out[i].Groups, g)
	}
	return out
}

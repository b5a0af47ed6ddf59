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
		s := findSet(out, name)
		if s == nil {
			out = append(out, Set{Name: name})
			s = &out[len(out)-1]
		}
		s.Groups = append(s.Groups, g)
	}
	return out
}

// Names are those of sets.
func Names(sets []Set) (out []string) {
	for _, s := range sets {
		out = append(out, s.Name)
	}
	return out
}

func findSet(sets []Set, name string) *Set {
	if i := slices.IndexFunc(sets, func(s Set) bool { return s.Name == name }); i >= 0 {
		return &sets[i]
	}
	return nil
}

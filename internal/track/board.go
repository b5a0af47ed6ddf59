// SPDX-License-Identifier: Apache-2.0

package track

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Thing is something that a group tracks.
type Thing struct {
	ID     string // of Board.Set: "interface eth3", "health-check of LAN"
	Weight int    // 0: Down is a fault. Below: taken off while Down; above: added while Up
}

// Group is a group and all it tracks; what a sync group tracks, each of its
// members does.
type Group struct {
	Name     string
	Priority uint8 // configured, 1-255
	Things   []Thing
}

// State is what is known of a thing.
type State struct {
	Level Level
	Why   string    // of Down
	Since time.Time // of Level
}

// Verdict is what all that a group tracks means for it.
type Verdict struct {
	Priority uint8  // in force
	Fault    string // why the group cannot have the role, "" when it can
}

// Board is all that is tracked. It is pure and not safe for concurrent use.
type Board struct {
	groups []Group
	states map[string]State
}

// NewBoard makes a board on which everything is Unknown.
func NewBoard(groups []Group) *Board {
	return &Board{groups: groups, states: map[string]State{}}
}

// Set notes a thing's state and says whether it changed: its level, or why. What
// nobody tracks is not noted.
func (b *Board) Set(id string, s State) bool {
	old, known := b.states[id]
	if known && old.Level == s.Level && old.Why == s.Why || !slices.ContainsFunc(b.groups, func(g Group) bool { return g.tracks(id) }) {
		return false
	}
	b.states[id] = s
	return true
}

// Add adds things that the group does not track yet.
func (g *Group) Add(things []Thing) {
	for _, t := range things {
		if !g.tracks(t.ID) {
			g.Things = append(g.Things, t)
		}
	}
}

func (g *Group) tracks(id string) bool {
	return slices.ContainsFunc(g.Things, func(t Thing) bool { return t.ID == id })
}

// State is what is known of a thing.
func (b *Board) State(id string) State { return b.states[id] }

// Things are those of a group, in order.
func (b *Board) Things(group string) []Thing {
	for i := range b.groups {
		if b.groups[i].Name == group {
			return b.groups[i].Things
		}
	}
	return nil
}

// IDs are all things that begin so, each once, in order.
func (b *Board) IDs(prefix string) (out []string) {
	for _, g := range b.groups {
		for _, t := range g.Things {
			if strings.HasPrefix(t.ID, prefix) && !slices.Contains(out, t.ID) {
				out = append(out, t.ID)
			}
		}
	}
	return out
}

// Groups are the groups, in order.
func (b *Board) Groups() []Group { return b.groups }

// Bounds of a priority in force: 0 and 255 have meanings of their own.
const (
	lowest  = 1
	highest = 254
	owner   = 255
)

// Unanswered ends the fault of a group that waits for the first word of a health
// check.
const Unanswered = " has not answered yet"

// Verdict judges one group. A thing without a weight that is not known to be up
// is a fault; one with a weight changes nothing until it is known.
func (b *Board) Verdict(g *Group) (v Verdict) {
	sum := int(g.Priority)
	var faults []string
	for _, t := range g.Things {
		s := b.states[t.ID]
		switch {
		case t.Weight == 0 && s.Level == Down:
			faults = append(faults, t.ID+": "+cmp.Or(s.Why, "down"))
		case t.Weight == 0 && s.Level == Unknown:
			faults = append(faults, t.ID+Unanswered)
		case t.Weight < 0 && s.Level == Down, t.Weight > 0 && s.Level == Up:
			sum += t.Weight
		}
	}
	v.Fault = strings.Join(faults, "; ")
	if v.Priority = g.Priority; g.Priority != owner {
		v.Priority = uint8(max(lowest, min(sum, highest)))
	}
	return v
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/takeover"
)

// Takeovers are the latest n changes of the followed set's role, oldest first.
func (b *backend) Takeovers(n int) []control.Timeline {
	out := []control.Timeline{}
	if b.d.sync == nil {
		return out
	}
	s := b.d.sync.runner.Status()
	for i := range s.Records {
		out = append(out, recordLine(b.d.election.followed, &s.Records[i]))
	}
	for i := range s.Yields {
		out = append(out, yieldLine(b.d.election.followed, &s.Yields[i]))
	}
	slices.SortStableFunc(out, func(x, y control.Timeline) int { return x.Start.Compare(y.Start) })
	return out[max(0, len(out)-n):]
}

func yieldLine(set string, y *takeover.Yield) control.Timeline {
	t := control.Timeline{Set: set, Kind: "yield", Reason: y.Cause, Start: wall(y.Decided), Steps: []control.Step{{Name: "adverts stopped"}}}
	for _, s := range []struct {
		name string
		at   int64
	}{{"released", y.Released}, {"addresses out", y.AddressesOut}} {
		if s.at != 0 {
			t.Steps = append(t.Steps, control.Step{Name: s.name, AtMS: ms(time.Duration(s.at - y.Decided))})
		}
	}
	return t
}

// evidence is what a takeover was decided by, beside its cause: what the adverts
// said at the latest look before it, and what peers say over the sync link now.
func (b *backend) evidence() (out []string) {
	b.watch.mu.Lock()
	groups := b.watch.groups
	b.watch.mu.Unlock()
	for _, g := range groups {
		if g.Set != b.d.election.followed {
			continue
		}
		if !g.Active.IsValid() {
			out = append(out, fmt.Sprintf("%s: no Active was heard, own priority %d", g.Name, g.Priority))
			continue
		}
		out = append(out, fmt.Sprintf("%s: the Active was %s with priority %d and an advert each %s, own priority %d",
			g.Name, g.Active, g.ActivePriority, g.ActiveInterval, g.Priority))
	}
	for _, p := range b.Sync().Peers {
		switch {
		case !p.Heard:
			out = append(out, p.Name+": not heard over the sync link")
		default:
			out = append(out, fmt.Sprintf("%s: heard over the sync link, it says %s; the copy of its flows here is %s", p.Name, p.Role, completeness(p.Complete)))
		}
	}
	return out
}

func completeness(yes bool) string {
	if yes {
		return "complete"
	}
	return "not complete"
}

// remember keeps what the adverts say, for evidence: a takeover forgets it. What
// keeps a set in Initialize goes to the election.
func (w *watch) remember() {
	p := w.b.proc()
	if p == nil {
		return
	}
	groups := p.Status().Groups
	for i := range groups {
		w.b.d.election.standing(&groups[i])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.groups = groups
}

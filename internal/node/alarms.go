// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
)

// watchEvery is the pace of the watch. What holds at two looks is an alarm:
// both routers are Active for some milliseconds of each hand-over, and nobody
// is heard in the first moments after a start.
const watchEvery = 500 * time.Millisecond

// watch looks for conditions that no event tells, remembers since when each
// holds, and tells its begin and end. It reads; it never acts.
type watch struct {
	b *backend

	mu   sync.Mutex
	seen map[string]control.Alarm // at the latest look, by kind and subject
	held map[string]control.Alarm // at the two latest looks
	both uint64                   // times that two Actives began

	groups []adverts.GroupStatus // at the latest look
}

func newWatch(b *backend) *watch {
	return &watch{b: b, seen: map[string]control.Alarm{}, held: map[string]control.Alarm{}}
}

func (w *watch) String() string { return "watch" }

func (w *watch) Run(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	misfit, ranks := refused{}, order{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			groups := w.b.VRRP()
			w.look(slices.Concat(w.b.conditions(), misfit.look(groups, now), ranks.look(groups)), now)
			w.remember()
		}
	}
}

// look compares what holds now with what held before.
func (w *watch) look(found []control.Alarm, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string]control.Alarm{}
	for _, a := range found {
		key := a.Kind + " " + a.About
		a.Since = now
		if before, ok := w.seen[key]; ok {
			a.Since = before.Since
			if _, told := w.held[key]; !told {
				w.tell(a, true)
			}
			w.held[key] = a
		}
		seen[key] = a
	}
	for key, a := range w.held {
		if _, ok := seen[key]; !ok {
			delete(w.held, key)
			w.tell(a, false)
		}
	}
	w.seen = seen
}

func (w *watch) tell(a control.Alarm, on bool) {
	if on && a.Kind == "two-actives" {
		w.both++
	}
	text := a.Text
	if !on {
		text = "over: " + text
	}
	w.b.d.stream.Publish(event.Event{Kind: event.Alarm, Subject: a.About, Text: text})
	w.b.d.log.Warn("alarm", "kind", a.Kind, "subject", a.About, "on", on, "text", a.Text)
}

// alarms are those that hold now.
func (w *watch) alarms() (out []control.Alarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.held {
		out = append(out, a)
	}
	return out
}

// conditions are what an operator should know of, as it is at this moment;
// Since is the watch's.
func (b *backend) conditions() (out []control.Alarm) {
	out = b.d.tracking.alarms(time.Now())
	if b.d.cfg.Capture.Advert == "xdp" {
		out = append(out, b.d.election.reception.lower(advertInterfaces(b.d.config()))...)
	}
	s := b.Sync()
	if s == nil {
		return out
	}
	out = append(append(out, linkAlarms(s)...), tableAlarm(s, b.d.sync.shown.count())...)
	out = append(append(out, pathAlarms(s)...), b.nameAlarms()...)
	b.d.election.mu.Lock()
	active := b.d.election.set(s.Follows).Role == control.RoleActive
	b.d.election.mu.Unlock()
	if active {
		out = append(out, twoActives(s, advertInterfaces(b.d.config()))...)
	}
	return out
}

// twoActives: this node is Active, and so is a peer by its own word. Where
// adverts pass, the election ends that at once; so they do not pass.
func twoActives(s *control.SyncStatus, ifaces []string) (out []control.Alarm) {
	for _, p := range s.Peers {
		if !p.Heard || p.Role != control.RoleActive {
			continue
		}
		text := fmt.Sprintf("%s is Active too, as it says over %s", p.Name, p.Interface)
		if len(ifaces) == 0 {
			text += ": the other election has told both, see what it says on either"
		} else {
			text += ", and no advert passes between the two routers on " + strings.Join(ifaces, ", ") + ": " +
				"check the switches between them, for a cut, a VLAN, IGMP snooping, or a filter of IP protocol 112"
		}
		out = append(out, control.Alarm{Kind: "two-actives", Text: text, About: s.Follows})
	}
	return out
}

// tableAlarm: the copy does not fit the kernel table.
func tableAlarm(s *control.SyncStatus, t control.KernelTable) []control.Alarm {
	more := 0
	for _, p := range s.Peers {
		more += p.Uncommitted
	}
	text, _ := t.Room(more)
	if text == "" {
		return nil
	}
	return []control.Alarm{{Kind: "table-full", Text: text, About: "kernel table"}}
}

// linkAlarms are links on which nobody is heard.
func linkAlarms(s *control.SyncStatus) (out []control.Alarm) {
	for _, l := range s.Links {
		if !l.Heard {
			out = append(out, control.Alarm{Kind: "link-silent", Text: l.Hint, About: l.Interface})
		}
	}
	return out
}

// twoActives is how often that began.
func (w *watch) twoActives() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.both
}

// byAge sorts alarms, the oldest first.
func byAge(all []control.Alarm) {
	slices.SortFunc(all, func(x, y control.Alarm) int {
		if c := x.Since.Compare(y.Since); c != 0 {
			return c
		}
		return strings.Compare(x.About, y.About)
	})
}

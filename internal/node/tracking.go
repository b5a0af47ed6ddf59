// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/track"
)

const (
	// patience is how long a group waits at the start for the first word of its
	// health checks. Without tandem hooks it would wait for ever: an outage because
	// of what was made against outages.
	patience = 10 * time.Second
	// hooksSilent is after how long tandem hooks is missed; it speaks each 2 s.
	hooksSilent = 10 * time.Second
)

// tracking joins what groups track (track.Board) to the election: interfaces
// are followed here, health checks by tandem hooks, which tells their levels.
type tracking struct {
	stream *event.Stream
	log    *slog.Logger
	links  *track.Links

	mu      sync.Mutex
	cfg     *config.Config // the latest: see reload
	board   *track.Board
	said    map[string]adverts.Tracked // to the election, by group
	proc    *adverts.Process           // nil until the election has started
	word    control.HooksWord          // the latest
	heard   time.Time                  // when it came; at first, when the daemon started
	started time.Time

	reloading sync.Mutex
	torn      error // why a reload came to no end; under reloading
}

func newTracking(cfg *config.Config, stream *event.Stream, log *slog.Logger) *tracking {
	now := time.Now()
	return &tracking{cfg: cfg, stream: stream, log: log, board: track.NewBoard(trackedGroups(cfg)),
		said: map[string]adverts.Tracked{}, heard: now, started: now}
}

// trackedGroups is what each group tracks. What its sync group does, its members
// do; and what has a weight in one member has it in all, since they take a role
// together: a priority that changed in one alone would move nothing.
func trackedGroups(cfg *config.Config) (out []track.Group) {
	for _, g := range cfg.VRRP.Groups {
		if g.Disable {
			continue
		}
		t := track.Group{Name: g.Name, Priority: g.Priority}
		for _, i := range g.Track.Interfaces {
			t.Things = append(t.Things, track.Thing{ID: track.InterfaceID(i.Name), Weight: i.Weight})
		}
		if g.Check != nil {
			t.Things = append(t.Things, track.Thing{ID: track.CheckID(g.Name), Weight: g.Check.Weight})
		}
		out = append(out, t)
	}
	for _, s := range cfg.VRRP.SyncGroups {
		var shared []track.Thing
		for _, t := range out {
			for _, x := range t.Things {
				if x.Weight != 0 && slices.Contains(s.Member, t.Name) {
					shared = append(shared, x)
				}
			}
		}
		if s.Check != nil {
			shared = append(shared, track.Thing{ID: track.CheckID(s.Name), Weight: s.Check.Weight})
		}
		for i := range out {
			if slices.Contains(s.Member, out[i].Name) {
				out[i].Add(shared)
			}
		}
	}
	return out
}

// open reads the interfaces, before anybody speaks.
func (t *tracking) open() error {
	var err error
	t.links, err = track.OpenLinks(interfacesOn(t.board), func(name string, l track.Level, why string) { t.note(track.InterfaceID(name), l, why) })
	return err
}

func interfacesOn(b *track.Board) (names []string) {
	for _, id := range b.IDs(track.InterfaceID("")) {
		names = append(names, strings.TrimPrefix(id, track.InterfaceID("")))
	}
	return names
}

// begin gives what the election must know from its first moment; from now on it
// is told of changes by proc (attach).
func (t *tracking) begin() map[string]adverts.Tracked {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]adverts.Tracked{}
	for i := range t.board.Groups() {
		g := &t.board.Groups()[i]
		v := t.verdict(g)
		if t.said[g.Name] = v; len(g.Things) > 0 || v.Loose {
			out[g.Name] = v
		}
	}
	return out
}

func (t *tracking) attach(proc *adverts.Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.proc = proc
	t.apply() // what changed while it was started
}

func (t *tracking) verdict(g *track.Group) adverts.Tracked {
	v := t.board.Verdict(g)
	return adverts.Tracked{Priority: v.Priority, Fault: v.Fault, Loose: t.loose(g.Name)}
}

func (t *tracking) loose(group string) bool {
	return slices.ContainsFunc(t.cfg.VRRP.Groups, func(g config.Group) bool { return g.Name == group && g.Track.ExcludeOwn })
}

// apply tells the election what changed. The lock is held.
func (t *tracking) apply() {
	if t.proc == nil {
		return
	}
	for i := range t.board.Groups() {
		g := &t.board.Groups()[i]
		if v := t.verdict(g); v != t.said[g.Name] {
			t.said[g.Name] = v
			t.proc.Track(g.Name, v)
		}
	}
}

// note takes what is known of a thing.
func (t *tracking) note(id string, l track.Level, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.board.State(id)
	s := track.State{Level: l, Why: why, Since: old.Since}
	if l != old.Level {
		s.Since = time.Now()
	}
	if !t.board.Set(id, s) {
		return
	}
	if l != old.Level {
		text := l.String()
		if why != "" {
			text += ": " + why
		}
		t.stream.Publish(event.Event{Kind: event.Tracked, Subject: id, Text: text})
		t.log.Info("tracked", "what", id, "state", text)
	}
	t.apply()
}

func (t *tracking) String() string { return "tracking" }

// Run follows interfaces, and ends the wait for checks that nobody makes.
func (t *tracking) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.links.Run(ctx) })
	g.Go(func() error { return t.wait(ctx) })
	return g.Wait()
}

func (t *tracking) wait(ctx context.Context) error {
	tick := time.NewTicker(patience)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.lose()
		}
	}
}

// lose: checks that tandem hooks has not told of count as up.
func (t *tracking) lose() {
	t.mu.Lock()
	ids := t.board.IDs(track.CheckPrefix)
	t.mu.Unlock()
	for _, id := range ids {
		t.mu.Lock()
		unknown := t.board.State(id).Level == track.Unknown && time.Since(t.heard) >= patience
		t.mu.Unlock()
		if unknown {
			t.note(id, track.Up, "nobody makes it: tandem hooks has not been heard")
		}
	}
}

// hooks takes the word of tandem hooks. What it does not know yet, because it
// was started again, stays as it was.
func (t *tracking) hooks(w control.HooksWord) control.HooksAnswer {
	for _, c := range w.Checks {
		if l := track.ParseLevel(c.State); l != track.Unknown {
			t.note(c.Name, l, c.Why)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !w.Daemon.Equal(t.started) { // it is another daemon's number
		w.Done = 0
	}
	w.Done = max(w.Done, t.word.Done)
	t.word, t.heard = w, time.Now()
	return control.HooksAnswer{Started: t.started, Done: w.Done}
}

// things are what a group tracks, for people.
func (t *tracking) things(group string) (out []control.Tracked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.board.Things(group) {
		s := t.board.State(x.ID)
		out = append(out, control.Tracked{Name: x.ID, State: s.Level.String(), Why: s.Why, Since: s.Since, Weight: x.Weight, What: t.what(x.ID)})
	}
	return out
}

// alarms are what somebody should look at.
func (t *tracking) alarms(now time.Time) (out []control.Alarm) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cfg.Runs() && now.Sub(t.heard) > hooksSilent {
		text := "tandem hooks is not heard: no transition script runs, and health checks stay as they were; it is started again, see the log"
		if t.cfg.Hooks.Unit {
			text = "tandem hooks is not heard: no transition script runs, and health checks stay as they were: systemctl status tandem-hooks"
		}
		out = append(out, control.Alarm{Kind: "hooks", Text: text, About: "tandem hooks"})
	}
	for _, id := range t.board.IDs("") {
		if s := t.board.State(id); s.Level == track.Down {
			out = append(out, control.Alarm{Kind: "tracked", Text: "down: " + s.Why, About: id})
		}
	}
	return out
}

// priorities in force, by group.
func (t *tracking) priorities() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]int{}
	for i := range t.board.Groups() {
		g := &t.board.Groups()[i]
		out[g.Name] = int(t.board.Verdict(g).Priority)
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/track"
)

// Reload is control.Changes: the configuration is read again. Of the election
// only what changed hears of it: groups that go on as something else, and sets
// that end and begin. If anything changed that may not, nothing is taken over.
func (b *backend) Reload(ctx context.Context, _ control.ReloadOrder) (control.Reloaded, error) {
	t := b.d.tracking
	t.reloading.Lock() // one after the other
	defer t.reloading.Unlock()
	if t.torn != nil {
		return control.Reloaded{}, fmt.Errorf("an earlier reload did not come to its end (%w): restart tandem", t.torn)
	}
	next, err := config.Load(b.d.cfg.Path)
	if err != nil {
		return control.Reloaded{}, err
	}
	c, err := t.config().Changed(next)
	if err != nil {
		return control.Reloaded{}, err
	}
	out := control.Reloaded{Changed: append([]string{}, c.Tables...), Ended: append([]string{}, c.Ends...),
		Anew: append([]string{}, config.Names(c.Anew)...), Begun: append([]string{}, config.Names(c.Begins)...), Text: c.String()}
	if c.None() {
		return out, nil
	}
	if err := b.prepare(next); err != nil {
		return out, fmt.Errorf("%w: nothing was taken over", err)
	}
	b.d.log.Info("configuration", "file", next.Path, "changes", out.Text)
	if followed := b.d.election.followed; slices.Contains(slices.Concat(out.Ended, out.Anew), followed) {
		_, how := b.giveAway(ctx) // a peer that has every flow loses no packet over it
		b.d.log.Info("configuration", "set", followed, "before", how)
	}
	if t.torn = b.takeOver(next, &c); t.torn != nil {
		return out, fmt.Errorf("%w: not all was taken over: restart tandem", t.torn)
	}
	return out, nil
}

// prepare refuses what cannot be, before anything changes. Until the end, what
// accepts nothing before or after accepts nothing.
func (b *backend) prepare(next *config.Config) error {
	if b.d.external() {
		return nil
	}
	proc := b.proc()
	if proc == nil {
		return errors.New("the election has not started yet")
	}
	if room := proc.Room(); len(next.VRRP.Groups) > room {
		return fmt.Errorf("there is room for %d groups until a restart", room)
	}
	either := append(notAccepting(b.d.config()), notAccepting(next)...)
	slices.SortFunc(either, netip.Addr.Compare)
	return b.d.accept.refuse(slices.Compact(either))
}

// takeOver takes a configuration over. Addresses of what ends are virtual until
// they are out, new ones before they go in. The scripts of what ended are those of
// the configuration before: tandem hooks hears of the new one in between.
func (b *backend) takeOver(next *config.Config, c *config.Changes) error {
	d := b.d
	if err := d.election.end(append(c.Ends, config.Names(c.Anew)...)); err != nil {
		return err
	}
	d.tracking.reload(next)
	d.stream.Publish(event.Event{Kind: event.Daemon, Subject: event.Configuration, Text: c.String()})
	kickHooks(d)
	if err := d.accept.refuse(notAccepting(next)); err != nil {
		return err
	}
	if d.adverts != nil {
		d.adverts.Follow(advertInterfaces(next))
	}
	if proc := b.proc(); proc != nil {
		if err := proc.Reconfigure(next.VRRP.Groups); err != nil {
			return err
		}
		if err := proc.Begin(append(c.Anew, c.Begins...)); err != nil {
			return err
		}
	}
	if d.sync == nil {
		return nil
	}
	d.sync.capture.Exclude(captureExclude(next))
	hold, beat := d.holdDeath(), d.heartbeat()
	d.sync.replica.locked(func(int64) { d.sync.replica.node.SetTimes(hold, beat) })
	return (&localAddresses{d: d}).apply()
}

func kickHooks(d *daemon) {
	select {
	case d.hooks.again <- struct{}{}:
	default:
	}
}

// config is the configuration in force, as far as it may change.
func (t *tracking) config() *config.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cfg
}

// reload takes a configuration over. What was tracked before keeps its state; a
// check that is new, or another one now, counts as up until it has answered: an
// Active must not lose its role because somebody added a check.
func (t *tracking) reload(next *config.Config) {
	t.mu.Lock()
	board := track.NewBoard(trackedGroups(next))
	for _, id := range board.IDs("") {
		s := t.board.State(id)
		if s.Level == track.Unknown || strings.HasPrefix(id, track.CheckPrefix) && !sameCheck(t.cfg, next, id) {
			s = track.State{Level: track.Up, Why: "it has not answered since it was configured", Since: time.Now()}
		}
		board.Set(id, s)
	}
	t.board, t.cfg = board, next
	maps.DeleteFunc(t.said, func(group string, _ adverts.Tracked) bool {
		return !slices.ContainsFunc(board.Groups(), func(g track.Group) bool { return g.Name == group })
	})
	t.mu.Unlock()
	t.links.Follow(interfacesOn(board)) // tells of each
	t.mu.Lock()
	defer t.mu.Unlock()
	t.apply()
}

func sameCheck(a, b *config.Config, id string) bool {
	name := strings.TrimPrefix(id, track.CheckPrefix)
	x, y := checkOf(a, name), checkOf(b, name)
	return x != nil && y != nil && slices.Equal(x.Script, y.Script) && reflect.DeepEqual(x.Ping, y.Ping)
}

// checkOf is the health check of a group or sync group; nil: it has none.
func checkOf(cfg *config.Config, name string) *config.HealthCheck {
	for i := range cfg.VRRP.Groups {
		if g := &cfg.VRRP.Groups[i]; g.Name == name && g.Check != nil {
			return g.Check
		}
	}
	for i := range cfg.VRRP.SyncGroups {
		if s := &cfg.VRRP.SyncGroups[i]; s.Name == name && s.Check != nil {
			return s.Check
		}
	}
	return nil
}

// what says of a health check what it does. The lock is held.
func (t *tracking) what(id string) string {
	name, isCheck := strings.CutPrefix(id, track.CheckPrefix)
	h := checkOf(t.cfg, name)
	switch {
	case !isCheck || h == nil:
		return ""
	case h.Ping.IsValid():
		return fmt.Sprintf("ping %s", h.Ping)
	}
	return strings.Join(h.Script, " ")
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/track"
)

// Reload is control.Changes: the configuration is read again. What changed and
// may change is taken over, group by group; the election goes on meanwhile, so
// that no advert is late for it. If anything changed that may not, nothing is
// taken over.
func (b *backend) Reload(context.Context, control.ReloadOrder) (control.Reloaded, error) {
	t := b.d.tracking
	t.reloading.Lock() // one after the other
	defer t.reloading.Unlock()
	next, err := config.Load(b.d.cfg.Path)
	if err != nil {
		return control.Reloaded{}, err
	}
	what, err := t.config().Changed(next)
	if err != nil {
		return control.Reloaded{}, err
	}
	out := control.Reloaded{Changed: append([]string{}, what...), Text: "nothing has changed"}
	if len(what) == 0 {
		return out, nil
	}
	if err := b.reconfigure(next); err != nil {
		return out, err
	}
	out.Text = "taken over: " + strings.Join(what, ", ")
	b.d.stream.Publish(event.Event{Kind: event.Daemon, Subject: event.Configuration, Text: out.Text})
	b.d.log.Info("configuration", "file", next.Path, "changed", strings.Join(what, ", "))
	kickHooks(b.d)
	return out, nil
}

// reconfigure takes a configuration over. Who asks which addresses are virtual
// knows the new ones before they go in, and those that are gone as long as they
// are in.
func (b *backend) reconfigure(next *config.Config) error {
	d := b.d
	d.tracking.reload(next)
	if d.accept != nil {
		if err := d.accept.Refuse(notAccepting(next)); err != nil {
			return err
		}
	}
	if proc := b.proc(); proc != nil {
		if err := proc.Reconfigure(next.VRRP.Groups); err != nil {
			return err
		}
	}
	if d.sync == nil {
		return nil
	}
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

// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/track"
)

// probe is one health check and how it is made.
type probe struct {
	name string
	run  func(ctx context.Context) error
	rule track.Rule
}

// probesOf are the health checks of a configuration.
func probesOf(cfg *config.Config) (out []probe) {
	add := func(name string, h *config.HealthCheck) {
		if h == nil {
			return
		}
		p := probe{name: track.CheckID(name), rule: track.Rule{Interval: h.Interval, FailureCount: h.FailureCount, Rise: h.Rise}}
		if h.Ping.IsValid() {
			p.run = func(ctx context.Context) error { return track.Ping(ctx, h.Ping, h.Timeout) }
		} else {
			program := &track.Program{Argv: h.Script, User: cfg.Hooks.User, Timeout: h.Timeout,
				Env: []string{"TANDEM_TYPE=health-check", "TANDEM_NODE=" + cfg.Node.Name, "TANDEM_NAME=" + name}}
			p.run = program.Run
		}
		out = append(out, p)
	}
	for i := range cfg.VRRP.Groups {
		if g := &cfg.VRRP.Groups[i]; !g.Disable {
			add(g.Name, g.Check)
		}
	}
	for i := range cfg.VRRP.SyncGroups {
		add(cfg.VRRP.SyncGroups[i].Name, cfg.VRRP.SyncGroups[i].Check)
	}
	return out
}

// checks runs the health checks and keeps what they came to.
type checks struct {
	probes  []probe
	changed func() // called after each change
	log     *slog.Logger

	mu    sync.Mutex
	words []control.CheckWord // by probe
}

func newChecks(probes []probe, changed func(), log *slog.Logger) *checks {
	c := &checks{probes: probes, changed: changed, log: log}
	for _, p := range probes {
		c.words = append(c.words, control.CheckWord{Name: p.name, State: track.Unknown.String()})
	}
	return c
}

// now is what is known of all of them.
func (c *checks) now() []control.CheckWord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]control.CheckWord{}, c.words...)
}

// run makes one health check again and again until ctx ends.
func (c *checks) run(ctx context.Context, i int) {
	p := c.probes[i]
	check := track.Check{Rule: p.rule}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		check.Begin(time.Now())
		err := p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if check.Result(err, time.Now()) {
			c.log.Info("health check", "name", p.name, "state", check.Level.String(), "why", check.Why)
		}
		c.set(i, control.CheckWord{Name: p.name, State: check.Level.String(), Why: strings.ToValidUTF8(check.Why, "?")})
		timer.Reset(time.Until(check.Next()))
	}
}

func (c *checks) set(i int, w control.CheckWord) {
	c.mu.Lock()
	changed := c.words[i] != w
	c.words[i] = w
	c.mu.Unlock()
	if changed {
		c.changed()
	}
}

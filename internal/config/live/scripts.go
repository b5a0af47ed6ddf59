// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/track"
)

// scripts refuses programs that would not be run.
func (a *asker) scripts() string {
	if !a.cfg.Runs() {
		return "none is configured"
	}
	if err := track.UserExists(a.cfg.Hooks.User); err != nil {
		a.fail(fmt.Sprintf("%s: %v", a.cfg.Where("hooks", "user"), err))
	}
	for _, g := range a.cfg.VRRP.Groups {
		if !g.Disable {
			a.programs(g.Check, &g.Scripts, "vrrp", "group", g.Name)
		}
	}
	for _, s := range a.cfg.VRRP.SyncGroups {
		a.programs(s.Check, &s.Scripts, "vrrp", "sync-group", s.Name)
	}
	return "may be run"
}

func (a *asker) programs(check *config.HealthCheck, scripts *config.Scripts, where ...string) {
	if check != nil && check.Script != nil {
		a.program(check.Script, append(where, "health-check", "script")...)
	}
	all := scripts.All()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		a.program(all[key], append(where, "transition-script", key)...)
	}
}

func (a *asker) program(argv []string, where ...string) {
	if err := track.Trusted(argv[0]); err != nil {
		a.fail(fmt.Sprintf("%s: %v", a.cfg.Where(where...), err))
	}
}

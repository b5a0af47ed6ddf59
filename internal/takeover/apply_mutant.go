// SPDX-License-Identifier: Apache-2.0

//go:build mutant

package takeover

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/mutant"
)

func (c *Committer) apply() error {
	if mutant.UpdateOnly {
		return c.update()
	}
	return c.kernel.Apply(c.ops)
}

// update is a mutant's: what is there stays, windows and all, as if it had been
// updated, which changes no window either (docs/ctnetlink.md).
func (c *Committer) update() error {
	replace := make([]bool, len(c.ops))
	for i := range c.ops {
		if replace[i] = c.ops[i].Kind == conntrack.OpReplace; replace[i] {
			c.ops[i].Kind = conntrack.OpCreate
		}
	}
	err := c.kernel.Apply(c.ops)
	for i := range c.ops {
		if replace[i] {
			c.ops[i].Kind = conntrack.OpReplace
			if errors.Is(c.ops[i].Err, unix.EEXIST) {
				c.ops[i].Err = nil
			}
		}
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

//go:build mutant

package takeover

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/mutant"
)

func (c *Committer) apply(ops []conntrack.Op) error {
	if mutant.UpdateOnly {
		return c.update(ops)
	}
	if mutant.NoRefresh {
		return c.age(ops)
	}
	return c.kernel.Apply(ops)
}

// age is a mutant's: no timeout is set anew.
func (c *Committer) age(ops []conntrack.Op) error {
	for i := range ops {
		if ops[i].Kind == conntrack.OpRenew {
			continue
		}
		if err := c.kernel.Apply(ops[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

// update is a mutant's: what is there stays, windows and all, as if it had been
// updated without BE_LIBERAL, which changes no window (docs/ctnetlink.md).
func (c *Committer) update(ops []conntrack.Op) error {
	replace := make([]bool, len(ops))
	for i := range ops {
		if replace[i] = ops[i].Kind == conntrack.OpReplace; replace[i] {
			ops[i].Kind = conntrack.OpCreate
		}
	}
	err := c.kernel.Apply(ops)
	for i := range ops {
		if replace[i] {
			ops[i].Kind = conntrack.OpReplace
			if errors.Is(ops[i].Err, unix.EEXIST) {
				ops[i].Err = nil
			}
		}
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

//go:build !mutant

package takeover

import "github.com/tandem-ha/tandem/conntrack"

func (c *Committer) apply(ops []conntrack.Op) error { return c.kernel.Apply(ops) }

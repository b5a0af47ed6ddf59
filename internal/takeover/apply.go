// SPDX-License-Identifier: Apache-2.0

//go:build !mutant

package takeover

func (c *Committer) apply() error { return c.kernel.Apply(c.ops) }

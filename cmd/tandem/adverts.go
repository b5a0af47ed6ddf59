// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/adverts"
)

// advertsFD is where the daemon puts its end of the socketpair: the first of
// exec.Cmd's ExtraFiles (internal/adverts).
const advertsFD = 3

// advertsCommand is the child of run and nobody else's: it has no flags, and
// signals do not end it (they reach the whole group), its daemon does.
func advertsCommand() *cli.Command {
	return &cli.Command{
		Name:            "adverts",
		Hidden:          true,
		SkipFlagParsing: true,
		Action:          func(ctx *cli.Context) error { return adverts.Main(context.WithoutCancel(ctx.Context), advertsFD) },
	}
}

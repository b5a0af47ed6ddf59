// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/config/live"
)

// reloadCommand asks the machine as run does, before the daemon takes anything
// over.
func reloadCommand() *cli.Command {
	return &cli.Command{
		Name:  "reload",
		Usage: "have the daemon take over what changed in its configuration, and say what went on, ended and began; it refuses, and changes nothing, where that needs a restart",
		Flags: []cli.Flag{socketFlag},
		Action: func(ctx *cli.Context) error {
			s, err := client(ctx).Status(ctx.Context)
			if err != nil {
				return err
			}
			cfg, err := config.Load(s.Config)
			if err != nil {
				return err
			}
			if err := live.Refusal(live.Ask(cfg, &s)); err != nil {
				return err
			}
			out, err := client(ctx).Reload(ctx.Context)
			if err != nil {
				return err
			}
			return show(ctx, out, func(w io.Writer) { fmt.Fprintln(w, out.Text) })
		},
	}
}

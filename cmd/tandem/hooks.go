// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/hooks"
)

func hooksCommand() *cli.Command {
	return &cli.Command{
		Name:  "hooks",
		Usage: "run health checks and transition scripts for the daemon that runs here (tandem run starts it, unless hooks.start = \"unit\")",
		Flags: []cli.Flag{configFlag, &cli.BoolFlag{Name: "child", Hidden: true, Usage: "end with the daemon"}},
		Action: func(ctx *cli.Context) error {
			cfg, err := config.Load(ctx.String("config"))
			if err != nil {
				return err
			}
			until, child := ctx.Context, ctx.Bool("child")
			if child {
				until = untilTheDaemonEnds(until)
				// The daemon's unit protects it from the OOM killer; scripts have no claim to that.
				_ = os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)
			}
			return hooks.New(cfg, child, newLog(cfg.Log.Level)).Run(until)
		},
	}
}

// untilTheDaemonEnds: Ctrl-C and a service manager signal the whole group, and
// the scripts of a stop are still to run. The signals are caught, not ignored: a
// script would inherit that.
func untilTheDaemonEnds(ctx context.Context) context.Context {
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	return context.WithoutCancel(ctx)
}

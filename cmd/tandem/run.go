// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/config/live"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/node"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:   "run",
		Usage:  "be a node, until SIGTERM (hands over) or a second one (ends at once)",
		Flags:  []cli.Flag{configFlag},
		Action: run,
	}
}

// gcPercent bounds the garbage that waits beside the flows, which are nearly all
// of the daemon's memory: by default it might become as much again. A
// collection hardly costs, for flows are slabs without pointers, and what
// carries them allocates nothing. GOGC says otherwise.
const gcPercent = 10

// headroom counts as heap and is never touched, so that it takes no memory:
// without it a daemon that has few flows collects after each 400 kB.
const headroom = 32 << 20

// run asks the machine before anything is opened or attached, so that a
// refusal leaves nothing half-installed.
func run(ctx *cli.Context) error {
	cfg, err := config.Load(ctx.String("config"))
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		defer runtime.KeepAlive(make([]byte, headroom))
		debug.SetGCPercent(gcPercent)
	}
	log := newLog(cfg.Log.Level)
	found := live.Ask(cfg, nil)
	if err := live.Refusal(found); err != nil {
		return err
	}
	for _, f := range found {
		if f.Level == live.Warn {
			log.Warn(f.Text)
		}
	}
	defer notify(log, "STOPPING=1")
	return node.Run(ctx.Context, cfg, control.Version(), log, func() { notify(log, "READY=1") })
}

func notify(log *slog.Logger, state string) {
	if err := control.Notify(state); err != nil {
		log.Warn(err.Error())
	}
}

// newLog writes to stderr. Under systemd the journal has its own times.
func newLog(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo // config allows only words that slog knows
	}
	opts := &slog.HandlerOptions{Level: l}
	if os.Getenv("JOURNAL_STREAM") != "" {
		opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

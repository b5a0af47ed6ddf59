// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/drill"
)

func drillCommand() *cli.Command {
	return &cli.Command{
		Name: "drill", Usage: "break a pair on purpose and count what the endpoints lost",
		HideHelpCommand: true,
		Subcommands:     []*cli.Command{crashCommand()},
		Action: func(c *cli.Context) error {
			return usageError{fmt.Sprintf("unknown drill %q: there is crash", c.Args().First())}
		},
	}
}

func crashCommand() *cli.Command {
	return &cli.Command{
		Name:  "crash",
		Usage: "power cut of the Active, its return, then its interface down, under 20,000 flows",
		Flags: []cli.Flag{
			tandemFlag,
			&cli.IntFlag{Name: "flows", Usage: "further flows, up to 65,536", Value: 20000},
			&cli.DurationFlag{Name: "interval", Usage: "advertise-interval of the pair", Value: 100 * time.Millisecond},
			&cli.StringFlag{Name: "logs", Usage: "keep what the daemons write in `DIRECTORY`"},
		},
		Action: runCrash,
	}
}

func runCrash(c *cli.Context) error {
	path, err := tandemPath(c)
	if err != nil {
		return err
	}
	opts := drill.CrashOptions{Tandem: path, Out: c.App.Writer, Flows: c.Int("flows"), Interval: c.Duration("interval")}
	logs := logFiles{dir: c.String("logs")}
	defer logs.close()
	if logs.dir != "" {
		if err := os.MkdirAll(logs.dir, 0o755); err != nil {
			return fmt.Errorf("make directory for logs: %w", err)
		}
		opts.Log = logs.open
	}
	return drill.Crash(c.Context, opts)
}

// logFiles are one file for each router.
type logFiles struct {
	dir   string
	files []*os.File
}

// open appends: a router that came back goes on in its file.
func (l *logFiles) open(router string) io.Writer {
	f, err := os.OpenFile(filepath.Join(l.dir, router+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tandem-lab: keep log:", err)
		return io.Discard
	}
	l.files = append(l.files, f)
	return f
}

func (l *logFiles) close() {
	for _, f := range l.files {
		_ = f.Close()
	}
}

// SPDX-License-Identifier: Apache-2.0

// Command tandem-lab builds router pairs out of network namespaces and breaks
// them: drills that prove, and labs to play with. It is no part of what runs on
// a router.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/drill"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// version is stamped by the Makefile.
var version = "unknown"

func main() { os.Exit(mainCode()) }

// mainCode is main without the exit. The first SIGINT or SIGTERM ends the
// context, and whatever runs takes its lab down; the second one kills, and the
// next start sweeps what then is left.
func mainCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	err := newApp().RunContext(ctx, os.Args)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, drill.ErrFailed): // the report has said what
	case errors.Is(err, errInterrupted): // the lab stays
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "tandem-lab: interrupted; the lab is taken down")
	default:
		fmt.Fprintln(os.Stderr, "tandem-lab:", err)
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// errInterrupted ends exec: what the operator interrupted needs no comment.
var errInterrupted = errors.New("interrupted")

type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func newApp() *cli.App {
	return &cli.App{
		Name:            "tandem-lab",
		Usage:           "router pairs in network namespaces: drills, benches, and labs to play with",
		Version:         version,
		HideHelpCommand: true,
		ExitErrHandler:  func(*cli.Context, error) {}, // main exits
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return usageError{err.Error() + " (see tandem-lab --help)"}
		},
		Before: func(*cli.Context) error {
			if os.Geteuid() != 0 {
				return errors.New("namespaces need root: run this with sudo")
			}
			return nil
		},
		Commands: []*cli.Command{drillCommand(), benchCommand(), upCommand(), downCommand(), execCommand()},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError{fmt.Sprintf("unknown command %q: there are drill, bench, up, down, exec", c.Args().First())}
			}
			return usageError{"name a command: drill, bench, up, down, exec (see tandem-lab --help)"}
		},
	}
}

// tandemFlag names the binary that the routers run.
var tandemFlag = &cli.StringFlag{Name: "tandem", Usage: "run the daemon `BINARY` (default: tandem beside tandem-lab)"}

// tandemPath finds the daemon's binary.
func tandemPath(c *cli.Context) (string, error) {
	path := c.String("tandem")
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find tandem: %w", err)
		}
		path = filepath.Join(filepath.Dir(self), "tandem")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find tandem: %w", err)
	}
	if info, err := os.Stat(abs); err != nil || info.IsDir() {
		return "", fmt.Errorf("find tandem: %s is not there: build it (make build), or name it with --tandem", abs)
	}
	return abs, nil
}

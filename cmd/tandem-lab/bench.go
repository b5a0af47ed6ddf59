// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/benchlab"
)

func benchCommand() *cli.Command {
	cmd := &cli.Command{
		Name: "bench", Usage: "measure a pair: alone, or beside keepalived and conntrackd",
		HideHelpCommand: true,
	}
	var names []string
	for _, b := range benchlab.Names() {
		names = append(names, b[0])
		cmd.Subcommands = append(cmd.Subcommands, oneBench(b[0], b[1]))
	}
	cmd.Action = func(c *cli.Context) error {
		if !c.Args().Present() {
			return usageError{"name a bench: " + strings.Join(names, ", ")}
		}
		return usageError{fmt.Sprintf("unknown bench %q: there are %s", c.Args().First(), strings.Join(names, ", "))}
	}
	return cmd
}

func oneBench(name, about string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: about,
		Flags: []cli.Flag{
			tandemFlag,
			&cli.BoolFlag{Name: "compare", Usage: "beside Debian's keepalived and conntrackd, in both of its modes, in turn"},
			&cli.BoolFlag{Name: "modes", Usage: `beside tandem with commit = "takeover", in turn`},
			&cli.IntFlag{Name: "n", Usage: "`ROUNDS`; each system runs once in each", Value: 3},
			&cli.IntFlag{Name: "flows", Usage: "flows of a run (default: the bench's own)"},
			&cli.IntFlag{Name: "rate", Usage: "flows per second (default: the bench's own)"},
			&cli.DurationFlag{Name: "life", Usage: "how long a connection of bench sync lives", Value: time.Second},
			&cli.DurationFlag{Name: "interval", Usage: "advertise-interval of the pair", Value: 100 * time.Millisecond},
			&cli.StringFlag{Name: "fault", Usage: "how the Active fails in bench failover: " + strings.Join(benchlab.FaultNames(), ", "), Value: benchlab.FaultNames()[0]},
			&cli.IntFlag{Name: "strikes", Usage: "how often the fault strikes in one run of bench failover; the Active is back before each", Value: 1},
			&cli.DurationFlag{Name: "freeze", Usage: "how long fault freeze lasts", Value: 500 * time.Millisecond},
			&cli.DurationFlag{Name: "for", Usage: "how long bench busy watches", Value: time.Minute},
			&cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print the report as JSON; progress goes to stderr either way"},
			&cli.StringFlag{Name: "save", Usage: "write NAME.json and a picture, NAME.svg, into `DIRECTORY`"},
		},
		Action: func(c *cli.Context) error { return runBench(c, name) },
	}
}

func runBench(c *cli.Context, name string) error {
	if c.Args().Present() {
		return usageError{fmt.Sprintf("bench %s takes no argument: %q", name, c.Args().First())}
	}
	path, err := tandemPath(c)
	if err != nil {
		return err
	}
	report, err := benchlab.Run(c.Context, name, benchlab.Options{
		Tandem: path, Out: os.Stderr, Live: isTerminal(os.Stderr),
		Compare: c.Bool("compare"), Modes: c.Bool("modes"), Runs: c.Int("n"), Flows: c.Int("flows"), Rate: c.Int("rate"),
		Life: c.Duration("life"), Advert: c.Duration("interval"),
		Fault: c.String("fault"), Strikes: c.Int("strikes"), Freeze: c.Duration("freeze"), For: c.Duration("for"),
	})
	if report == nil || len(report.Runs) == 0 {
		return err
	}
	if dir := c.String("save"); dir != "" {
		err = errors.Join(err, report.Save(dir))
	}
	if c.Bool("json") {
		enc := json.NewEncoder(c.App.Writer)
		enc.SetIndent("", "  ")
		return errors.Join(err, enc.Encode(report))
	}
	report.Text(c.App.Writer)
	return err
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

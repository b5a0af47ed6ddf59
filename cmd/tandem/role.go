// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/control"
)

func switchoverCommand() *cli.Command {
	return &cli.Command{
		Name: "switchover",
		Usage: "exchange the roles of this router and its peer without losing a packet: " +
			"on the Active the peer takes over, on a Backup this router does",
		Flags: []cli.Flag{
			socketFlag,
			&cli.StringFlag{Name: "to", Usage: "`NODE` is to be Active: this one or a peer, by its name"},
			&cli.BoolFlag{Name: "force", DisableDefaultText: true, Usage: "go ahead though connections may be lost"},
		},
		Action: func(ctx *cli.Context) error {
			out, err := client(ctx).Switchover(ctx.Context, control.SwitchoverOrder{To: ctx.String("to"), Force: ctx.Bool("force")})
			return showChange(ctx, out, err)
		},
	}
}

func takeoverCommand() *cli.Command {
	return &cli.Command{
		Name:  "takeover",
		Usage: "another election (keepalived) made this router Active: returns when the fence is down; harmless when it is Active",
		Flags: []cli.Flag{socketFlag, reasonFlag},
		Subcommands: []*cli.Command{{
			Name:      "show",
			Usage:     "show the latest N (1) takeovers and yields: why, by which evidence, and when each step was done",
			ArgsUsage: "[N]",
			Flags:     []cli.Flag{socketFlag},
			Action:    showTakeovers,
		}},
		Action: func(ctx *cli.Context) error {
			out, err := client(ctx).Takeover(ctx.Context, control.ExternalOrder{Reason: ctx.String("reason")})
			return showChange(ctx, out, err)
		},
	}
}

func yieldCommand() *cli.Command {
	return &cli.Command{
		Name:  "yield",
		Usage: "another election (keepalived) took the role from this router: returns when the release is out; harmless when it is not Active",
		Flags: []cli.Flag{socketFlag, reasonFlag},
		Action: func(ctx *cli.Context) error {
			out, err := client(ctx).Yield(ctx.Context, control.ExternalOrder{Reason: ctx.String("reason")})
			return showChange(ctx, out, err)
		},
	}
}

func showTakeovers(ctx *cli.Context) error {
	n := 1
	if word := ctx.Args().First(); word != "" {
		var err error
		if n, err = strconv.Atoi(word); err != nil || n < 1 {
			return usageError{fmt.Sprintf("%q: must be how many takeovers to show, 1 or more", word)}
		}
	}
	all, err := client(ctx).Takeovers(ctx.Context, n)
	if err != nil {
		return err
	}
	return show(ctx, all, func(w io.Writer) { writeTakeovers(w, all, time.Now()) })
}

func writeTakeovers(w io.Writer, all []control.Timeline, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(w, "No role has changed since tandem started (or nothing is replicated: tandem event watch --history has the roles then).")
	}
	for i := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		t := &all[i]
		fmt.Fprintf(w, "%s of %s at %s: %s\n", t.Kind, t.Set, clock(t.Start, now), t.Reason)
		for _, e := range t.Evidence {
			fmt.Fprintf(w, "  known then: %s\n", e)
		}
		writeSteps(w, t.Steps)
		if t.Kind == "takeover" {
			fmt.Fprintf(w, "  %s flows were still to be written\n", number(t.Committed))
		}
	}
}

func maintenanceCommand() *cli.Command {
	order := func(on bool) cli.ActionFunc {
		return func(ctx *cli.Context) error {
			out, err := client(ctx).Maintenance(ctx.Context, control.MaintenanceOrder{On: on})
			return showChange(ctx, out, err)
		}
	}
	return &cli.Command{
		Name:  "maintenance",
		Usage: "have this router give its role away and stay Backup",
		Subcommands: []*cli.Command{
			{Name: "on", Usage: "switch over to the peer, or release the role, and stay Backup until off or a restart", Flags: []cli.Flag{socketFlag}, Action: order(true)},
			{Name: "off", Usage: "be a Backup like any other again", Flags: []cli.Flag{socketFlag}, Action: order(false)},
		},
	}
}

var reasonFlag = &cli.StringFlag{Name: "reason", Usage: "say `WHY`, for status and the history"}

// showChange prints what a changing command did, step by step.
func showChange(ctx *cli.Context, out control.RoleChange, err error) error {
	if err != nil {
		return err
	}
	return show(ctx, out, func(w io.Writer) {
		fmt.Fprintln(w, out.Text)
		writeSteps(w, out.Steps)
	})
}

func writeSteps(w io.Writer, steps []control.Step) {
	for _, s := range steps {
		fmt.Fprintf(w, "  %+9.1f ms  %s\n", s.AtMS, s.Name)
	}
}

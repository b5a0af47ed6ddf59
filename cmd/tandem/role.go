// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

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

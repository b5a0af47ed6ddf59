// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/event"
)

func eventCommand() *cli.Command {
	return &cli.Command{
		Name:  "event",
		Usage: "what happened",
		Subcommands: []*cli.Command{{
			Name:  "watch",
			Usage: "print how things are and then every change, in order, until interrupted",
			Flags: []cli.Flag{
				socketFlag,
				&cli.Uint64Flag{Name: "after", Usage: "begin after event number `N` instead", DefaultText: "how things are"},
				&cli.BoolFlag{Name: "history", DisableDefaultText: true, Usage: "print what is remembered, and end"},
			},
			Action: watchEvents,
		}},
	}
}

func watchEvents(ctx *cli.Context) error {
	var after *uint64
	if ctx.IsSet("after") {
		n := ctx.Uint64("after")
		after = &n
	}
	follow := !ctx.Bool("history")
	enc := json.NewEncoder(ctx.App.Writer)
	err := client(ctx).Events(ctx.Context, after, follow, func(e event.Event) error {
		if wantsJSON(ctx) {
			return enc.Encode(e) // one object per line
		}
		return writeEvent(ctx.App.Writer, &e)
	})
	switch {
	case ctx.Context.Err() != nil:
		return nil // interrupted, as it is meant to be
	case err == nil && follow:
		return errors.New("the daemon has ended")
	}
	return err
}

func writeEvent(w io.Writer, e *event.Event) error {
	subject := e.Subject
	if subject != "" {
		subject += ": "
	}
	_, err := fmt.Fprintf(w, "%s %6d %-8s %s%s%s\n", e.At.Local().Format("2006-01-02 15:04:05.000"), e.Seq, e.Kind, subject, e.Text,
		either(e.Snapshot, " (as it is)", ""))
	return err
}

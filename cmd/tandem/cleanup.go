// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/vip"
)

// cleanupCommand is for the unit's ExecStopPost: what a killed daemon left is
// taken away at once, not only when its lifetime ends or at the next start.
func cleanupCommand() *cli.Command {
	return &cli.Command{
		Name:   "cleanup",
		Usage:  "remove the virtual addresses and MACs that a killed tandem left",
		Hidden: true,
		Action: func(ctx *cli.Context) error {
			n, err := vip.Cleanup()
			if err != nil {
				return err
			}
			v := struct {
				Removed int `json:"removed"`
			}{n}
			return show(ctx, v, func(w io.Writer) {
				if n > 0 {
					fmt.Fprintf(w, "removed %d virtual addresses and MAC devices that were left\n", n)
				}
			})
		},
	}
}

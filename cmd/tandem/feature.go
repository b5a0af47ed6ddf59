// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/loader"
)

func featureCommand() *cli.Command {
	return &cli.Command{
		Name:  "feature",
		Usage: "try what tandem can use of this kernel",
		Action: func(ctx *cli.Context) error {
			all := loader.Features()
			if os.Geteuid() != 0 {
				fmt.Fprintln(os.Stderr, "tandem: without root most of this cannot be tried: a NO may be a yes for root")
			}
			return show(ctx, all, func(w io.Writer) { writeFeatures(w, all) })
		},
	}
}

func writeFeatures(w io.Writer, all []loader.Feature) {
	g := newGrid("Feature", "Here", "Needs", "For, or why not")
	for _, f := range all {
		g.row(f.Name, either(f.OK, "yes", "NO"), f.Needs, f.Detail)
	}
	g.write(w, "")
}

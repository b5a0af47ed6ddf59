// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/control"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "say which tandem this is",
		Action: func(ctx *cli.Context) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				Arch    string `json:"arch"`
			}{control.Version(), runtime.Version(), runtime.GOARCH}
			return show(ctx, v, func(w io.Writer) {
				fmt.Fprintf(w, "tandem %s (%s, %s)\n", v.Version, v.Go, v.Arch)
			})
		},
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/importer"
)

func importCommand() *cli.Command {
	return &cli.Command{
		Name:  "import",
		Usage: "turn the configuration of another router into tandem's",
		Subcommands: []*cli.Command{{
			Name:  "vyos",
			Usage: "read VyOS's set lines or config.boot, write TOML to stdout",
			Description: "What cannot be carried over goes to stderr, each with its line and why.\n" +
				"Without FILE, or with -, stdin is read. Exit codes: 0 all of it was carried\n" +
				"over; 1 something was left out that changes what the routers do, or tandem\n" +
				"check refuses the result; 2 a mistake on the command line.",
			ArgsUsage: "[FILE|-]",
			Action:    importVyOS,
		}},
	}
}

// maxImport is somewhat more than the importer takes, which says so itself.
const maxImport = 8 << 20

func importVyOS(ctx *cli.Context) error {
	name, in := "stdin", io.Reader(os.Stdin)
	if path := ctx.Args().First(); path != "" && path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read VyOS's configuration: %w", err)
		}
		defer func() { _ = f.Close() }()
		name, in = path, f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxImport))
	if err != nil {
		return fmt.Errorf("read VyOS's configuration: %w", err)
	}
	r, err := importer.VyOS(string(text))
	var bad *importer.SyntaxError
	switch {
	case errors.As(err, &bad):
		return fmt.Errorf("%s:%w", name, err)
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := show(ctx, r, func(w io.Writer) {
		_, _ = io.WriteString(w, r.TOML)
		for _, n := range r.Notes {
			fmt.Fprintf(os.Stderr, "tandem: %s:%s\n", name, n)
		}
	}); err != nil {
		return err
	}
	if r.Lost() {
		return errQuiet
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/loader"
)

// These commands ask the kernel, not a daemon: they tell what is loaded when
// no daemon runs, too.

func progCommand() *cli.Command {
	return &cli.Command{
		Name:  "prog",
		Usage: "the BPF programs of tandem in the kernel",
		Subcommands: []*cli.Command{{
			Name:  "show",
			Usage: "show id, hook, interface, runs and time per run",
			Action: func(ctx *cli.Context) error {
				return inspect(ctx, loader.Programs, writePrograms)
			},
		}},
	}
}

func mapCommand() *cli.Command {
	return &cli.Command{
		Name:  "map",
		Usage: "the BPF maps of tandem in the kernel",
		Subcommands: []*cli.Command{
			{
				Name:   "show",
				Usage:  "show id, type and size",
				Action: func(ctx *cli.Context) error { return inspect(ctx, loader.Maps, writeMaps) },
			},
			{
				Name:      "dump",
				Usage:     "print the entries that are not all zero, in hexadecimal",
				ArgsUsage: "NAME",
				Action: func(ctx *cli.Context) error {
					if ctx.NArg() != 1 {
						return usageError{"name a map (see tandem map show)"}
					}
					dump := func() ([]loader.MapEntry, error) { return loader.DumpMap(ctx.Args().First()) }
					return inspect(ctx, dump, writeEntries)
				},
			},
		},
	}
}

func linkCommand() *cli.Command {
	return &cli.Command{
		Name:  "link",
		Usage: "where the BPF programs of tandem are attached",
		Subcommands: []*cli.Command{{
			Name:   "show",
			Usage:  "show hook, interface and program",
			Action: func(ctx *cli.Context) error { return inspect(ctx, loader.Links, writeLinks) },
		}},
	}
}

// inspect asks the kernel and shows what it says; nothing is an empty list.
func inspect[T any](ctx *cli.Context, ask func() ([]T, error), text func(io.Writer, []T)) error {
	all, err := ask()
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: run this as root", err)
	}
	if err != nil {
		return err
	}
	if all == nil {
		all = []T{}
	}
	return show(ctx, all, func(w io.Writer) { text(w, all) })
}

const nothingLoaded = "Nothing of tandem is loaded: no daemon runs, and none left anything behind."

func writePrograms(w io.Writer, all []loader.Program) {
	if len(all) == 0 {
		fmt.Fprintln(w, nothingLoaded)
		return
	}
	g := newGrid(">Id", "Name", "Type", "Hook", "Interface", ">Runs", ">Time per run", ">Memory")
	for _, p := range all {
		g.row(id(p.ID), p.Name, p.Type, cmp.Or(p.Hook, "-"), place(p.Hook, strings.Join(p.Interface, ", ")),
			number(p.Runs), p.TimePerRun.String(), bytesOf(p.Memory))
	}
	g.write(w, "")
	if on, err := os.ReadFile("/proc/sys/kernel/bpf_stats_enabled"); err == nil && strings.TrimSpace(string(on)) == "0" {
		fmt.Fprintln(w, "Runs are not counted: sysctl kernel.bpf_stats_enabled=1 turns it on, and slows every packet a little.")
	}
}

func writeMaps(w io.Writer, all []loader.Map) {
	if len(all) == 0 {
		fmt.Fprintln(w, nothingLoaded)
		return
	}
	g := newGrid(">Id", "Name", "Program", "Type", ">Entries", ">Memory")
	for _, m := range all {
		g.row(id(m.ID), m.Name, cmp.Or(m.Program, "-"), m.Type, number(m.Entries), bytesOf(m.Memory))
	}
	g.write(w, "")
}

func writeEntries(w io.Writer, all []loader.MapEntry) {
	for _, e := range all {
		fmt.Fprintf(w, "%s: %s\n", e.Key, strings.Join(e.Value, " "))
	}
}

func writeLinks(w io.Writer, all []loader.Link) {
	if len(all) == 0 {
		fmt.Fprintln(w, "No program of tandem is attached.")
		return
	}
	g := newGrid(">Id", "Type", "Hook", "Interface", "Program", ">Program id")
	for _, l := range all {
		g.row(either(l.ID == 0, "-", id(l.ID)), l.Type, l.Hook, place(l.Hook, l.Interface), l.Name, id(l.Program))
	}
	g.write(w, "")
}

// place is where a program is attached. A hook of an interface whose name
// cannot be had is in another network namespace.
func place(hook, iface string) string {
	if iface == "" && (strings.HasPrefix(hook, "xdp") || strings.HasPrefix(hook, "tc-")) {
		return "(elsewhere)"
	}
	return cmp.Or(iface, "-")
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/control"
)

func flowCommand() *cli.Command {
	return &cli.Command{
		Name:  "flow",
		Usage: "the connections",
		Subcommands: []*cli.Command{
			{
				Name:  "list",
				Usage: "list flows, with those that no copy can save and what to do about it",
				Flags: []cli.Flag{
					socketFlag,
					&cli.StringFlag{Name: "source", Usage: "of `SOURCE`: kernel, own (--own) or view (--view)", DefaultText: "kernel"},
					&cli.BoolFlag{Name: "own", DisableDefaultText: true, Usage: "what this node replicates, not the kernel table"},
					&cli.BoolFlag{Name: "view", DisableDefaultText: true, Usage: "the copy of the peers' flows, not the kernel table"},
					&cli.StringFlag{Name: "peer", Usage: "with --view: of the peer `NAME` only"},
					&cli.StringFlag{Name: "protocol", Aliases: []string{"p"}, Usage: "of protocol `NAME` or number"},
					&cli.StringFlag{Name: "address", Aliases: []string{"a"}, Usage: "with `ADDRESS` (or in a prefix) on any side"},
					&cli.StringFlag{Name: "state", Usage: "in TCP state `NAME`"},
					&cli.BoolFlag{Name: "stranded", DisableDefaultText: true, Usage: "only those that no copy can save"},
					&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Usage: "at most `N`", DefaultText: "all"},
				},
				Action: listFlows,
			},
			{
				Name:   "count",
				Usage:  "count flows",
				Flags:  []cli.Flag{socketFlag},
				Action: countFlows,
			},
			diffCommand(),
		},
	}
}

func flowQuery(ctx *cli.Context) (control.FlowQuery, error) {
	q := control.FlowQuery{
		Source: control.SourceKernel, Peer: ctx.String("peer"), Protocol: ctx.String("protocol"), Address: ctx.String("address"),
		State: ctx.String("state"), Stranded: ctx.Bool("stranded"), Limit: ctx.Int("limit"),
	}
	source := ctx.String("source")
	own, view := ctx.Bool("own") || source == control.SourceOwn, ctx.Bool("view") || q.Peer != "" || source == control.SourceView
	switch {
	case own && view || (own || view) && source == control.SourceKernel:
		return q, usageError{"--own and --view exclude each other"}
	case source != "" && source != control.SourceKernel && source != control.SourceOwn && source != control.SourceView:
		return q, usageError{fmt.Sprintf("source %q: must be kernel, own or view", source)}
	case own:
		q.Source = control.SourceOwn
	case view:
		q.Source = control.SourceView
	}
	if _, err := control.NewFilter(q, nil); err != nil {
		return q, usageError{err.Error()}
	}
	return q, nil
}

// listFlows prints as they come: a table may have millions.
func listFlows(ctx *cli.Context) error {
	q, err := flowQuery(ctx)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(ctx.App.Writer, 64<<10)
	if !wantsJSON(ctx) {
		err = client(ctx).Flows(ctx.Context, q, func(f *control.Flow) error {
			writeFlow(w, f)
			return nil
		})
		_ = w.Flush()
		return err
	}
	before := "["
	err = client(ctx).Flows(ctx.Context, q, func(f *control.Flow) error {
		text, err := json.Marshal(f)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s%s", before, text)
		}
		before = ",\n"
		return err
	})
	if err == nil {
		fmt.Fprintln(w, either(before == "[", "[]", "]"))
	}
	_ = w.Flush()
	return err
}

func writeFlow(w io.Writer, f *control.Flow) {
	fmt.Fprintf(w, "%-5s %-12s %s > %s", f.Protocol, f.State, endpoint(f, f.Original.Src, f.Original.SrcPort), endpoint(f, f.Original.Dst, f.Original.DstPort))
	if f.NAT != "" {
		fmt.Fprintf(w, "  %s: reply %s > %s", f.NAT, endpoint(f, f.Reply.Src, f.Reply.SrcPort), endpoint(f, f.Reply.Dst, f.Reply.DstPort))
	}
	fmt.Fprintf(w, "  %s timeout %d s", f.Status, f.Timeout)
	if f.Mark != 0 {
		fmt.Fprintf(w, " mark %#x", f.Mark)
	}
	if f.Zone != 0 {
		fmt.Fprintf(w, " zone %d", f.Zone)
	}
	if f.Source != control.SourceKernel && f.Source != "" {
		fmt.Fprintf(w, " %s", strings.TrimSpace(f.Source+" "+f.Peer))
	}
	fmt.Fprintln(w)
	if f.Stranded != "" {
		fmt.Fprintf(w, "      STRANDED: %s: %s\n", f.Stranded, f.Remedy)
	}
}

// endpoint is address:port; protocols without ports have none.
func endpoint(f *control.Flow, addr string, port uint16) string {
	switch f.Protocol {
	case "tcp", "udp", "udplite", "sctp", "dccp":
		return net.JoinHostPort(addr, strconv.Itoa(int(port)))
	}
	return addr
}

func countFlows(ctx *cli.Context) error {
	n, err := client(ctx).FlowCount(ctx.Context)
	if err != nil {
		return err
	}
	return show(ctx, n, func(w io.Writer) {
		var protocols []string
		for _, p := range slices.Sorted(maps.Keys(n.Protocol)) {
			protocols = append(protocols, p+" "+number(n.Protocol[p]))
		}
		fmt.Fprintf(w, "Kernel table  %s of %s entries (%s)%s\n", number(n.Kernel.Entries), number(n.Kernel.Max),
			percent(float64(n.Kernel.Entries), float64(n.Kernel.Max)), either(len(protocols) > 0, ": ", "")+strings.Join(protocols, ", "))
		fmt.Fprintf(w, "Replicated    %s of them: they pass through, and the policy wants them\n", number(n.Replicated))
		if n.Stranded > 0 {
			fmt.Fprintf(w, "STRANDED      %s of them: no copy can save these; tandem flow list --stranded says why and what to do\n", number(n.Stranded))
		} else {
			fmt.Fprintln(w, "Stranded      none")
		}
		fmt.Fprintf(w, "Own flows     %s\n", number(n.Own))
		for _, peer := range slices.Sorted(maps.Keys(n.View)) {
			fmt.Fprintf(w, "View of %s    %s\n", peer, number(n.View[peer]))
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/control"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:  "diff",
		Usage: "compare own flows, the copy and the kernel table; exit 1 if something differs, or a peer cannot be asked",
		Description: "Names the flows that own flows or the copy of a peer's flows have otherwise than this kernel table, and the ranges of\n" +
			"own flows that a peer has otherwise. What only changed while it was compared is not a difference.\n\n" +
			"To name the flows between two nodes:  ssh r2 tandem -j flow list --source view | tandem flow diff --against -",
		Flags: []cli.Flag{
			socketFlag,
			&cli.StringFlag{Name: "against", Usage: "compare with the flows in `FILE` (-: standard input), another node's tandem -j flow list"},
		},
		Action: diffFlows,
	}
}

func diffFlows(ctx *cli.Context) error {
	if file := ctx.String("against"); file != "" {
		return diffAgainst(ctx, file)
	}
	d, err := client(ctx).FlowDiff(ctx.Context)
	if err != nil {
		return err
	}
	if err := show(ctx, d, func(w io.Writer) { writeDiff(w, &d) }); err != nil {
		return err
	}
	if !d.Empty() {
		return errQuiet
	}
	return nil
}

func writeDiff(w io.Writer, d *control.FlowDiff) {
	for i := range d.Differences {
		f := &d.Differences[i]
		copy := either(f.Flow.Source == control.SourceView, "view of "+f.Flow.Peer, "own flows")
		fmt.Fprintf(w, "%s: %s\n    ", copy, strings.Join(f.What, "; "))
		shown := f.Flow
		shown.Source, shown.Peer = "", ""
		writeFlow(w, &shown)
	}
	if d.More > 0 {
		fmt.Fprintf(w, "%s more flows differed at the first look; only the first were looked at again\n", number(d.More))
	}
	fmt.Fprintf(w, "Kernel table: %s entries and %s flows compared, %s\n", number(d.Kernel), number(d.Copies),
		either(len(d.Differences) == 0, "nothing differs", number(len(d.Differences))+" DIFFER"))
	for i := range d.Peers {
		writePeerDiff(w, &d.Peers[i])
	}
	if differing(d) {
		fmt.Fprintln(w, "What a peer has otherwise heals by itself; tandem sync resync does it at once. What the kernel table has otherwise the next audit finds.")
	}
}

func differing(d *control.FlowDiff) bool {
	return len(d.Differences) > 0 || slices.ContainsFunc(d.Peers, func(p control.PeerDiff) bool { return p.Differing > 0 })
}

func writePeerDiff(w io.Writer, p *control.PeerDiff) {
	if p.Why != "" {
		fmt.Fprintf(w, "Peer %s: not compared: %s\n", p.Peer, p.Why)
	}
	if p.Ranges == 0 && p.Why != "" {
		return
	}
	fmt.Fprintf(w, "Peer %s: its copy of %s own flows in %s ranges: %s", p.Peer, number(p.Flows), number(p.Same+p.Differing),
		either(p.Differing == 0, "nothing differs", number(p.Differing)+" ranges DIFFER"))
	for _, n := range []struct {
		n    int
		text string
	}{{p.Busy, "changed all the time"}, {p.Refused, "have flows that it does not take"}, {p.Unanswered, "without an answer"}} {
		if n.n > 0 {
			fmt.Fprintf(w, "; %s more %s", number(n.n), n.text)
		}
	}
	fmt.Fprintln(w)
	for _, r := range p.Where {
		fmt.Fprintf(w, "    %s, slots %d to %d: %d flows here, %d there\n", r.Family, r.First, r.Last, r.Here, r.There)
	}
}

// againstPause is between the two looks at this node's flows: a flow that
// changed from one to the other cannot be compared with a list of some moment.
const againstPause = time.Second

// listed is a flow by its name and, in a map, what belongs to it.
type listed struct {
	protocol, family string
	control.Tuple
	zone uint16
}

func nameOf(f *control.Flow) listed { return listed{f.Protocol, f.Family, f.Original, f.Zone} }

// diffAgainst compares this node's side with a list of another node's: its own
// flows with our copy of them, its copy of ours with our own flows, its kernel
// table with ours.
func diffAgainst(ctx *cli.Context, file string) error {
	c := client(ctx)
	status, err := c.Status(ctx.Context)
	if err != nil {
		return err
	}
	// The list may still be on its way: what is here is read before it and after.
	before := map[string]map[listed]control.Flow{}
	for _, source := range []string{control.SourceOwn, control.SourceView} {
		if before[source], err = flowsBy(ctx.Context, c, source); err != nil {
			return err
		}
	}
	theirs, source, err := readList(ctx.App.Reader, file, status.Node)
	if err != nil {
		return err
	}
	ours := map[string]string{control.SourceOwn: control.SourceView, control.SourceView: control.SourceOwn, control.SourceKernel: control.SourceKernel}[source]
	if before[ours] == nil {
		if before[ours], err = flowsBy(ctx.Context, c, ours); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Context.Done():
		return ctx.Context.Err()
	case <-time.After(againstPause):
	}
	after, err := flowsBy(ctx.Context, c, ours)
	if err != nil {
		return err
	}
	d := control.FlowDiff{Copies: len(theirs), Differences: against(before[ours], after, theirs, ours, source), Peers: []control.PeerDiff{}}
	if err := show(ctx, d, func(w io.Writer) { writeAgainst(w, &d, ours, source) }); err != nil {
		return err
	}
	if !d.Empty() {
		return errQuiet
	}
	return nil
}

func writeAgainst(w io.Writer, d *control.FlowDiff, ours, theirs string) {
	for i := range d.Differences {
		f := &d.Differences[i]
		shown := f.Flow
		shown.Source, shown.Peer = "", ""
		fmt.Fprintf(w, "%s\n    ", strings.Join(f.What, "; "))
		writeFlow(w, &shown)
	}
	fmt.Fprintf(w, "%s flows of the list (%s) compared with this node's (%s): %s\n", number(d.Copies), theirs, ours,
		either(len(d.Differences) == 0, "nothing differs", number(len(d.Differences))+" DIFFER"))
}

func flowsBy(ctx context.Context, c *control.Client, source string) (map[listed]control.Flow, error) {
	out := map[listed]control.Flow{}
	return out, c.Flows(ctx, control.FlowQuery{Source: source}, func(f *control.Flow) error {
		out[nameOf(f)] = *f
		return nil
	})
}

// readList reads what tandem -j flow list printed on another node, and says of
// which source it is; an empty list counts as a view. Views of third nodes are
// left out.
func readList(stdin io.Reader, file, node string) (out map[listed]control.Flow, source string, err error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, "", err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	out, source = map[listed]control.Flow{}, ""
	d := json.NewDecoder(bufio.NewReader(in))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, "", fmt.Errorf("read %q: not a list of flows: it is made by tandem -j flow list on the other node", file)
	}
	for d.More() {
		var f control.Flow
		if err := d.Decode(&f); err != nil {
			return nil, "", fmt.Errorf("read %q: %w", file, err)
		}
		if source == "" {
			source = f.Source
		}
		if f.Source != source || !slices.Contains([]string{control.SourceOwn, control.SourceView, control.SourceKernel}, source) {
			return nil, "", fmt.Errorf("read %q: flows of source %q, want all of own, view or kernel", file, f.Source)
		}
		if f.Peer == "" || f.Peer == node {
			out[nameOf(&f)] = f
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, "", fmt.Errorf("read %q: the list has no end: %w", file, err)
	}
	return out, cmp.Or(source, control.SourceView), nil
}

// against names what differs for good: this node's side was the same before
// and after the list was made.
func against(before, after, theirs map[listed]control.Flow, ours, source string) []control.FlowDifference {
	out := []control.FlowDifference{}
	add := func(f control.Flow, what ...string) {
		out = append(out, control.FlowDifference{Flow: f, What: what})
	}
	for name, f := range theirs {
		a, inAfter := after[name]
		b, inBefore := before[name]
		switch {
		case !inAfter && !inBefore:
			add(f, "missing here ("+ours+"), there in "+source)
		case inAfter && inBefore && len(fieldsOf(&a, &b)) == 0:
			if what := fieldsOf(&a, &f); len(what) > 0 {
				add(a, what...)
			}
		}
	}
	for name, f := range after {
		_, inBefore := before[name]
		if _, inTheirs := theirs[name]; !inTheirs && inBefore {
			add(f, "missing there ("+source+"), here in "+ours)
		}
	}
	slices.SortFunc(out, func(a, b control.FlowDifference) int {
		return cmp.Or(cmp.Compare(a.Flow.Protocol, b.Flow.Protocol), cmp.Compare(a.Flow.Original.Src, b.Flow.Original.Src),
			cmp.Compare(a.Flow.Original.SrcPort, b.Flow.Original.SrcPort), cmp.Compare(a.Flow.Original.Dst, b.Flow.Original.Dst))
	})
	return out
}

// fieldsOf names what two flows of one name have otherwise; timeouts are not
// compared.
func fieldsOf(here, there *control.Flow) (what []string) {
	say := func(name string, a, b any) {
		if a != b {
			what = append(what, fmt.Sprintf("%s %v here, %v there", name, a, b))
		}
	}
	say("reply", here.Reply, there.Reply)
	say("state", here.State, there.State)
	say("status", here.Status, there.Status)
	say("mark", here.Mark, there.Mark)
	return what
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/link"
)

func syncCommand() *cli.Command {
	return &cli.Command{
		Name:  "sync",
		Usage: "the copy of the connections",
		Subcommands: []*cli.Command{{
			Name:  "show",
			Usage: "show links, peers and what was exchanged",
			Flags: []cli.Flag{socketFlag},
			Action: func(ctx *cli.Context) error {
				s, err := client(ctx).Sync(ctx.Context)
				if err != nil {
					return err
				}
				return show(ctx, s, func(w io.Writer) {
					if s == nil {
						fmt.Fprintln(w, "Nothing is replicated: [conntrack-sync] is not configured.")
						return
					}
					writePeers(w, s, time.Now(), nil)
					writeSyncCounters(w, s)
				})
			},
		}, peersCommand(), statisticsCommand(), resyncCommand(), keyCommand()},
	}
}

// askSync asks for replication and prints it.
func askSync(ctx *cli.Context, part func(s *control.SyncStatus) any, text func(w io.Writer, s *control.SyncStatus)) error {
	s, err := client(ctx).Sync(ctx.Context)
	if err != nil {
		return err
	}
	if s == nil {
		return show(ctx, nil, func(w io.Writer) { fmt.Fprintln(w, "Nothing is replicated: [conntrack-sync] is not configured.") })
	}
	return show(ctx, part(s), func(w io.Writer) { text(w, s) })
}

func peersCommand() *cli.Command {
	return &cli.Command{
		Name:  "peers",
		Usage: "show peers, and what each side lacks",
		Flags: []cli.Flag{socketFlag},
		Action: func(ctx *cli.Context) error {
			return askSync(ctx, func(s *control.SyncStatus) any { return s.Peers },
				func(w io.Writer, s *control.SyncStatus) { writePeers(w, s, time.Now(), nil) })
		},
	}
}

func statisticsCommand() *cli.Command {
	return &cli.Command{
		Name:  "statistics",
		Usage: "show what was exchanged with each peer, and what was repaired",
		Flags: []cli.Flag{socketFlag},
		Action: func(ctx *cli.Context) error {
			return askSync(ctx, func(s *control.SyncStatus) any {
				out := map[string]control.SyncCounters{}
				for i := range s.Peers {
					out[s.Peers[i].Name] = s.Peers[i].Counters
				}
				return out
			}, writeStatistics)
		},
	}
}

func resyncCommand() *cli.Command {
	return &cli.Command{
		Name:      "resync",
		Usage:     "exchange everything with a peer (or with each) again; the copies stay meanwhile",
		ArgsUsage: "[PEER]",
		Flags:     []cli.Flag{socketFlag},
		Action: func(ctx *cli.Context) error {
			asked, err := client(ctx).Resync(ctx.Context, ctx.Args().First())
			if err != nil {
				return err
			}
			return show(ctx, asked, func(w io.Writer) {
				for _, name := range asked {
					fmt.Fprintf(w, "Everything is exchanged with %s again; tandem sync show says how far it is.\n", name)
				}
			})
		},
	}
}

func writeStatistics(w io.Writer, s *control.SyncStatus) {
	for i := range s.Peers {
		p := &s.Peers[i]
		c := &p.Counters
		fmt.Fprintf(w, "%s%s\n", either(i > 0, "\n", ""), p.Name)
		g := newGrid("", ">Records", ">of them full", ">deletions", ">Datagrams", ">lost", ">Bytes")
		g.row("sent", number(c.RecordsSent), number(c.FullSent), number(c.DeletesSent), number(c.DatagramsSent), number(c.DatagramsLost), bytesOf(c.BytesSent))
		g.row("received", number(c.RecordsRcvd), "", number(c.DeletesRcvd), number(c.DatagramsRcvd), "", bytesOf(c.BytesRcvd))
		g.write(w, "  ")
		fmt.Fprintf(w, "  sessions begun: %s; received and not applied: %s\n", number(c.Sessions), cmp.Or(reasons(c.Dropped), "nothing"))
		writeRepair(w, "  ", &c.Repair)
	}
}

// writeRepair shows how copies were compared and healed, in ranges of slots.
func writeRepair(w io.Writer, indent string, r *control.SyncRepair) {
	fmt.Fprintf(w, "%srepair: %s ranges of the copy here compared, %s differed, %s healed", indent, number(r.Compared), number(r.Differing), number(r.Healed))
	for _, n := range []struct {
		n    uint64
		text string
	}{
		{r.Incomparable, "with flows not taken here"}, {r.Asked, "asked of the peer"}, {r.Given, "sent again to the peer"},
		{r.Refused, "that it asked for too often"},
	} {
		if n.n > 0 {
			fmt.Fprintf(w, "; %s %s", number(n.n), n.text)
		}
	}
	fmt.Fprintln(w, either(r.All > 0, "; everything was sent again "+times(r.All), ""))
}

func keyCommand() *cli.Command {
	return &cli.Command{
		Name:  "key",
		Usage: "the shared key of the sync link",
		Subcommands: []*cli.Command{{
			Name:  "new",
			Usage: "draw a key: the same line belongs into both nodes' key-file (mode 600)",
			Action: func(ctx *cli.Context) error {
				key, err := link.NewSecret()
				if err != nil {
					return err
				}
				return show(ctx, map[string]string{"key": key}, func(w io.Writer) { fmt.Fprintln(w, key) })
			},
		}},
	}
}

// writePeers shows links and peers, and why one is silent. A hint that was
// told is not told again.
func writePeers(w io.Writer, s *control.SyncStatus, now time.Time, told map[string]bool) {
	hinted := make(map[string]bool)
	hint := func(text string) {
		if text != "" && !told[text] && !hinted[text] {
			fmt.Fprintln(w, "  "+text)
			hinted[text] = true
		}
	}
	fmt.Fprintf(w, "Own flows %s, of them owned here %s; follows %s; commit %s\n", number(s.OwnFlows), number(s.OwnerOf), s.Follows, s.Commit)
	g := newGrid("Peer", "Address", "Link", "Role", "Heard", "Copy here", ">Flows", ">Committed", "Copy there", ">Backlog", ">Oldest")
	for _, p := range s.Peers {
		heard := "NO, " + either(p.LastHeard.IsZero(), "never", ago(now.Sub(p.LastHeard))+" ago")
		if p.Heard {
			heard = "yes"
		}
		g.row(p.Name, p.Address, p.Interface, cmp.Or(p.Role, "?"), heard,
			either(p.Complete, "complete", "INCOMPLETE"), number(p.View), number(p.Committed),
			either(p.PeerComplete, "complete", "INCOMPLETE"), number(p.BacklogFlows), millis(p.BacklogMS))
	}
	g.write(w, "")
	for _, l := range s.Links {
		fmt.Fprintf(w, "Link %s: %s, carrier %s, MTU %d, %s\n", l.Interface, l.Local, either(l.Carrier, "up", "DOWN"), l.MTU,
			either(l.Heard, "heard", "NOTHING HEARD"))
		hint(l.Hint)
	}
	for _, p := range s.Peers {
		hint(p.Hint)
	}
	writePaths(w, s, now)
}

// writePaths shows the ways to each peer that has several.
func writePaths(w io.Writer, s *control.SyncStatus, now time.Time) {
	g := newGrid("Peer", "Path", "In use", "Heard", "Hears us", "Since", ">Largest", ">Sent", ">Received")
	for _, p := range s.Peers {
		for _, a := range p.Paths {
			if len(p.Paths) > 1 {
				g.row(p.Name, a.Interface+" to "+a.Address, either(a.InUse, "yes", "no"), either(a.Heard, "yes", "NO"),
					either(a.HearsUs, "yes", "NO"), clock(a.Since, now), number(a.Payload)+" B", number(a.Sent), number(a.Rcvd))
			}
		}
	}
	g.write(w, "")
}

func writeSyncCounters(w io.Writer, s *control.SyncStatus) {
	c := &s.Counters
	fmt.Fprintln(w)
	g := newGrid("", ">Records", ">of them full", ">deletions", ">Datagrams", ">lost", ">Bytes")
	g.row("sent", number(c.RecordsSent), number(c.FullSent), number(c.DeletesSent), number(c.DatagramsSent), number(c.DatagramsLost), bytesOf(c.BytesSent))
	g.row("received", number(c.RecordsRcvd), "", number(c.DeletesRcvd), number(c.DatagramsRcvd), "", bytesOf(c.BytesRcvd))
	g.write(w, "")
	fmt.Fprintf(w, "received and not applied: %s\n", cmp.Or(reasons(c.Dropped), "nothing"))
	fmt.Fprintf(w, "at most %g MB/s to each peer: flows waited for that %s; another path was taken %s\n", float64(s.Rate)/1e6, times(c.Paced), times(c.PathChanges))
	writeRepair(w, "", &c.Repair)
	k := &s.Commits
	fmt.Fprintf(w, "written into the kernel table: created %s, replaced %s, deleted %s, timeouts renewed %s; failed: %s\n",
		number(k.Created), number(k.Replaced), number(k.Deleted), number(k.Renewed), cmp.Or(reasons(k.Failed), "none"))
	if s.TwoActives > 0 {
		fmt.Fprintf(w, "two Actives at a time, by the sync link's word: %s\n", times(s.TwoActives))
	}
	for _, l := range s.Links {
		fmt.Fprintf(w, "%s: sent %s datagrams (%s), received %s (%s), send errors %s, dropped: %s\n", l.Interface,
			number(l.Counters.DatagramsSent), bytesOf(l.Counters.BytesSent), number(l.Counters.DatagramsRcvd), bytesOf(l.Counters.BytesRcvd),
			number(l.Counters.SendErrors), cmp.Or(reasons(l.Counters.Dropped), "none"))
		writeGate(w, l.Interface, l.Gate)
	}
}

// writeGate says what was dropped before the stack, or why nothing is.
func writeGate(w io.Writer, iface string, g *control.Gate) {
	switch {
	case g == nil:
	case g.Mode == "":
		fmt.Fprintf(w, "%s: nothing is dropped before the stack: %s\n", iface, g.Reason)
	default:
		fmt.Fprintf(w, "%s: before the stack (XDP, %s) passed: %s; dropped: %s\n", iface, g.Mode,
			cmp.Or(reasons(g.Passed), "none"), cmp.Or(reasons(g.Dropped), "none"))
	}
}

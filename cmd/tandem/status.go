// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/control"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "say who is Active, since when and why, and what is wrong",
		Flags: []cli.Flag{socketFlag},
		Action: func(ctx *cli.Context) error {
			s, err := client(ctx).Status(ctx.Context)
			if err != nil {
				return err
			}
			return show(ctx, s, func(w io.Writer) { writeStatus(w, &s) })
		},
	}
}

// writeStatus is for somebody who was woken: who is Active first, then what is
// wrong, then whether a failure now would be harmless, then the rest.
func writeStatus(w io.Writer, s *control.Status) {
	for i := range s.Sets {
		fmt.Fprintln(w, headline(s, &s.Sets[i]))
	}
	for _, a := range s.Alarms {
		fmt.Fprintf(w, "ALARM since %s: %s: %s\n", clock(a.Since, s.Now), a.About, a.Text)
	}
	if s.Sync == nil {
		fmt.Fprintln(w, "Nothing is replicated: [conntrack-sync] is not configured.")
	} else {
		fmt.Fprintln(w, readiness(s))
	}
	fmt.Fprintln(w)
	writeGroups(w, s.Groups, s.Now)
	if s.Sync != nil {
		if len(s.Groups) > 0 {
			fmt.Fprintln(w)
		}
		writePeers(w, s.Sync, s.Now, said(s.Alarms))
	}
	fmt.Fprintln(w)
	writeMachine(w, s)
	if s.Last != nil {
		fmt.Fprintln(w)
		writeTimeline(w, s.Last, s.Now)
	}
}

// headline is one set: who is Active, since when, and why.
func headline(s *control.Status, set *control.Set) string {
	since := fmt.Sprintf("since %s (%s)", clock(set.Since, s.Now), ago(s.Now.Sub(set.Since)))
	var line string
	switch other := activeElsewhere(s, set.Name); {
	case set.Role == control.RoleActive:
		line = fmt.Sprintf("%s: %s is Active %s: %s", set.Name, s.Node, since, set.Reason)
	case other != "":
		line = fmt.Sprintf("%s: %s is Active; %s is %s %s: %s", set.Name, other, s.Node, set.Role, since, set.Reason)
	default:
		line = fmt.Sprintf("%s: nobody is known to be Active; %s is %s %s: %s", set.Name, s.Node, set.Role, since, set.Reason)
	}
	if set.Waiting != "" {
		line += "\n  it waits: " + set.Waiting
	}
	return line
}

// activeElsewhere names the Active of a set that is not this node: a tandem
// peer by name, another router by address.
func activeElsewhere(s *control.Status, set string) string {
	addr := ""
	for _, g := range s.Groups {
		if g.Set == set && g.ActiveAddress != "" && g.Role != control.RoleActive {
			addr = cmp.Or(addr, g.ActiveAddress)
		}
	}
	if s.Sync != nil && (addr != "" || len(s.Groups) == 0) { // no groups: another election
		for _, p := range s.Sync.Peers {
			if p.Role == control.RoleActive && p.Heard {
				return p.Name + either(addr != "", " ("+addr+")", "")
			}
		}
	}
	return addr
}

// said is the texts of alarms: what one of them says is not said again.
func said(alarms []control.Alarm) map[string]bool {
	texts := make(map[string]bool)
	for _, a := range alarms {
		texts[a.Text] = true
	}
	return texts
}

// readiness says whether connections would survive if the Active failed now.
func readiness(s *control.Status) string {
	active := len(s.Sets) > 0 && s.Sets[0].Role == control.RoleActive
	who := either(active, s.Node, "the Active")
	faults := missing(s, active)
	if len(faults) == 0 {
		return "If " + who + " failed now, its connections would live on: the copy is complete."
	}
	return "If " + who + " failed now, connections would be LOST:\n  " + strings.Join(faults, "\n  ")
}

// missing says what the copy lacks, and why.
func missing(s *control.Status, active bool) (faults []string) {
	told := said(s.Alarms)
	if len(s.Sets) > 0 && s.Sets[0].Role == control.RoleInitialize {
		faults = append(faults, fmt.Sprintf("%s cannot take over: %s", s.Node, s.Sets[0].Reason))
	}
	hint := func(text string) string {
		if text == "" || told[text] {
			return ""
		}
		return ": " + text
	}
	for _, p := range s.Sync.Peers {
		switch {
		case !p.Heard && p.LastHeard.IsZero():
			faults = append(faults, fmt.Sprintf("all of them, since %s was never heard%s", p.Name, hint(p.Hint)))
		case !p.Heard:
			faults = append(faults, fmt.Sprintf("those made since %s, when %s was last heard%s%s", clock(p.LastHeard, s.Now), p.Name,
				either(active, ", and all of them if it is down itself", fmt.Sprintf("; of older ones there is a copy here, %s flows", number(p.View))),
				hint(p.Hint)))
		case active && p.Role == control.RoleInitialize:
			faults = append(faults, p.Name+" cannot take over, it is in Initialize: tandem status there tells why")
		case active && !p.PeerComplete && p.BacklogFlows == 0:
			faults = append(faults, fmt.Sprintf("%s does not say that its copy is complete: it may not hear this node, tandem status there tells", p.Name))
		case active && !p.PeerComplete:
			faults = append(faults, fmt.Sprintf("%s has not got every flow yet: %s are still to be sent", p.Name, number(p.BacklogFlows)))
		case !active && !p.Complete:
			faults = append(faults, fmt.Sprintf("the copy of %s's flows is not complete yet", p.Name))
		}
		if t := s.Table; t != nil && !active && p.Uncommitted > 0 && uint64(t.Entries)+uint64(p.Uncommitted) > uint64(t.Max) {
			faults = append(faults, fmt.Sprintf("the kernel table has no room for %s flows of %s's", number(p.Uncommitted), p.Name))
		}
	}
	if len(s.Sync.Peers) == 0 {
		text := "all of them, since no peer was found yet"
		for _, l := range s.Sync.Links {
			text += hint(l.Hint)
		}
		faults = append(faults, text)
	}
	return faults
}

func writeMachine(w io.Writer, s *control.Status) {
	if t := s.Table; t != nil {
		fmt.Fprintf(w, "Kernel table  %s of %s entries (%s)\n", number(t.Entries), number(t.Max), percent(float64(t.Entries), float64(t.Max)))
	}
	if c := s.Capture; c != nil {
		fmt.Fprintf(w, "Capture       %s on %s: %s\n", c.Mode, cmp.Or(strings.Join(c.Interfaces, ", "), "no interface"), c.Reason)
		fmt.Fprintf(w, "              told %s, gone %s, died %s, ring full %s, deaths lost %s\n",
			number(c.Told), number(c.Gone), number(c.Died), times(c.RingFull), times(c.DeathsLost))
	}
	if f := s.Fence; f != nil {
		state := "down"
		if f.Up {
			state = fmt.Sprintf("UP since %s (%s)", clock(f.Since, s.Now), ago(s.Now.Sub(f.Since)))
		}
		fmt.Fprintf(w, "Fence         %s (%s); dropped since start: %s\n", state, f.Kind, cmp.Or(reasons(f.Dropped), "nothing"))
	}
	if a := s.Adverts; a != nil {
		late := "none sent yet"
		if a.Sent > 0 {
			late = fmt.Sprintf("sent late by p50 %s, p99 %s, max %s", micros(a.LateP50), micros(a.LateP99), micros(a.LateMax))
		}
		fmt.Fprintf(w, "Adverts       process %d, %s, taken by %s; %s\n", a.PID,
			either(a.RealTime, "real time", "NOT real time: it may be late under load"), a.Rung, late)
	}
	fmt.Fprintf(w, "Daemon        %s, version %s, configuration %s, up %s\n", s.Node, s.Version, s.Config, ago(s.Now.Sub(s.Started)))
}

func micros(us float64) string { return millis(us / 1000) }

func writeTimeline(w io.Writer, t *control.Timeline, now time.Time) {
	fmt.Fprintf(w, "Last %s: %s at %s: %s\n", t.Kind, t.Set, clock(t.Start, now), t.Reason)
	writeSteps(w, t.Steps)
	fmt.Fprintf(w, "  %s flows were still to be written%s\n", number(t.Committed),
		either(t.Failed > 0, ", "+number(t.Failed)+" of them could not be", ""))
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/control"
)

func vrrpDetail() *cli.Command {
	return &cli.Command{
		Name:      "detail",
		Usage:     "show what is configured and in force in each group, or in one",
		ArgsUsage: "[GROUP]",
		Flags:     []cli.Flag{socketFlag},
		Action: func(ctx *cli.Context) error {
			all, err := client(ctx).VRRP(ctx.Context)
			if err != nil {
				return err
			}
			groups, err := named(ctx, all)
			if err != nil {
				return err
			}
			return show(ctx, groups, func(w io.Writer) {
				for i := range groups {
					writeDetail(w, &groups[i], time.Now())
				}
			})
		},
	}
}

// groupCounters is what vrrp statistics prints as JSON.
type groupCounters struct {
	Groups     map[string]control.VRRPCounters `json:"groups"`
	Interfaces []control.VRRPStray             `json:"interfaces"` // what belonged to no group
}

func vrrpStatistics() *cli.Command {
	return &cli.Command{
		Name:      "statistics",
		Usage:     "show the counters of RFC 6527 of each group, or of one",
		ArgsUsage: "[GROUP]",
		Flags:     []cli.Flag{socketFlag},
		Action: func(ctx *cli.Context) error {
			s, err := client(ctx).Status(ctx.Context)
			if err != nil {
				return err
			}
			groups, err := named(ctx, s.Groups)
			if err != nil {
				return err
			}
			out := groupCounters{Groups: map[string]control.VRRPCounters{}, Interfaces: s.Strays}
			for _, g := range groups {
				out.Groups[g.Name] = g.Counters
			}
			return show(ctx, out, func(w io.Writer) { writeVRRPStatistics(w, groups, s.Strays) })
		},
	}
}

// named gives the group that the command line names, or all.
func named(ctx *cli.Context, all []control.VRRPGroup) ([]control.VRRPGroup, error) {
	name := ctx.Args().First()
	if name == "" {
		return all, nil
	}
	i := slices.IndexFunc(all, func(g control.VRRPGroup) bool { return g.Name == name })
	if i < 0 {
		var names []string
		for _, g := range all {
			names = append(names, g.Name)
		}
		return nil, fmt.Errorf("no group %q: there are %s", name, cmp.Or(strings.Join(names, ", "), "none"))
	}
	return all[i : i+1], nil
}

// peers are the routers that adverts go to by unicast, each with its TTL floor.
func peers(all []control.VRRPPeer) string {
	parts := make([]string, len(all))
	for i, p := range all {
		parts[i] = fmt.Sprintf("%s (heard with a TTL of at least %d)", p.Address, p.TTL)
	}
	return strings.Join(parts, ", ")
}

// writeDetail is everything that is known of a group, a line for each thing.
func writeDetail(w io.Writer, v *control.VRRPGroup, now time.Time) {
	fmt.Fprintf(w, "%s\n", v.Name)
	line := func(what, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(w, "  %-19s  %s\n", what, text)
		}
	}
	line("Description", "%s", v.Description)
	line("Interface", "%s%s, VRID %d, VRRP version %d", v.Interface,
		either(v.InterfaceUp || v.Role == control.RoleDisabled, "", " (DOWN)"), v.VRID, v.Version)
	line("State", "%s since %s%s", v.Role, clock(v.Since, now), either(v.Set != v.Name, ", with sync group "+v.Set, ""))
	line("Waits", "%s", v.Waiting)
	line("Priority", "%d%s, %s", v.EffectivePriority, either(v.EffectivePriority != v.Priority, fmt.Sprintf(" (of %d)", v.Priority), ""), preemption(v))
	line("Intervals", "adverts each %s, Active_Down_Interval %s", millis(v.AdvertMS), millis(v.ActiveDownMS))
	line("Virtual addresses", "%s (%s)", strings.Join(v.Addresses, ", "), either(v.Installed, "on this machine", "not on this machine"))
	line("Active", "%s", heardActive(v, now))
	line("Source", "%s", cmp.Or(v.Source, "the interface's address"))
	line("Sent", "%s", either(len(v.Peers) > 0, "to "+peers(v.Peers), "by multicast"))
	line("Taken by", "%s%s", v.Taken, either(v.TakenWhy == "", "", ": "+v.TakenWhy))
	if v.NoAccept {
		line("Accepts", "nothing to the virtual addresses; %s packets were dropped", number(v.NotAccepted))
	}
	line("Authentication", "%s", v.Authentication)
	if v.Checksum != "" {
		line("Checksum", "%s: sent with %s; heard with %s", v.Checksum, cmp.Or(v.ChecksumSent, "none yet"), cmp.Or(v.ChecksumHeard, "none yet"))
	}
	if !v.Maintenance.IsZero() {
		line("Maintenance", "since %s: it stays Backup until tandem maintenance off", clock(v.Maintenance, now))
	}
	writeTracked(w, v.Tracked, now)
}

// writeTracked is what a group follows beside its adverts.
func writeTracked(w io.Writer, tracked []control.Tracked, now time.Time) {
	if len(tracked) == 0 {
		return
	}
	g := newGrid("Tracked", "State", "Since", "Counts", "")
	for _, t := range tracked {
		counts := "down is a fault"
		switch {
		case t.Weight < 0:
			counts = fmt.Sprintf("priority %d while down", t.Weight)
		case t.Weight > 0:
			counts = fmt.Sprintf("priority +%d while up", t.Weight)
		}
		name := t.Name
		if t.What != "" {
			name += " (" + t.What + ")"
		}
		g.row(name, t.State, clock(t.Since, now), counts, t.Why)
	}
	g.write(w, "  ")
}

func preemption(v *control.VRRPGroup) string {
	switch {
	case !v.Preempt:
		return "does not preempt"
	case v.PreemptDelayMS > 0:
		return "preempts after " + millis(v.PreemptDelayMS)
	}
	return "preempts"
}

// heardActive is who has the role, as this router knows it.
func heardActive(v *control.VRRPGroup, now time.Time) string {
	switch {
	case v.Role == control.RoleActive:
		return "this router"
	case v.ActiveAddress == "":
		return "none was heard"
	case v.ActiveHeard.IsZero():
		return fmt.Sprintf("%s, priority %d, each %s", v.ActiveAddress, v.ActivePriority, millis(v.ActiveMS))
	}
	return fmt.Sprintf("%s, priority %d, each %s, %s ago", v.ActiveAddress, v.ActivePriority, millis(v.ActiveMS), ago(now.Sub(v.ActiveHeard)))
}

// namedCount is a counter in the words of people.
type namedCount struct {
	name string
	n    uint64
}

// receiveErrors are in the order of the checks.
func receiveErrors(c *control.VRRPCounters) []namedCount {
	return []namedCount{
		{"truncated", c.TruncatedErrors}, {"type", c.InvalidTypePktsRcvd}, {"vrid", c.VRIDErrors}, {"peer", c.PeerErrors},
		{"version", c.VersionErrors}, {"checksum", c.ChecksumErrors}, {"ttl", c.TTLErrors}, {"count zero", c.CountZeroErrors},
		{"length", c.PacketLengthErrors}, {"authentication type", c.AuthTypeErrors}, {"password", c.AuthFailures},
		{"interval", c.AdvertIntervalErrors}, {"link-local", c.LinkLocalErrors}, {"address list", c.AddressListErrors},
	}
}

// writeVRRPStatistics has a column for each group.
func writeVRRPStatistics(w io.Writer, groups []control.VRRPGroup, strays []control.VRRPStray) {
	head := []string{"Counter"}
	var rows [][]string
	for i := range groups {
		c := &groups[i].Counters
		head = append(head, ">"+groups[i].Name)
		all := []namedCount{
			{"adverts sent", c.AdvertSent}, {"adverts received", c.AdvertRcvd},
			{"became Active", c.BecomeActive}, {"released Active", c.ReleasedActive},
			{"priority zero sent", c.PriZeroSent}, {"priority zero received", c.PriZeroRcvd},
			{"interval adopted", c.IntervalChanges}, {"adverts of another Active", c.TwoActives},
			{"timers late", c.Oversleeps}, {"send errors", c.SendErrors},
		}
		for _, e := range receiveErrors(c) {
			all = append(all, namedCount{"error: " + e.name, e.n})
		}
		for j, e := range all {
			if i == 0 {
				rows = append(rows, []string{e.name})
			}
			rows[j] = append(rows[j], number(e.n))
		}
	}
	g := newGrid(head...)
	g.rows = append(g.rows, rows...)
	g.write(w, "")
	for _, s := range strays {
		var parts []string
		for _, why := range slices.Sorted(maps.Keys(s.Dropped)) {
			parts = append(parts, why+" "+strconv.FormatUint(s.Dropped[why], 10))
		}
		fmt.Fprintf(w, "Of no group on %s: %s\n", s.Interface, strings.Join(parts, ", "))
	}
}

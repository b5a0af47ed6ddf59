// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/control"
)

func vrrpCommand() *cli.Command {
	return &cli.Command{
		Name:  "vrrp",
		Usage: "the election",
		Subcommands: []*cli.Command{{
			Name:  "show",
			Usage: "show the groups",
			Flags: []cli.Flag{socketFlag},
			Action: func(ctx *cli.Context) error {
				groups, err := client(ctx).VRRP(ctx.Context)
				if err != nil {
					return err
				}
				return show(ctx, groups, func(w io.Writer) {
					if len(groups) == 0 {
						fmt.Fprintln(w, "No group is configured: another program elects (failover-mechanism.external).")
					}
					writeGroups(w, groups, time.Now())
					for i := range groups {
						writeGroup(w, &groups[i], time.Now())
					}
				})
			},
		}, {
			Name:      "detail",
			Usage:     "show everything of each group, or of one: what it tracks, too",
			ArgsUsage: "[GROUP]",
			Flags:     []cli.Flag{socketFlag},
			Action:    showDetail,
		}},
	}
}

func showDetail(ctx *cli.Context) error {
	groups, err := client(ctx).VRRP(ctx.Context)
	if err != nil {
		return err
	}
	if name := ctx.Args().First(); name != "" {
		i := slices.IndexFunc(groups, func(g control.VRRPGroup) bool { return g.Name == name })
		if i < 0 {
			return fmt.Errorf("no group is called %q", name)
		}
		groups = groups[i : i+1]
	}
	return show(ctx, groups, func(w io.Writer) {
		for i := range groups {
			writeDetail(w, &groups[i], time.Now())
		}
	})
}

// writeDetail is one group, and what it follows beside its adverts.
func writeDetail(w io.Writer, v *control.VRRPGroup, now time.Time) {
	writeGroup(w, v, now)
	prio := fmt.Sprintf("%d", v.EffectivePriority)
	if v.EffectivePriority != v.Priority {
		prio += fmt.Sprintf(" in force, %d configured", v.Priority)
	}
	fmt.Fprintf(w, "  %s on %s (%s), VRID %d, priority %s\n", v.Role, v.Interface, either(v.InterfaceUp, "up", "DOWN"), v.VRID, prio)
	fmt.Fprintf(w, "  virtual addresses %s: %s\n", either(v.Installed, "in", "not here"), strings.Join(v.Addresses, ", "))
	if !v.Maintenance.IsZero() {
		fmt.Fprintf(w, "  maintenance since %s: it stays Backup until tandem maintenance off\n", clock(v.Maintenance, now))
	}
	if len(v.Tracked) == 0 {
		return
	}
	g := newGrid("Tracked", "State", "Since", "Counts", "")
	for _, t := range v.Tracked {
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

// writeGroups is the overview, one line for each group.
func writeGroups(w io.Writer, groups []control.VRRPGroup, now time.Time) {
	g := newGrid("Group", "Interface", ">VRID", "State", ">Priority", "Since", "Virtual addresses")
	for _, v := range groups {
		iface := v.Interface
		if !v.InterfaceUp && v.Role != control.RoleDisabled {
			iface += " (DOWN)"
		}
		prio := strconv.Itoa(int(v.EffectivePriority))
		if v.EffectivePriority != v.Priority {
			prio += fmt.Sprintf(" (of %d)", v.Priority)
		}
		g.row(v.Name, iface, strconv.Itoa(int(v.VRID)), v.Role, prio, clock(v.Since, now), strings.Join(v.Addresses, ", "))
	}
	g.write(w, "")
}

// writeGroup is one group in full.
func writeGroup(w io.Writer, v *control.VRRPGroup, now time.Time) {
	fmt.Fprintf(w, "\n%s: VRRP version %d, adverts each %s, Active_Down_Interval %s, %s\n", v.Name, v.Version,
		millis(v.AdvertMS), millis(v.ActiveDownMS), either(v.Preempt, "preempts", "does not preempt"))
	if v.ActiveAddress != "" && v.Role != control.RoleActive {
		heard := ""
		if !v.ActiveHeard.IsZero() {
			heard = ", " + ago(now.Sub(v.ActiveHeard)) + " ago"
		}
		fmt.Fprintf(w, "  Active last heard: %s, priority %d, each %s%s\n", v.ActiveAddress, v.ActivePriority, millis(v.ActiveMS), heard)
	}
	if v.Waiting != "" {
		fmt.Fprintf(w, "  it waits: %s\n", v.Waiting)
	}
	c := &v.Counters
	fmt.Fprintf(w, "  adverts sent %s, received %s; became Active %s, released it %s; priority zero sent %s, received %s\n",
		number(c.AdvertSent), number(c.AdvertRcvd), times(c.BecomeActive), times(c.ReleasedActive), number(c.PriZeroSent), number(c.PriZeroRcvd))
	fmt.Fprintf(w, "  receive errors: %s\n", cmp.Or(reasons(map[string]uint64{
		"truncated": c.TruncatedErrors, "version": c.VersionErrors, "type": c.InvalidTypePktsRcvd, "vrid": c.VRIDErrors,
		"checksum": c.ChecksumErrors, "ttl": c.TTLErrors, "address list": c.AddressListErrors, "length": c.PacketLengthErrors,
		"interval": c.AdvertIntervalErrors, "count zero": c.CountZeroErrors,
	}), "none"))
	if c.TwoActives != 0 {
		fmt.Fprintf(w, "  adverts of another Active while Active: %s\n", number(c.TwoActives))
	}
}

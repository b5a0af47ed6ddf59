// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
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
		}, vrrpDetail(), vrrpStatistics()},
	}
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
	dropped := map[string]uint64{}
	for _, e := range receiveErrors(c) {
		dropped[e.name] = e.n
	}
	fmt.Fprintf(w, "  receive errors: %s\n", cmp.Or(reasons(dropped), "none"))
	if c.TwoActives != 0 {
		fmt.Fprintf(w, "  adverts of another Active while Active: %s\n", number(c.TwoActives))
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/config/live"
	"github.com/tandem-ha/tandem/internal/control"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "read the configuration, and with --live ask this machine whether it can carry it",
		Flags: []cli.Flag{
			configFlag,
			&cli.BoolFlag{Name: "live", DisableDefaultText: true, Usage: "ask the machine too; needs root"},
			&cli.StringFlag{Name: "against", Usage: "hold it against `FILE`, the other router's"},
		},
		Action: func(ctx *cli.Context) error {
			cfg, err := config.Load(ctx.String("config"))
			if err == nil {
				err = checkAgainst(ctx, cfg)
			}
			if err != nil {
				return refused(ctx, err)
			}
			found := []live.Finding{{Level: live.OK, What: "configuration", Text: summary(cfg)}}
			if ctx.Bool("live") {
				found = append(found, live.Ask(cfg, running(ctx.Context, cfg))...)
			}
			if err := show(ctx, found, func(w io.Writer) { writeFindings(w, found) }); err != nil {
				return err
			}
			if live.Refusal(found) != nil {
				return errQuiet
			}
			return nil
		},
	}
}

// checkAgainst holds the file against another router's, if one is named.
func checkAgainst(ctx *cli.Context, cfg *config.Config) error {
	path := ctx.String("against")
	if path == "" {
		return nil
	}
	other, err := config.Load(path)
	if err != nil {
		return err
	}
	return cfg.Against(other)
}

// refused shows the faults of a file: as sentences main does it, as JSON each
// is a finding.
func refused(ctx *cli.Context, err error) error {
	if !wantsJSON(ctx) {
		return err
	}
	var found []live.Finding
	for line := range strings.Lines(err.Error()) {
		found = append(found, live.Finding{Level: live.Fail, What: "configuration", Text: strings.TrimSuffix(line, "\n")})
	}
	if err := show(ctx, found, nil); err != nil {
		return err
	}
	return errQuiet
}

// running asks the daemon of this configuration, if one runs: what it holds
// is not taken by somebody else.
func running(ctx context.Context, cfg *config.Config) *control.Status {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := control.NewClient(cfg.Control.Socket).Status(ctx)
	if err != nil {
		return nil
	}
	return &s
}

func summary(cfg *config.Config) string {
	var groups []string
	for _, g := range cfg.VRRP.Groups {
		groups = append(groups, fmt.Sprintf("%s on %s", g.Name, g.Interface))
	}
	copied := "nothing is replicated"
	if s := cfg.Sync; s != nil {
		var over []string
		for _, l := range s.Links {
			over = append(over, l.Interface)
		}
		copied = fmt.Sprintf("replication over %s follows %s", strings.Join(over, ", "), cmp.Or(s.SyncGroup, s.Group, "another election"))
	}
	return fmt.Sprintf("%s is good: node %s, groups %s; %s", cfg.Path, cfg.Node.Name, cmp.Or(strings.Join(groups, ", "), "none"), copied)
}

func writeFindings(w io.Writer, found []live.Finding) {
	word := map[live.Level]string{live.OK: "ok", live.Warn: "LOOK", live.Fail: "FAIL"}
	for _, f := range found {
		fmt.Fprintf(w, "%-4s  %s: %s\n", word[f.Level], f.What, f.Text)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// labDir holds the configurations of kept labs.
const labDir = "/run/tandem-lab"

var nameFlag = &cli.StringFlag{Name: "name", Usage: "the lab's `NAME`, 1 to 12 letters and digits", Value: "lab"}

var nameForm = regexp.MustCompile(`^[a-z0-9]{1,12}$`)

func labName(c *cli.Context) (string, error) {
	name := c.String("name")
	if !nameForm.MatchString(name) {
		return "", usageError{fmt.Sprintf("name %q: 1 to 12 small letters and digits", name)}
	}
	return name, nil
}

func upCommand() *cli.Command {
	return &cli.Command{
		Name: "up", Usage: "build a lab that stays: two routers, a client, a server",
		Flags: []cli.Flag{
			nameFlag,
			&cli.DurationFlag{Name: "interval", Usage: "advertise-interval in the configurations", Value: 100 * time.Millisecond},
			&cli.BoolFlag{Name: "masquerade", Usage: "translate to the router's own address, so that flows strand"},
			&cli.BoolFlag{Name: "dmz", Usage: "a third router interface, eth3, without a group"},
		},
		Action: up,
	}
}

func up(c *cli.Context) error {
	name, err := labName(c)
	if err != nil {
		return err
	}
	opts := netlab.Options{Keep: name, DMZ: c.Bool("dmz")}
	if c.Bool("masquerade") {
		opts.NAT = netlab.Masquerade
	}
	lab, err := netlab.New(opts)
	if err != nil {
		return err
	}
	dir := filepath.Join(labDir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errors.Join(fmt.Errorf("make directory of the lab: %w", err), lab.Close())
	}
	for _, r := range lab.Routers() {
		text := drill.Config(r, filepath.Join(dir, r.Name+".sock"), c.Duration("interval"))
		if err := os.WriteFile(filepath.Join(dir, r.Name+".toml"), []byte(text), 0o600); err != nil {
			return errors.Join(fmt.Errorf("write configuration: %w", err), lab.Close())
		}
	}
	lab.Release()
	fmt.Fprintf(c.App.Writer, `client 10.0.0.10 - r1 and r2 - server 203.0.113.10, in namespaces %s-*
start the routers:  tandem-lab exec --name %s r1 tandem run --config %s/r1.toml
                    tandem-lab exec --name %s r2 tandem run --config %s/r2.toml
ask one:            tandem status --socket %s/r1.sock
send something:     tandem-lab exec --name %s client ping 203.0.113.10
take it down:       tandem-lab down --name %s
`, lab.Prefix, name, dir, name, dir, dir, name, name)
	return nil
}

func downCommand() *cli.Command {
	return &cli.Command{
		Name: "down", Usage: "take a lab down, with all that runs in it",
		Flags:  []cli.Flag{nameFlag},
		Action: down,
	}
}

func down(c *cli.Context) error {
	name, err := labName(c)
	if err != nil {
		return err
	}
	gone, err := netlab.RemoveKept(name)
	err = errors.Join(err, os.RemoveAll(filepath.Join(labDir, name)))
	_ = os.Remove(labDir) // when it is empty
	if err == nil && len(gone) == 0 {
		return fmt.Errorf("there is no lab called %q", name)
	}
	return err
}

func execCommand() *cli.Command {
	return &cli.Command{
		Name: "exec", Usage: "run a command on client, server, r1, r2 (or sw, dmz) of a lab",
		ArgsUsage: "HOST COMMAND [ARGUMENT...]",
		Flags:     []cli.Flag{nameFlag},
		Action:    execute,
	}
}

func execute(c *cli.Context) error {
	name, err := labName(c)
	if err != nil {
		return err
	}
	args := c.Args().Slice()
	if len(args) > 1 && args[1] == "--" {
		args = append(args[:1], args[2:]...)
	}
	if len(args) < 2 {
		return usageError{"exec: name a host and a command"}
	}
	ns, err := netlab.OpenKept(name, args[0])
	if err != nil {
		return fmt.Errorf("%w (is the lab up? hosts are client, server, r1, r2)", err)
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := ns.Run(cmd.Start); err != nil {
		return fmt.Errorf("run %s: %w", strings.Join(args[1:], " "), err)
	}
	// Ctrl-C reaches the command too, from the terminal: it decides.
	if err := cmd.Wait(); err != nil {
		if c.Context.Err() != nil {
			return errInterrupted
		}
		return fmt.Errorf("run %s: %w", args[1], err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

// Command tandem is the daemon and what looks at it. Each object of the
// command line (vrrp, sync, flow ...) has a file here; the work is done in the
// rooms.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
)

// Exit codes.
const (
	exitError = 1
	exitUsage = 2
)

func main() { os.Exit(mainCode()) }

// mainCode is main without the exit. The first SIGINT or SIGTERM ends the
// context, the second has its default effect: it kills.
func mainCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	app := newApp()
	err := app.RunContext(ctx, optionsFirst(app, os.Args))
	if err == nil {
		return 0
	}
	if !errors.Is(err, errQuiet) {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(os.Stderr, "tandem: "+strings.TrimSuffix(line, "\n"))
		}
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitError
}

// errQuiet ends with exit 1 when the output has said why.
var errQuiet = errors.New("said already")

// usageError is a mistake on the command line: exit 2.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// Flags that every command takes; --json stands before the object, too.
var (
	jsonFlag   = &cli.BoolFlag{Name: "json", Aliases: []string{"j"}, Usage: "print JSON", DisableDefaultText: true}
	socketFlag = &cli.StringFlag{Name: "socket", Usage: "ask the daemon at `PATH`", Value: config.DefaultSocket}
	configFlag = &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "read `FILE`", Value: config.DefaultPath}
)

// helpText is tandem --help. TestHelp holds it against the commands.
const helpText = `tandem: two routers that act as one, by VRRP and connection tracking replication

Usage: tandem OBJECT COMMAND [OPTION...]

What happened, and is all well? These ask the daemon that runs here:
  status            who is Active, since when and why, and what is wrong: look here first
  vrrp show|detail|statistics
                    the election: roles, priorities, adverts; all that is in force in a group; counters and errors
  sync show|peers|statistics|resync|key
                    the copy: links, peers, what each side lacks; resync: all again; key new: draw a key for the link
  flow list|count|diff
                    connections: the kernel table, own ones, the copy; those that no copy can save; what differs
  event watch       what changes, as it changes; --history: what did
  takeover show     the latest changes of role: why, by which evidence, each step's time

Change who is Active, without loss (root):
  switchover        exchange the roles of this router and its peer; --to NODE, --force
  maintenance on|off
                    this router gives its role away and stays Backup until off
  takeover          this router is Active: what another election calls (failover-mechanism.external)
  yield             and that it is no longer

The daemon:
  check [--live]    read a configuration; --live: ask this machine whether it can carry it; --against FILE: the other router's
  import vyos       turn VyOS's set lines or config.boot into a configuration; what is left out, and why, to stderr
  run               be a node until SIGTERM, which hands the role over to the peer
  reload            take over what changed in the configuration; other groups hear nothing
  hooks             run health checks and transition scripts: run starts it, or a unit of its own
  version           which tandem this is

What the kernel has; these need no daemon:
  feature           try what tandem can use of this kernel
  prog show         BPF programs, where they are attached, runs and time per run
  map show|dump     BPF maps
  link show         what is attached where

Options, before the object or behind the command:
  -j, --json        print JSON
  -h, --help        explain; tandem OBJECT COMMAND --help says more

Exit codes: 0 good, 1 an error (one sentence on stderr), 2 a mistake on the command line.
`

func newApp() *cli.App {
	app := &cli.App{
		Name:                  "tandem",
		Usage:                 "two routers that act as one: VRRP and connection tracking replication",
		HideVersion:           true,
		CustomAppHelpTemplate: helpText,
		HideHelpCommand:       true,
		Flags:                 []cli.Flag{jsonFlag},
		ExitErrHandler:        func(*cli.Context, error) {}, // main exits
		Commands: []*cli.Command{
			runCommand(), advertsCommand(), hooksCommand(), reloadCommand(), cleanupCommand(), checkCommand(), importCommand(), versionCommand(), statusCommand(), featureCommand(),
			vrrpCommand(), syncCommand(), flowCommand(), eventCommand(), switchoverCommand(), maintenanceCommand(), takeoverCommand(), yieldCommand(), progCommand(), mapCommand(), linkCommand(),
		},
		Action: wantsCommand,
	}
	app.OnUsageError = onUsageError
	for _, c := range app.Commands {
		prepare(c)
	}
	return app
}

// prepare gives a command and those below it what all have in common.
func prepare(c *cli.Command) {
	c.HideHelpCommand = true
	c.OnUsageError = onUsageError
	if len(c.Subcommands) > 0 && c.Action == nil {
		c.Action = wantsCommand
	} else if action := c.Action; !c.SkipFlagParsing {
		c.Flags = append(c.Flags, jsonFlag)
		most := strings.Count(c.ArgsUsage, " ") + 1
		if c.ArgsUsage == "" {
			most = 0
		}
		c.Action = func(ctx *cli.Context) error {
			if ctx.NArg() > most {
				return usageError{fmt.Sprintf("unexpected argument %q (see %s --help)", ctx.Args().Get(most), ctx.Command.HelpName)}
			}
			return action(ctx)
		}
	}
	for _, sub := range c.Subcommands {
		prepare(sub)
	}
}

func onUsageError(ctx *cli.Context, err error, _ bool) error {
	name := ctx.App.Name
	if ctx.Command != nil && ctx.Command.HelpName != "" {
		name = ctx.Command.HelpName
	}
	return usageError{fmt.Sprintf("%v (see %s --help)", err, name)}
}

// wantsCommand is the action of an object that was named without a command.
func wantsCommand(ctx *cli.Context) error {
	name, commands := "tandem", ctx.App.Commands
	if ctx.Command != nil && len(ctx.Command.Subcommands) > 0 && ctx.Command.HelpName != ctx.App.HelpName {
		name, commands = ctx.Command.HelpName, ctx.Command.Subcommands
	}
	var words []string
	for _, c := range commands {
		if !c.Hidden {
			words = append(words, c.Name)
		}
	}
	if ctx.Args().Present() {
		return usageError{fmt.Sprintf("unknown command %q: after %s comes one of %s", ctx.Args().First(), name, strings.Join(words, ", "))}
	}
	return usageError{fmt.Sprintf("%s what? One of %s (see %s --help)", name, strings.Join(words, ", "), name)}
}

// wantsJSON: -j counts before and after the command's name.
func wantsJSON(ctx *cli.Context) bool {
	for _, c := range ctx.Lineage() {
		if c.Bool("json") {
			return true
		}
	}
	return false
}

// client asks the daemon that --socket names.
func client(ctx *cli.Context) *control.Client { return control.NewClient(ctx.String("socket")) }

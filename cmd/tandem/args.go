// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// optionsFirst puts the options that stand behind a command's arguments before
// them, where package cli looks for them: tandem vrrp detail LAN -j. What
// follows "--" are arguments.
func optionsFirst(app *cli.App, args []string) []string {
	first, commands, flags := 1, app.Commands, app.Flags
	for first < len(args) {
		if isOption(args[first]) {
			first += 1 + values(flags, args[first])
			continue
		}
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[first]) })
		if i < 0 {
			break
		}
		if commands[i].SkipFlagParsing {
			return args
		}
		first, commands, flags = first+1, commands[i].Subcommands, commands[i].Flags
	}
	if first > len(args) || len(commands) > 0 {
		return args // the last option lacks its value, or the command is unknown or missing
	}
	var options, rest []string
	for at := first; at < len(args); at++ {
		if args[at] == "--" {
			rest = append(rest, args[at:]...)
			break
		}
		if !isOption(args[at]) {
			rest = append(rest, args[at])
			continue
		}
		end := min(at+1+values(flags, args[at]), len(args))
		options = append(options, args[at:end]...)
		at = end - 1
	}
	return slices.Concat(args[:first], options, rest)
}

// isOption tells an option from an argument; "-" is standard input.
func isOption(word string) bool { return len(word) > 1 && word[0] == '-' && word != "--" }

// values is how many of the words behind an option belong to it.
func values(flags []cli.Flag, option string) int {
	name := strings.TrimLeft(option, "-")
	for _, f := range flags {
		if _, isBool := f.(*cli.BoolFlag); !isBool && slices.Contains(f.Names(), name) {
			return 1
		}
	}
	return 0
}

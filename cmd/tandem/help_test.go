// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// TestHelp: every command that is not hidden stands in tandem --help.
func TestHelp(t *testing.T) {
	app := newApp()
	text := output(t, "--help")
	for _, c := range app.Commands {
		line := lineOf(text, c.Name)
		if !c.Hidden && line == "" {
			t.Errorf("tandem --help lacks %s", c.Name)
		}
		for _, sub := range c.Subcommands {
			if !strings.Contains(line, sub.Name) {
				t.Errorf("tandem --help lacks %s %s", c.Name, sub.Name)
			}
		}
	}
}

// lineOf is the line that begins with a command's name.
func lineOf(text, name string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  "+name+" ") {
			return line
		}
	}
	return ""
}

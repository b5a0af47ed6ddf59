// SPDX-License-Identifier: Apache-2.0

package arrows

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// wallFree rooms decide by CLOCK_MONOTONIC alone, and put no time of day on the
// wire: a node whose clock is an hour off, or steps, is a node like others.
// time.Now carries the monotonic clock as long as nobody makes a number of it,
// so what is forbidden are the ways to the number. The files named turn the
// kernel's stamps of packets, which are of the wall clock, into monotonic ones.
var wallFree = map[string][]string{
	"vrrp": {}, "syncproto": {}, "conntrack": {}, "loader": {}, "maps": {},
	"internal/takeover": {}, "internal/link": {}, "internal/vip": {},
	"internal/adverts": {"receive.go"},
}

// wallClock are selectors that give the time of day as something to calculate
// with, or strip a time.Time of its monotonic reading.
var wallClock = []string{"Unix", "UnixNano", "UnixMilli", "UnixMicro", "Gettimeofday", "CLOCK_REALTIME",
	"CLOCK_TAI", "SO_TIMESTAMP", "SO_TIMESTAMPNS", "SO_TIMESTAMPING", "UTC", "Round"}

func TestNoWallClockDecides(t *testing.T) {
	packages := ours(t)
	for name, converters := range wallFree {
		for _, base := range packages[name].GoFiles {
			if slices.Contains(converters, base) {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(packages[name].Dir, base), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if f, ok := n.(*ast.SelectorExpr); ok && slices.Contains(wallClock, f.Sel.Name) {
					t.Errorf("%s/%s:%d: %s: the wall clock decides nothing", name, base, fset.Position(n.Pos()).Line, f.Sel.Name)
				}
				return true
			})
		}
		for _, base := range converters {
			if !slices.Contains(packages[name].GoFiles, base) {
				t.Errorf("%s/%s is named, and there is no such file", name, base)
			}
		}
	}
}

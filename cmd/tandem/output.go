// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// show prints v as JSON when asked for, else by text.
func show(ctx *cli.Context, v any, text func(io.Writer)) error {
	if !wantsJSON(ctx) {
		text(ctx.App.Writer)
		return nil
	}
	return json.NewEncoder(ctx.App.Writer).Encode(v)
}

// grid is a table for people: columns as wide as their widest cell.
type grid struct {
	rows  [][]string
	right map[int]bool // columns of numbers
}

// newGrid makes a table; a head that begins with ">" is a column of numbers.
func newGrid(head ...string) *grid {
	g := &grid{right: make(map[int]bool)}
	for i, h := range head {
		if strings.HasPrefix(h, ">") {
			g.right[i], head[i] = true, h[1:]
		}
	}
	g.rows = append(g.rows, head)
	return g
}

func (g *grid) row(cells ...string) { g.rows = append(g.rows, cells) }

// write prints the table, each line after indent. An empty one is nothing.
func (g *grid) write(w io.Writer, indent string) {
	if len(g.rows) < 2 {
		return
	}
	width := make([]int, len(g.rows[0]))
	for _, row := range g.rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range g.rows {
		var b strings.Builder
		b.WriteString(indent)
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				b.WriteString("  ")
			}
			if g.right[i] {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// number writes 21034 as 21,034.
func number[T ~int | ~uint32 | ~uint64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesOf writes a size with a binary unit.
func bytesOf(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// ago writes a duration with two parts at most: 2h 14min.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// clock writes a moment, with its date unless it is now's.
func clock(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	t, now = t.Local(), now.Local()
	if y, m, d := t.Date(); y == now.Year() && m == now.Month() && d == now.Day() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}

// millis writes milliseconds with what they are worth: 150 us, 1.5 ms, 320 ms,
// 3.61 s.
func millis(ms float64) string {
	switch {
	case ms >= 1000:
		return strconv.FormatFloat(math.Round(ms/10)/100, 'f', -1, 64) + " s"
	case ms > 0 && ms < 1:
		return fmt.Sprintf("%.0f us", ms*1000)
	case ms >= 100 || ms == float64(int(ms)):
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f ms", ms)
}

// reasons writes the counters that are not zero: "bad-length 3, no-session 1".
func reasons(m map[string]uint64) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] != 0 {
			out = append(out, k+" "+number(m[k]))
		}
	}
	return strings.Join(out, ", ")
}

// times writes a count of happenings.
func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return number(n) + " times"
}

// percent writes part of whole.
func percent(part, whole float64) string {
	if whole == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.0f %%", part/whole*100)
}

// either chooses a word.
func either(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}

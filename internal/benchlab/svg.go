// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"bytes"
	"fmt"
	"html"
)

// Measures of a picture, in pixels: one bar for each system of each figure,
// its length the median, a line from the least to the most.
const (
	svgWidth = 760
	svgLeft  = 190
	svgBars  = 400
	svgBar   = 16
	svgGap   = 30
)

var svgColours = map[string]string{"tandem": "#2a6", "nobody": "#999", "conntrackd-external": "#c63", "conntrackd-direct": "#a38"}

// picture draws the summary as plain SVG.
func (r *Report) picture() []byte {
	var b bytes.Buffer
	y := 40
	for _, f := range r.Figures {
		y = r.drawFigure(&b, &f, y)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", svgWidth, y+20)
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	fmt.Fprintf(&out, `<text x="10" y="20" font-size="14">bench %s: %s</text>`+"\n", r.Bench, html.EscapeString(r.title()))
	out.Write(b.Bytes())
	fmt.Fprintf(&out, `<text x="10" y="%d" fill="#666">%s, %d CPUs, Linux %s, %s. Bars: medians; black: least to most; red: the aim.</text>`+"\n</svg>\n", y+10,
		html.EscapeString(r.Machine.CPU), r.Machine.CPUs, html.EscapeString(r.Machine.Kernel), r.Begun.UTC().Format("2006-01-02"))
	return out.Bytes()
}

// drawFigure draws the bars of one figure and returns where the next begins.
func (r *Report) drawFigure(b *bytes.Buffer, f *Figure, y int) int {
	var rows []Summary
	most := f.Aim
	for _, s := range r.Summary {
		if s.Figure == f.Name {
			rows = append(rows, s)
			most = max(most, s.Value.Max)
		}
	}
	if len(rows) == 0 || most <= 0 {
		return y
	}
	x := func(v float64) float64 { return svgLeft + max(v, 0)/most*svgBars }
	fmt.Fprintf(b, `<text x="10" y="%d" font-weight="bold">%s, %s</text>`+"\n", y+10, html.EscapeString(f.Name), html.EscapeString(f.Unit))
	top := y + svgBar
	for i, s := range rows {
		at := top + i*svgBar
		fmt.Fprintf(b, `<text x="20" y="%d">%s</text>`, at+12, html.EscapeString(s.System))
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, svgLeft, at+3, x(s.Value.Median)-svgLeft, svgBar-5, svgColours[s.System])
		fmt.Fprintf(b, `<path d="M%.1f %d H%.1f" stroke="black"/>`, x(s.Value.Min), at+8, x(s.Value.Max))
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", x(s.Value.Max)+6, at+12, number(s.Value.Median))
	}
	bottom := top + len(rows)*svgBar
	if f.Aim != 0 {
		fmt.Fprintf(b, `<path d="M%.1f %d V%d" stroke="red" stroke-dasharray="3 2"/>`+"\n", x(f.Aim), top, bottom)
	}
	return bottom + svgGap - svgBar
}

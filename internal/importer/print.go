// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// width is where comments break.
const width = 100

// print writes the tables, and says which item stands on which line.
func print(head string, tables []*table) (text string, at map[int]*item) {
	at = make(map[int]*item)
	p := &printer{at: at}
	p.remark(head)
	for _, t := range tables {
		p.line("", nil)
		p.remark(t.comment)
		p.item(&t.item, "["+t.key+"]", t.off != "")
		for _, i := range t.items {
			p.remark(i.comment)
			p.item(i, i.key+" = "+i.value, t.off != "")
		}
	}
	return p.text.String(), at
}

type printer struct {
	text strings.Builder
	n    int
	at   map[int]*item
}

func (p *printer) line(s string, i *item) {
	p.n++
	if i != nil {
		p.at[p.n] = i
	}
	p.text.WriteString(s + "\n")
}

// item writes a line that counts, or, refused, as a comment.
func (p *printer) item(i *item, s string, tableOff bool) {
	switch {
	case i.off != "":
		p.remark("Refused: " + i.off)
		p.line("#"+s, nil)
	case tableOff:
		p.line("#"+s, nil)
	default:
		p.line(s, i)
	}
}

// remark writes a comment, broken between words.
func (p *printer) remark(s string) {
	line := "#"
	for w := range strings.FieldsSeq(s) {
		if len(line)+1+len(w) > width && line != "#" {
			p.line(line, nil)
			line = "#"
		}
		line += " " + w
	}
	if line != "#" {
		p.line(line, nil)
	}
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// dotted writes a key of several parts.
func dotted(parts ...string) string {
	out := make([]string, len(parts))
	for i, s := range parts {
		if out[i] = s; !bare.MatchString(s) {
			out[i] = quote(s)
		}
	}
	return strings.Join(out, ".")
}

// quote writes a TOML basic string, on one line whatever is in it.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f || r == utf8.RuneError:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// list writes an array.
func list(items []string) string { return "[" + strings.Join(items, ", ") + "]" }

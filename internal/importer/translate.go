// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxSize bounds a text that is certainly not a configuration.
const maxSize = 4 << 20

// errNothing: neither VRRP nor conntrack-sync.
var errNothing = errors.New("nothing of high-availability vrrp or service conntrack-sync is in it: " +
	"give the output of `show configuration commands`, or a config.boot")

// VyOS translates set lines or a config.boot. An error begins with the line
// where the text cannot be read; whatever can be read gives a Result.
func VyOS(text string) (Result, error) {
	t, err := translate(text)
	if err != nil {
		return Result{}, err
	}
	toml := t.settle()
	return Result{TOML: toml, Notes: sorted(append([]Note{}, t.notes...))}, nil // none is [] in JSON
}

// sorted gives the notes in the order of the text.
func sorted(notes []Note) []Note {
	slices.SortStableFunc(notes, func(a, b Note) int { return cmp.Compare(a.Line, b.Line) })
	return notes
}

// translation is one run over one tree.
type translation struct {
	root   *node
	tables []*table
	notes  []Note
	own    map[string][]netip.Prefix // the addresses of the interfaces that the text has
	all3   bool                      // version 3 was asked for
	unset  string                    // a comment for the first version that is written
}

// translate is VyOS before internal/config is asked. The tables come in the
// order in which a person would write them.
func translate(text string) (*translation, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("larger than %d MiB: not a configuration", maxSize>>20)
	}
	valid := strings.ToValidUTF8(text, "\ufffd") // TOML is UTF-8
	root, notes, err := parse(valid)
	if err != nil {
		return nil, err
	}
	if valid != text {
		notes = append(notes, Note{Text: "the text is not all UTF-8: what is not was written as \ufffd"})
	}
	t := &translation{root: root, notes: notes, own: make(map[string][]netip.Prefix)}
	t.interfaces()
	ha, sync := root.see("high-availability"), root.see("service conntrack-sync")
	if ha == nil && sync == nil {
		return nil, errNothing
	}
	t.node()
	if ha != nil {
		t.election(ha)
	}
	if sync != nil {
		t.replication(sync)
	}
	t.rest(ha)
	t.rest(sync)
	t.outside()
	return t, nil
}

// take translates the options of a table below a node, in the table's order.
func (t *translation) take(at *node, options []option, to *table) {
	for _, o := range options {
		var ns []*node
		for from := range strings.SplitSeq(o.from, "|") {
			if n := at.see(from); n != nil {
				ns = append(ns, n)
			}
		}
		if len(ns) > 0 {
			to.add(o.key, o.read(t, ns), ns[0]).must = o.must
		}
	}
}

// write adds a table that has something in it.
func (t *translation) write(to *table) {
	if len(to.items) > 0 {
		t.tables = append(t.tables, to)
	}
}

// told notes what changes nothing but should be known, lost what does.
func (t *translation) told(n *node, format string, args ...any) { t.note(n, false, format, args...) }
func (t *translation) lost(n *node, format string, args ...any) { t.note(n, true, format, args...) }

func (t *translation) note(n *node, lost bool, format string, args ...any) {
	note := Note{Text: fmt.Sprintf(format, args...), Lost: lost}
	if n != nil {
		note.Line, note.Path = n.place(), n.path()
	}
	t.notes = append(t.notes, note)
}

// gone is an option that tandem has no need of, refused one that it does not
// offer: each with the reason.
func gone(why string) kind {
	return func(t *translation, ns []*node) string {
		for _, n := range ns {
			n.spend()
			t.told(n, "nothing was written: %s", why)
		}
		return ""
	}
}

func refused(why string) kind {
	return func(t *translation, ns []*node) string {
		for _, n := range ns {
			n.spend()
			t.lost(n, "left out: %s", why)
		}
		return ""
	}
}

// constant is an option without a value that has one here.
func constant(value string) kind {
	return func(*translation, []*node) string { return value }
}

// spend marks everything at and below n as looked at.
func (n *node) spend() {
	n.used = true
	for _, k := range n.kids {
		k.spend()
	}
}

// rest names what nobody asked for: an option that VyOS got later, or a slip.
func (t *translation) rest(n *node) {
	switch {
	case n == nil || !n.used && n.hollow:
	case !n.used:
		t.lost(n, "left out: not known to this version of tandem")
	default:
		for _, k := range n.kids {
			t.rest(k)
		}
	}
}

// node is [node]: the host's name.
func (t *translation) node() {
	n := t.root.see("system host-name")
	if n == nil {
		return
	}
	to := newTable(n, false, "node")
	name := to.add("name", text(t, []*node{n}), n)
	if n.kid("vyos") != nil {
		name.comment = "VyOS's own default: each node needs another name, or they do not talk."
	}
	t.write(to)
}

// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"slices"
	"strconv"
	"time"
)

// kind turns what VyOS says of one option into a TOML value; "" when there is
// nothing to write, which it has explained then. The nodes are the option under
// each of its names that the source uses, at least one.
type kind func(t *translation, ns []*node) string

// option is one line of the tables that say where each option goes.
type option struct {
	from string // VyOS's words below the node; names of several ages are parted by |
	key  string // tandem's
	read kind
	must bool // see item
}

// present is an option without a value.
func present(*translation, []*node) string { return "true" }

// text is an option with one value.
func text(t *translation, ns []*node) string {
	if v := t.single(ns); v != nil {
		return quote(v.word)
	}
	return ""
}

// number is an option with a whole number. Its range is tandem check's business.
func number(t *translation, ns []*node) string {
	v := t.single(ns)
	if v == nil {
		return ""
	}
	n, err := strconv.ParseInt(v.word, 10, 64)
	if err != nil {
		t.lost(v, "left out: %q is not a whole number", v.word)
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// maxSeconds is more than any option has.
const maxSeconds = 1e6

// seconds is an option in seconds, which has a unit here.
func seconds(t *translation, ns []*node) string {
	v := t.single(ns)
	if v == nil {
		return ""
	}
	f, err := strconv.ParseFloat(v.word, 64)
	if err != nil || !(f >= 0 && f <= maxSeconds) {
		t.lost(v, "left out: %q is not a number of seconds", v.word)
		return ""
	}
	if f == float64(int64(f)) {
		return quote(strconv.FormatInt(int64(f), 10) + "s")
	}
	return quote(time.Duration(f * float64(time.Second)).Round(time.Microsecond).String())
}

// texts is an option with several values.
func texts(t *translation, ns []*node) string {
	var out []string
	for _, n := range ns {
		for _, v := range n.values() {
			if s := quote(v.word); !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return t.some(ns, out)
}

// advertised is addresses with what RFC 9568 section 5.2.9 wants of IPv6: the
// link-local address first. VyOS sorts them, so there it is mostly the last.
func advertised(t *translation, ns []*node) string {
	for _, n := range ns {
		sorted := slices.IsSortedFunc(n.kids, linkLocalFirst)
		if slices.SortStableFunc(n.kids, linkLocalFirst); !sorted {
			t.told(n, "the link-local address was written first: it is the one that hosts have as their router")
		}
	}
	return addresses(t, ns)
}

func linkLocalFirst(a, b *node) int {
	rank := func(n *node) int {
		if ip, ok := hostOf(n.word); ok && ip.Is6() && ip.IsLinkLocalUnicast() {
			return 0
		}
		return 1
	}
	return rank(a) - rank(b)
}

// addresses is a list of addresses, each of which may name an interface.
func addresses(t *translation, ns []*node) string {
	var out []string
	for _, n := range ns {
		for _, v := range n.kids {
			v.used = true
			s := quote(v.word)
			if i := v.see("interface"); i != nil {
				if name := t.single([]*node{i}); name != nil {
					s = "{ address = " + s + ", interface = " + quote(name.word) + " }"
				}
			}
			out = append(out, s)
		}
	}
	return t.some(ns, out)
}

// some is a list that must not be empty.
func (t *translation) some(ns []*node, out []string) string {
	if len(out) == 0 {
		t.bare(ns)
		return ""
	}
	return list(out)
}

// single gives the value that holds, nil when there is none.
func (t *translation) single(ns []*node) *node {
	var v *node
	said := 0
	for _, n := range ns {
		said += len(n.kids)
		if w := n.last(); w != nil && (v == nil || w.line >= v.line) {
			v = w
		}
	}
	switch {
	case said == 0:
		t.bare(ns)
	case said > 1:
		t.told(v, "it has %d values, of which the last holds", said)
	}
	return v
}

// bare says that an option has no value, unless a delete line took it away.
func (t *translation) bare(ns []*node) {
	for _, n := range ns {
		if !n.hollow {
			t.lost(n, "left out: it has no value")
		}
	}
}

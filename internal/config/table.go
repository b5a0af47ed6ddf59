// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// document is the file while it is read: its tables, and every fault found so
// far. Reading goes on after a fault, so that one run shows them all.
type document struct {
	path   string
	md     toml.MetaData
	lines  map[string]int // by full key; 0 never stored
	faults []Fault
}

// table is one table of the file. Every getter notes its key as known; what
// nobody asked for is unknown (finish). A nil table is an absent one: getters
// give defaults.
type table struct {
	d     *document
	key   toml.Key
	raw   map[string]toml.Primitive
	known []string
}

// newDocument parses text. A syntax error is the only thing that ends reading
// at once.
func newDocument(path, text string) (*document, *table, error) {
	d := &document{path: path, lines: make(map[string]int)}
	root := &table{d: d}
	var err error
	if d.md, err = toml.Decode(text, &root.raw); err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return nil, nil, fmt.Errorf("%s:%d: not valid TOML: %s", path, pe.Position.Line, pe.Message)
		}
		return nil, nil, fmt.Errorf("%s: not valid TOML: %w", path, err)
	}
	d.walk(root)
	return d, root, nil
}

// walk notes the line of every key below t and returns the smallest one.
func (d *document) walk(t *table) int {
	first := 0
	for name, prim := range t.raw {
		key := t.child(name)
		line := d.lineOf(prim)
		var sub map[string]toml.Primitive
		if d.md.PrimitiveDecode(prim, &sub) == nil && sub != nil {
			// A table that is only implied by a.b.c = 1 has no line of its own.
			if below := d.walk(&table{d: d, key: key, raw: sub}); line == 0 {
				line = below
			}
		}
		if line != 0 {
			d.lines[key.String()] = line
		}
		if line != 0 && (first == 0 || line < first) {
			first = line
		}
	}
	return first
}

// place is a value that refuses to be decoded. The decoder then says where:
// the one way that toml v1.6 has to tell a key's line.
type place struct{}

var errPlace = errors.New("place")

// UnmarshalTOML always fails.
func (*place) UnmarshalTOML(any) error { return errPlace }

func (d *document) lineOf(prim toml.Primitive) int {
	var pe toml.ParseError
	if errors.As(d.md.PrimitiveDecode(prim, &place{}), &pe) {
		return pe.Position.Line
	}
	return 0
}

// fault notes a refusal of the key.
func (d *document) fault(key toml.Key, format string, args ...any) {
	line := 0
	for n := len(key); n > 0 && line == 0; n-- {
		line = d.lines[key[:n].String()]
	}
	d.faults = append(d.faults, Fault{Path: d.path, Line: line, Key: key.String(), Text: fmt.Sprintf(format, args...)})
}

// err joins the faults in the order of the file; nil when there are none.
func (d *document) err() error {
	slices.SortStableFunc(d.faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Error(), b.Error())
	})
	errs := make([]error, 0, len(d.faults))
	for _, f := range d.faults {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

func (t *table) child(name string) toml.Key {
	return append(slices.Clone(t.key), name)
}

// fault notes a refusal of the whole key, mostly a missing one.
func (t *table) fault(name, format string, args ...any) {
	t.d.fault(t.child(name), format, args...)
}

// refuse notes a refusal that names the value.
func (t *table) refuse(name string, value any, format string, args ...any) {
	t.d.fault(t.child(name), "%s: %s", show(value), fmt.Sprintf(format, args...))
}

// get gives the value of a key and notes the key as known.
func (t *table) get(name string) (any, bool) {
	if t == nil {
		return nil, false
	}
	t.known = append(t.known, name)
	prim, ok := t.raw[name]
	if !ok {
		return nil, false
	}
	var v any
	if err := t.d.md.PrimitiveDecode(prim, &v); err != nil {
		t.fault(name, "cannot be read: %v", err)
		return nil, false
	}
	return v, true
}

// text gives a string that allowed approves; what says what is allowed.
func (t *table) text(name, def, what string, allowed func(string) bool) string {
	v, ok := t.get(name)
	if !ok {
		return def
	}
	s, ok := v.(string)
	if !ok || !allowed(s) {
		t.refuse(name, v, "must be %s", what)
		return def
	}
	return s
}

// choice gives one of a few words.
func (t *table) choice(name, def string, words ...string) string {
	return t.text(name, def, oneOf(words), func(s string) bool { return slices.Contains(words, s) })
}

func (t *table) flag(name string) bool {
	v, ok := t.get(name)
	b, isBool := v.(bool)
	if ok && !isBool {
		t.refuse(name, v, "must be true or false, without quotes")
	}
	return b
}

func (t *table) number(name string, def, low, high int64) int64 {
	v, ok := t.get(name)
	if !ok {
		return def
	}
	n, ok := v.(int64)
	if !ok || n < low || n > high {
		t.refuse(name, v, "must be a whole number from %d to %d", low, high)
		return def
	}
	return n
}

// duration gives a duration between low and high that is a multiple of step
// (0: any).
func (t *table) duration(name string, def, low, high, step time.Duration) time.Duration {
	v, ok := t.get(name)
	if !ok {
		return def
	}
	s, isText := v.(string)
	d, err := time.ParseDuration(s)
	switch {
	case !isText:
		t.refuse(name, v, `must be a duration with its unit, in quotes, as "1s" or "100ms"`)
	case err != nil:
		t.refuse(name, v, `must be a duration, as "1s" or "100ms"`)
	case d < low || d > high:
		t.refuse(name, v, "must be from %s to %s", short(low), short(high))
	case step != 0 && d%step != 0:
		t.refuse(name, v, "must be a multiple of %s", short(step))
	default:
		return d
	}
	return def
}

// list gives a list of strings; a single string is a list of one.
func (t *table) list(name string) ([]string, bool) {
	v, ok := t.get(name)
	if !ok {
		return nil, false
	}
	items, isList := v.([]any)
	if s, isText := v.(string); isText {
		items, isList = []any{s}, true
	}
	if !isList {
		t.refuse(name, v, `must be a list of strings, as ["a", "b"]`)
		return nil, false
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		s, ok := item.(string)
		if !ok {
			t.refuse(name, item, `must be a string: the list is written as ["a", "b"]`)
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// items gives a list of strings and tables, whatever they are; one alone counts
// as a list of one.
func (t *table) items(name string) ([]any, bool) {
	v, ok := t.get(name)
	switch v := v.(type) {
	case []any:
		return v, ok
	case []map[string]any: // nothing but tables
		items := make([]any, len(v))
		for i := range v {
			items[i] = v[i]
		}
		return items, ok
	default:
		return []any{v}, ok
	}
}

// table gives a subtable, nil when it is absent.
func (t *table) table(name string) *table {
	v, ok := t.get(name)
	if !ok {
		return nil
	}
	sub := &table{d: t.d, key: t.child(name)}
	if t.d.md.PrimitiveDecode(t.raw[name], &sub.raw) != nil || sub.raw == nil {
		t.refuse(name, v, "must be a table, as [%s]", sub.key)
		return nil
	}
	return sub
}

// tables gives the subtables, in the order of the file.
func (t *table) tables() []*table {
	if t == nil {
		return nil
	}
	var out []*table
	for _, key := range t.d.md.Keys() {
		if len(key) <= len(t.key) || !slices.Equal(key[:len(t.key)], t.key) {
			continue
		}
		name := key[len(t.key)]
		if slices.Contains(t.known, name) {
			continue
		}
		if sub := t.table(name); sub != nil {
			out = append(out, sub)
		}
	}
	return out
}

// name is the last part of the table's key.
func (t *table) name() string { return t.key[len(t.key)-1] }

// has says whether the file has the key, whatever its value.
func (t *table) has(name string) bool {
	if t == nil {
		return false
	}
	_, ok := t.raw[name]
	return ok
}

// later refuses keys that design and VyOS have and this version has not.
func (t *table) later(what string, names ...string) {
	for _, name := range names {
		if v, ok := t.get(name); ok && v != false {
			t.fault(name, "%s not in this version of tandem yet: take the line out", what)
		}
	}
}

// finish refuses what nobody asked for.
func (t *table) finish() {
	if t == nil {
		return
	}
	for name := range t.raw {
		if slices.Contains(t.known, name) {
			continue
		}
		known := slices.Clone(t.known)
		slices.Sort(known)
		known = slices.Compact(known)
		switch near := nearest(name, known); {
		case elsewhere[name] != "":
			t.fault(name, "unknown key: %s", elsewhere[name])
		case near != "":
			t.fault(name, "unknown key: did you mean %q?", near)
		default:
			t.fault(name, "unknown key: known here are %s", strings.Join(known, ", "))
		}
	}
}

// elsewhere says where a thing went that other programs call by this name.
var elsewhere = map[string]string{
	"virtual-address":         `write address = ["10.0.0.1/24"]`,
	"virtual_ipaddress":       `write address = ["10.0.0.1/24"]`,
	"preempt":                 "preemption is the default; no-preempt = true turns it off",
	"nopreempt":               "write no-preempt = true",
	"advert_int":              `write advertise-interval = "1s"`,
	"virtual_router_id":       "write vrid = 10",
	"virtual-server":          "tandem does no load balancing; keep IPVS where it is",
	"disable-external-cache":  `write commit = "continuous", which is the default`,
	"startup-resync":          "not needed: a node that starts is always brought up to date",
	"purge-timeout":           "not needed: a view is never aged by the receiver",
	"event-listen-queue-size": "not needed: changes do not come through a netlink queue",
	"sync-queue-size":         "not needed: memory does not depend on losses",
	"disable-syslog":          `write [log] level = "error"`,
}

// nearest gives the known name that is one or two edits away (one for a short
// name), or "".
func nearest(name string, known []string) string {
	best, at := "", min(3, len(name)/3+1)
	for _, k := range known {
		if n := edits(name, k); n < at && n < len(k) {
			best, at = k, n
		}
	}
	return best
}

// edits is Levenshtein's distance. Names are short; longer ones are far away.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// SPDX-License-Identifier: Apache-2.0

package importer

// item is one line of the result: a key, or a table's head.
type item struct {
	key     string // as it is written
	value   string // a TOML value, on one line; "" for a head
	comment string // a decision that was taken, above the line
	from    *node  // what said so; nil when nothing did
	must    bool   // never taken out: without it the rest means something else
	off     string // why internal/config refuses the line, which is then a comment
}

// table is a table of the result, in the order of writing.
type table struct {
	item
	items []*item
}

// newTable makes a table: the parts of its name are quoted where they must be.
func newTable(from *node, must bool, name ...string) *table {
	return &table{item: item{key: dotted(name...), from: from, must: must}}
}

// add writes a line, and gives it for more to be said of it. No value, no line.
func (t *table) add(key, value string, from *node) *item {
	i := &item{key: key, value: value, from: from}
	if value != "" {
		t.items = append(t.items, i)
	}
	return i
}

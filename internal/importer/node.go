// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"slices"
	"strings"
)

// node is a word of VyOS's configuration tree; its value is a node below it.
// "set vrrp group LAN priority 200" is a chain of five, and so is the same in
// curly braces: without VyOS's own definitions nothing tells a name from a value.
type node struct {
	word   string
	first  int // the line that said it first
	line   int // and last
	parent *node
	kids   []*node
	used   bool // the translation has looked at it
	hollow bool // what stood below was deleted
}

// put walks down the words, making what is not there, and returns the last one.
// A word that is said again counts from there on: of a single value the last wins.
func (n *node) put(line int, words ...string) *node {
	for _, w := range words {
		kid := n.kid(w)
		if kid == nil {
			kid = &node{word: w, parent: n, first: line}
			n.kids = append(n.kids, kid)
		}
		kid.line = line
		n = kid
	}
	return n
}

// kid gives the node of this word below n, or nil.
func (n *node) kid(word string) *node {
	if n == nil {
		return nil
	}
	for _, k := range n.kids {
		if k.word == word {
			return k
		}
	}
	return nil
}

// at gives the node at the end of a path of words, nil when there is none.
func (n *node) at(path string) *node {
	for w := range strings.FieldsSeq(path) {
		n = n.kid(w)
	}
	return n
}

// see is at that notes all of the path as used.
func (n *node) see(path string) *node {
	for w := range strings.FieldsSeq(path) {
		if n = n.kid(w); n != nil {
			n.used = true
		}
	}
	return n
}

// remove takes n out of the tree.
func (n *node) remove() {
	p := n.parent
	p.kids = slices.DeleteFunc(p.kids, func(k *node) bool { return k == n })
	p.hollow = len(p.kids) == 0
}

// values gives what stands below n, oldest first.
func (n *node) values() []*node {
	if n == nil {
		return nil
	}
	out := slices.Clone(n.kids)
	slices.SortStableFunc(out, func(a, b *node) int { return a.line - b.line })
	for _, k := range out {
		k.used = true
	}
	return out
}

// last gives the value that holds of an option that has one.
func (n *node) last() *node {
	v := n.values()
	if len(v) == 0 {
		return nil
	}
	return v[len(v)-1]
}

// place is the line to name for n: for an option where it was said last, for
// what holds options where it begins.
func (n *node) place() int {
	for _, k := range n.kids {
		if len(k.kids) > 0 {
			return n.first
		}
	}
	return n.line
}

// path is the words from the root to n, secrets aside.
func (n *node) path() string {
	var words []string
	for ; n != nil && n.parent != nil; n = n.parent {
		if strings.HasSuffix(n.parent.word, "password") {
			words = append(words, "***")
			continue
		}
		words = append(words, n.word)
	}
	slices.Reverse(words)
	return strings.Join(words, " ")
}

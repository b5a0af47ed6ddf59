// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"strings"
)

// braces is a reader of config.boot:
//
//	service {
//	    conntrack-sync {            a statement that opens a block
//	        accept-protocol tcp     a statement that ends with its line, or with ;
//	    }
//	}
//
// Comments are /* */ anywhere between words and // to the end of the line.
type braces struct {
	text  string
	line  int
	open  []*node  // the block that the statement is in, last
	words []string // of the statement so far
}

func parseBraces(text string) (*node, error) {
	root := &node{}
	b := &braces{text: text, line: 1, open: []*node{root}}
	for b.text != "" {
		if err := b.step(); err != nil {
			return nil, &SyntaxError{b.line, err.Error()}
		}
	}
	b.end()
	if len(b.open) > 1 {
		last := b.open[len(b.open)-1]
		return nil, &SyntaxError{last.line, fmt.Sprintf("the block %q is never closed", last.path())}
	}
	return root, nil
}

// step takes one word or sign.
func (b *braces) step() error {
	switch {
	case b.text[0] == '\n':
		b.end()
		b.skip(1)
	case b.text[0] == ';':
		b.end()
		b.skip(1)
	case strings.ContainsRune(" \t\r", rune(b.text[0])):
		b.skip(1)
	case strings.HasPrefix(b.text, "/*"):
		n := strings.Index(b.text, "*/")
		if n < 0 {
			return fmt.Errorf("the comment is never closed")
		}
		b.skip(n + 2)
	case strings.HasPrefix(b.text, "//") || b.text[0] == '#':
		n := strings.IndexByte(b.text, '\n')
		if n < 0 {
			n = len(b.text)
		}
		b.skip(n)
	case b.text[0] == '{':
		b.skip(1)
		return b.block()
	case b.text[0] == '}':
		b.end()
		b.skip(1)
		if len(b.open) == 1 {
			return fmt.Errorf("a } without its {")
		}
		b.open = b.open[:len(b.open)-1]
	default:
		return b.word()
	}
	return nil
}

// skip goes on by n bytes.
func (b *braces) skip(n int) {
	b.line += strings.Count(b.text[:n], "\n")
	b.text = b.text[n:]
}

// block opens the block that the words so far name.
func (b *braces) block() error {
	if len(b.words) == 0 {
		return fmt.Errorf("a { without a name before it")
	}
	b.open = append(b.open, b.open[len(b.open)-1].put(b.line, b.words...))
	b.words = nil
	return nil
}

// end ends a statement that opened no block.
func (b *braces) end() {
	if len(b.words) > 0 {
		b.open[len(b.open)-1].put(b.line, b.words...)
		b.words = nil
	}
}

func (b *braces) word() error {
	if len(b.open)+len(b.words) > maxDepth {
		return errDeep
	}
	if c := b.text[0]; c == '"' || c == '\'' {
		part, n, ok := quoted(b.text)
		if !ok {
			return fmt.Errorf("the quote %c is never closed", c)
		}
		b.words = append(b.words, strings.ReplaceAll(part, "&quot;", `"`))
		b.skip(n)
		return nil
	}
	n := strings.IndexAny(b.text, " \t\r\n")
	if n < 0 {
		n = len(b.text)
	}
	word := b.text[:n]
	if cut := strings.TrimRight(word, ";"); cut != word && cut != "" {
		word, n = cut, len(cut) // the sign is the next step's
	}
	b.words = append(b.words, word)
	b.skip(n)
	return nil
}

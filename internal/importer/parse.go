// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"slices"
	"strings"
)

// maxDepth bounds what no configuration reaches.
const maxDepth = 64

var errDeep = fmt.Errorf("a path of more than %d words", maxDepth)

// SyntaxError is a text that cannot be read.
type SyntaxError struct {
	Line int
	Text string
}

// Error is the line and what is wrong there.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%d: %s", e.Line, e.Text) }

// parse reads set lines or curly braces, whichever comes first in the text. A
// text of which all lines are comments but for a "# set ..." has the # as its
// prompt.
func parse(text string) (*node, []Note, error) {
	text = strings.TrimPrefix(text, "\ufeff")
	prompt := false
	for line := range strings.Lines(text) {
		words, _ := split(line)
		if slices.Contains(words, "{") {
			prompt = false
			break
		}
		if len(words) > 0 && slices.Contains(verbs, words[0]) {
			return parseLines(text, "")
		}
		prompt = prompt || strings.HasPrefix(strings.TrimSpace(line), "# set ")
	}
	if prompt {
		return parseLines(text, "# ")
	}
	root, err := parseBraces(text)
	return root, nil, err
}

// verbs begin a line that changes the tree.
var verbs = []string{"set", "delete"}

// session is what a configuration session has beside them, as guides print it.
var session = []string{"configure", "commit", "commit-confirm", "confirm", "compare", "save", "exit", "show", "run", "comment", "sudo", "reboot"}

// relative commands move what follows, or change the tree in a way that only
// VyOS can follow.
var relative = []string{"edit", "up", "top", "load", "merge", "rollback", "discard", "copy", "rename", "source"}

func parseLines(text, prompt string) (*node, []Note, error) {
	root := &node{}
	var notes []Note
	number := 0
	for line := range strings.Lines(text) {
		number++
		words, err := split(strings.TrimPrefix(strings.TrimSpace(line), prompt))
		switch {
		case err != nil && len(words) > 0 && slices.Contains(verbs, words[0]):
			return nil, nil, &SyntaxError{number, err.Error()}
		case len(words) == 0 || slices.Contains(session, words[0]):
		case slices.Contains(relative, words[0]):
			return nil, nil, &SyntaxError{number, fmt.Sprintf("%q: what follows depends on it: give the output of `show configuration commands`", words[0])}
		case !slices.Contains(verbs, words[0]):
			notes = append(notes, Note{Line: number, Lost: true, Text: fmt.Sprintf("left out: a line that begins with %q is neither a set nor a delete line", words[0])})
		case len(words) > maxDepth:
			return nil, nil, &SyntaxError{number, errDeep.Error()}
		case words[0] == "set":
			root.put(number, words[1:]...)
		default:
			n := root
			for _, w := range words[1:] {
				n = n.kid(w)
			}
			if n != nil && n != root {
				n.remove()
			}
		}
	}
	return root, notes, nil
}

// split gives the words of a line as a shell does: quotes, and a comment from
// a word that begins with # or // on. A prompt in front (vyos@r1# set ...) is taken
// off, and lines of the session itself ([edit]) are empty.
func split(line string) ([]string, error) {
	line = strings.TrimSpace(line)
	if first, rest, _ := strings.Cut(line, " "); strings.Contains(first, "@") && strings.ContainsAny(first[len(first)-1:], "#$") {
		line = rest
	}
	if strings.HasPrefix(line, "[edit") {
		return nil, nil
	}
	var words []string
	for {
		line = strings.TrimLeft(line, " \t\r\n")
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "//") {
			return words, nil
		}
		word, rest, err := shellWord(line)
		if err != nil {
			return words, err
		}
		words, line = append(words, word), rest
	}
}

// shellWord takes one word off the line; quoted parts join what they touch.
func shellWord(s string) (word, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n':
			return b.String(), s[i:], nil
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		case '\'', '"':
			part, n, ok := quoted(s[i:])
			if !ok {
				return "", "", fmt.Errorf("the quote %c is never closed", c)
			}
			b.WriteString(part)
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}

// quoted reads a quoted part and gives its length, quotes included. In double
// quotes a backslash keeps the quote and itself.
func quoted(s string) (part string, n int, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return b.String(), i + 1, true
		case s[0] == '"' && s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", 0, false
}

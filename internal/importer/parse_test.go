// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/config"
)

func TestUnreadable(t *testing.T) {
	deep := strings.Repeat("a { ", 70)
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":              {"", "nothing of high-availability vrrp or service conntrack-sync is in it: give the output of `show configuration commands`, or a config.boot"},
		"nothing of ours":      {"set system host-name r1\n", "nothing of high-availability vrrp or service conntrack-sync is in it: give the output of `show configuration commands`, or a config.boot"},
		"a quote":              {"\nset high-availability vrrp group 'LAN vrid 10\n", "2: the quote ' is never closed"},
		"a quote in a block":   {"system {\n  host-name \"r1\n}\n", "2: the quote \" is never closed"},
		"a comment":            {"/* for\never\n", "1: the comment is never closed"},
		"an open block":        {"system {\n  login {\n", "2: the block \"system login\" is never closed"},
		"a block too many":     {"system {\n}\n}\n", "3: a } without its {"},
		"a block with no name": {"system {\n {\n", "2: a { without a name before it"},
		"too deep":             {deep, "1: a path of more than 64 words"},
		"too many words":       {"set" + strings.Repeat(" a", 70), "1: a path of more than 64 words"},
		"edit":                 {"set system host-name r1\nedit high-availability vrrp\n", "2: \"edit\": what follows depends on it: give the output of `show configuration commands`"},
		"too large":            {strings.Repeat("#", maxSize+1), "larger than 4 MiB: not a configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := VyOS(tt.text)
			if err == nil {
				t.Fatal("accepted")
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                                  nil,
		"  # set a b":                       nil,
		"[edit high-availability]":          nil,
		"set a b\r\n":                       {"set", "a", "b"},
		"vyos@r1# set a b":                  {"set", "a", "b"},
		"vyos@r1:~$ configure":              {"configure"},
		"set a 'b c'":                       {"set", "a", "b c"},
		`set a 'it'\''s'`:                   {"set", "a", "it's"},
		`set a "say \"no\" \ or \\"`:        {"set", "a", `say "no" \ or \`},
		`set a ""`:                          {"set", "a", ""},
		"set a b#c # d":                     {"set", "a", "b#c"},
		"set a b // c":                      {"set", "a", "b"},
		"set a b\\":                         {"set", "a", "b"}, // the end of a line in Markdown
		"set description mail@example.com#": {"set", "description", "mail@example.com#"},
	} {
		got, err := split(line)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", line, err, d)
		}
	}
}

// Where nothing but comments is, a "# set" is a line with its prompt.
func TestHashAsPrompt(t *testing.T) {
	const text = "# set high-availability vrrp group A vrid 10\n # set high-availability vrrp group A interface eth0 // the LAN\n"
	if got := toTOML(t, text); !strings.Contains(got, "[vrrp.group.A]\ninterface = \"eth0\"\nvrid = 10\n") {
		t.Errorf("got:\n%s", got)
	}
	if got := toTOML(t, text+"set high-availability vrrp group B vrid 20\n"); strings.Contains(got, "group.A") {
		t.Errorf("a comment counted:\n%s", got)
	}
}

// A find of FuzzVyOS: two names became one, and a table stood twice.
func TestNotUTF8(t *testing.T) {
	const head = "set high-availability vrrp group "
	r, err := VyOS(head + "\xc1 interface eth0\n" + head + "\xc4 vrid 10\n")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(r.TOML, "[vrrp.group."); n != 1 || r.Notes[0].Text != "the text is not all UTF-8: what is not was written as \ufffd" {
		t.Errorf("%d tables, notes %v:\n%s", n, r.Notes, r.TOML)
	}
}

// setLines writes a tree as `show configuration commands` does.
func setLines(n *node, path string, b *strings.Builder) {
	if len(n.kids) == 0 && n.parent != nil && !n.hollow {
		b.WriteString("set" + path + "\n")
	}
	for _, k := range n.kids {
		setLines(k, path+" '"+strings.ReplaceAll(k.word, "'", `'\''`)+"'", b)
	}
}

// asLines gives a text as set lines, "" for what is not one line.
func asLines(t testing.TB, text string) string {
	root, _, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	setLines(root, "", &b)
	return b.String()
}

func toTOML(t testing.TB, text string) string {
	tr, err := translate(text)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	toml, _ := print("", tr.tables)
	return toml
}

// Curly braces and set lines say the same.
func TestBothForms(t *testing.T) {
	for name, text := range corpus(t) {
		if d := cmp.Diff(toTOML(t, text), toTOML(t, asLines(t, text))); d != "" {
			t.Errorf("%s (-as it is +as set lines):\n%s", name, d)
		}
	}
}

// FuzzVyOS: no text brings the importer down, the result is TOML, nothing is
// taken out twice, and set lines of the same tree give the same.
func FuzzVyOS(f *testing.F) {
	for _, text := range corpus(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := VyOS(text)
		if err != nil {
			return
		}
		for _, fault := range config.Check(r.TOML) {
			if fault.Key == "" {
				t.Fatalf("%s\n%s", fault.Text, r.TOML)
			}
		}
		for _, n := range r.Notes {
			if n.Line < 0 || n.Line > strings.Count(text, "\n")+1 || n.Text == "" {
				t.Errorf("a note without its place: %+v", n)
			}
		}
		if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' || r == unicode.ReplacementChar }) {
			return
		}
		lines := asLines(t, text)
		for line := range strings.Lines(lines) {
			if _, err := split(line); err != nil || !strings.HasPrefix(line, "set '") {
				return // a value of several lines, which set lines cannot have
			}
		}
		if strings.Contains(text, "delete") {
			return // what was deleted is not in the tree
		}
		if d := cmp.Diff(toTOML(t, text), toTOML(t, lines)); d != "" {
			t.Errorf("(-as it is +as set lines):\n%s\n%s", d, lines)
		}
	})
}

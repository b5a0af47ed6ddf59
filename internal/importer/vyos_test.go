// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/config"
)

var update = flag.Bool("update", false, "rewrite golden files")

// corpus gives the texts of testdata by name.
func corpus(t testing.TB) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.vyos")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	out := make(map[string]string)
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(p), ".vyos")] = string(text)
	}
	return out
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

// The translation alone, whatever this version of tandem refuses of it:
// testdata/NAME.vyos, its TOML and its notes.
func TestTranslate(t *testing.T) {
	for name, text := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			tr, err := translate(text)
			if err != nil {
				t.Fatal(err)
			}
			toml, _ := print(header, tr.tables)
			golden(t, name+".toml", toml)
			var notes strings.Builder
			for _, n := range sorted(tr.notes) {
				word := "told"
				if n.Lost {
					word = "lost"
				}
				fmt.Fprintf(&notes, "%s %s\n", word, n)
			}
			golden(t, name+".notes", notes.String())
		})
	}
}

// What tandem check refuses of the translations, each with its sentence. Keys
// that this version has not yet stand here until it has.
func TestRefusedTranslations(t *testing.T) {
	var out []string
	for name, text := range corpus(t) {
		tr, err := translate(text)
		if err != nil {
			t.Fatal(err)
		}
		toml, _ := print(header, tr.tables)
		for _, f := range config.Check(toml) {
			out = append(out, fmt.Sprintf("%s: %s: %s\n", name, f.Key, f.Text))
		}
	}
	slices.Sort(out)
	golden(t, "refused.txt", strings.Join(out, ""))
}

// cannot are the texts whose results are refused even after everything was
// taken out that may be: lost for what it is, ipv6global because no link-local
// address is invented.
var cannot = []string{"lost", "ipv6global"}

// Every result passes tandem check, and no note tells a password.
func TestResultsPassCheck(t *testing.T) {
	for name, text := range corpus(t) {
		r, err := VyOS(text)
		if err != nil {
			t.Fatal(err)
		}
		faults := config.Check(r.TOML)
		switch refused := slices.Contains(cannot, name); {
		case refused && len(faults) == 0:
			t.Errorf("%s passes tandem check now: take it out of the list", name)
		case !refused && len(faults) > 0:
			t.Errorf("%s is refused: %v", name, faults)
		}
		for _, n := range r.Notes {
			if strings.Contains(n.String(), "s3cret") {
				t.Errorf("%s: a note tells a password: %s", name, n)
			}
		}
	}
}

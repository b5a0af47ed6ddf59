// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentNamesTests: docs/ctnetlink.md may claim only what is tested, so
// every test and benchmark that it names must exist.
func TestDocumentNamesTests(t *testing.T) {
	doc, err := os.ReadFile("../docs/ctnetlink.md")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, pattern := range []string{"*_test.go", "../bench/*_test.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(b)
		}
	}
	named := regexp.MustCompile(`\b(Test|Benchmark)[A-Z]\w+`).FindAllString(string(doc), -1)
	if len(named) < 50 {
		t.Errorf("%d tests named only", len(named))
	}
	for _, name := range named {
		if !strings.Contains(source.String(), "func "+name+"(") {
			t.Errorf("%s does not exist", name)
		}
	}
}

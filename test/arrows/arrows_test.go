// SPDX-License-Identifier: Apache-2.0

package arrows

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/tandem-ha/tandem"

// pkg is the part of `go list -json` that is needed.
type pkg struct {
	ImportPath string
	Imports    []string // direct ones, tests aside
	Deps       []string // all of them
	Dir        string
	GoFiles    []string // tests aside
}

// room is the path of one of our packages below the module's root, or "".
func room(importPath string) string {
	path, ours := strings.CutPrefix(importPath, module+"/")
	if !ours {
		return ""
	}
	return path
}

// ours lists every package of this module, with all that it depends on.
func ours(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,Deps,Dir,GoFiles", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	packages := make(map[string]pkg)
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if name := room(p.ImportPath); name != "" {
			packages[name] = p
		}
	}
	if len(packages) == 0 {
		t.Fatal("go list named no package of this module")
	}
	return packages
}

func TestRoomsKnowOnlyWhomTheyMay(t *testing.T) {
	for name, p := range ours(t) {
		may, drawn := mayKnow[name]
		if !drawn {
			t.Errorf("%s is in no map: draw it into rooms_test.go and say whom it may know", name)
		}
		for _, i := range p.Imports {
			if other := room(i); other != "" && !slices.Contains(may, other) {
				t.Errorf("%s imports %s: it may know %q", name, other, may)
			}
		}
	}
}

func TestForeignModulesStayInTheirRoom(t *testing.T) {
	for name, p := range ours(t) {
		for mod, rooms := range onlyIn {
			imports := slices.ContainsFunc(p.Imports, func(i string) bool { return i == mod || strings.HasPrefix(i, mod+"/") })
			if imports && !slices.Contains(rooms, name) {
				t.Errorf("%s imports %s: only %q may", name, mod, rooms)
			}
		}
	}
}

func TestMachinesHaveNoWorld(t *testing.T) {
	packages := ours(t)
	for name, runners := range pure {
		for _, base := range packages[name].GoFiles {
			if slices.Contains(runners, base) {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(packages[name].Dir, base), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range file.Imports {
				if path, _ := strconv.Unquote(i.Path.Value); slices.Contains(worldly, path) {
					t.Errorf("%s/%s imports %s: a codec or machine takes time and chance as arguments and does no I/O", name, base, path)
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if what := ofTheWorld(n); what != "" {
					t.Errorf("%s/%s:%d: %s in a codec or machine", name, base, fset.Position(n.Pos()).Line, what)
				}
				return true
			})
		}
	}
}

// ofTheWorld names what a node of the syntax takes from the world: a goroutine,
// a clock, a system call (the constants of package unix are nobody's world).
func ofTheWorld(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "a goroutine"
	case *ast.CallExpr:
		f, ok := n.Fun.(*ast.SelectorExpr)
		if !ok {
			break
		}
		if x, ok := f.X.(*ast.Ident); ok && x.Name == "unix" {
			return "a call of unix." + f.Sel.Name
		}
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
			return "time." + n.Sel.Name
		}
	}
	return ""
}

// Adverts run in a process of their own, and the privileged binary carries no
// generator: both are said of what is linked, through however many hands.
func TestWhatIsLinked(t *testing.T) {
	packages := ours(t)
	for _, c := range []struct {
		name   string
		never  []string
		reason string
	}{
		{"cmd/tandem", labOnly, "only cmd/tandem-lab links generators and namespace builders"},
		{"internal/adverts", []string{"loader", "syncproto", "internal/link", "internal/node", "internal/metrics", "internal/control", "internal/takeover"}, "the adverts process is elections and addresses, nothing more"},
		{"internal/netlab", []string{"internal/node"}, "the lab starts tandem as processes"},
	} {
		for _, dep := range packages[c.name].Deps {
			if slices.Contains(c.never, room(dep)) {
				t.Errorf("%s links %s: %s", c.name, room(dep), c.reason)
			}
		}
	}
}

// A table that names rooms which do not exist holds nothing.
func TestTablesNameRealRooms(t *testing.T) {
	packages := ours(t)
	for name := range mayKnow {
		if _, there := packages[name]; !there {
			t.Errorf("rooms_test.go draws %s, and there is no such package", name)
		}
	}
	for name, runners := range pure {
		for _, base := range runners {
			if !slices.Contains(packages[name].GoFiles, base) {
				t.Errorf("rooms_test.go names the runner %s/%s, and there is no such file", name, base)
			}
		}
	}
}

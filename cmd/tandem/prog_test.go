// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/loader"
)

// TestInspect attaches a program in a namespace of its own and looks for it
// from outside, as an operator would. Others may have theirs loaded: only this
// one's is looked at.
func TestInspect(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread's namespace ends with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	makeLink("inspect0")
	a, err := loader.OpenAdverts(loader.AdvertOptions{Interfaces: []string{"inspect0"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()

	var links []loader.Link
	var programs []loader.Program
	var maps []loader.Map
	inspectInto(t, &links, "link", "show", "-j")
	i := slices.IndexFunc(links, func(l loader.Link) bool { return l.Interface == "inspect0" })
	if i < 0 {
		t.Fatalf("link show has not inspect0: %+v", links)
	}
	if links[i].Name != "tandem_advert" || links[i].Hook != "tc-ingress" {
		t.Errorf("link show: %+v", links[i])
	}
	inspectInto(t, &programs, "-j", "prog", "show")
	p := slices.IndexFunc(programs, func(p loader.Program) bool { return p.ID == links[i].Program })
	if p < 0 || !slices.Contains(programs[p].Interface, "inspect0") || programs[p].Hook != "tc-ingress" {
		t.Fatalf("prog show: %+v", programs)
	}
	inspectInto(t, &maps, "map", "show", "-j")
	if !slices.ContainsFunc(maps, func(m loader.Map) bool { return m.Type == "RingBuf" && m.Program == "tandem_advert" }) {
		t.Errorf("map show has no ring: %+v", maps)
	}
	for _, m := range maps {
		if m.Program == "tandem_advert" && m.Type != "RingBuf" {
			var entries []loader.MapEntry
			inspectInto(t, &entries, "map", "dump", "-j", m.Name)
		}
	}
	for command, want := range map[string]string{
		"link show": "tc-ingress", "prog show": "inspect0", "map show": "RingBuf",
	} {
		if got := output(t, strings.Fields(command)...); !strings.Contains(got, want) {
			t.Errorf("tandem %s: got %q, want %q in it", command, got, want)
		}
	}
}

func inspectInto(t *testing.T, into any, args ...string) {
	t.Helper()
	if text := output(t, args...); json.Unmarshal([]byte(text), into) != nil {
		t.Fatalf("tandem %s: no JSON: %s", strings.Join(args, " "), text)
	}
}

func output(t *testing.T, args ...string) string {
	t.Helper()
	app := newApp()
	var out bytes.Buffer
	app.Writer = &out
	if err := app.RunContext(t.Context(), optionsFirst(app, append([]string{"tandem"}, args...))); err != nil {
		t.Fatalf("tandem %s: %v", strings.Join(args, " "), err)
	}
	return out.String()
}

func TestFeatures(t *testing.T) {
	var all []loader.Feature
	inspectInto(t, &all, "feature", "-j")
	if len(all) == 0 {
		t.Fatal("no features")
	}
	text := output(t, "feature")
	for _, f := range all {
		if !strings.Contains(text, f.Name) || f.Needs == "" || f.Detail == "" {
			t.Errorf("feature %+v is not shown in full", f)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/control"
)

func udp(port uint16, source, peer string) control.Flow {
	return control.Flow{Family: "ipv4", Protocol: "udp", Original: control.Tuple{Src: "10.0.0.1", Dst: "192.0.2.1", SrcPort: port, DstPort: 53},
		Reply: control.Tuple{Src: "192.0.2.1", Dst: "10.0.0.1", SrcPort: 53, DstPort: port}, Status: "replied", Source: source, Peer: peer}
}

func byName(flows ...control.Flow) map[listed]control.Flow {
	m := map[listed]control.Flow{}
	for _, f := range flows {
		m[nameOf(&f)] = f
	}
	return m
}

// TestAgainst: only what is the same before and after the list counts.
func TestAgainst(t *testing.T) {
	own := func(p uint16) control.Flow { return udp(p, control.SourceOwn, "") }
	marked := func(f control.Flow) control.Flow { f.Mark = 9; return f }
	// 1 equal, 2 missing there, 3 missing here, 4 differs; 5 came, 6 went, 7
	// changed meanwhile.
	before := byName(own(1), own(2), own(4), own(6), own(7))
	after := byName(own(1), own(2), own(4), own(5), marked(own(7)))
	theirs := byName(own(1), own(3), marked(own(4)), own(6), own(7))
	var got []string
	for _, d := range against(before, after, theirs, "own", "view") {
		got = append(got, fmt.Sprint(d.Flow.Original.SrcPort, " ", strings.Join(d.What, "; ")))
	}
	want := []string{"2 missing there (view), here in own", "3 missing here (own), there in view", "4 mark 0 here, 9 there"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadList(t *testing.T) {
	list := func(flows ...control.Flow) string {
		b, err := json.Marshal(flows)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, c := range map[string]struct {
		text, source string
		n            int
		err          string
	}{
		"empty":             {text: "[]", source: "view"},
		"views of two":      {text: list(udp(1, "view", "r1"), udp(2, "view", "r3"), udp(3, "view", "r1")), source: "view", n: 2},
		"own":               {text: list(udp(1, "own", "")), source: "own", n: 1},
		"mixed":             {text: list(udp(1, "own", ""), udp(2, "kernel", "")), err: `flows of source "kernel"`},
		"no source":         {text: `[{"protocol":"udp"}]`, err: `flows of source ""`},
		"text":              {text: "udp 10.0.0.1:1 > 192.0.2.1:53", err: "not a list of flows"},
		"nothing":           {text: "", err: "not a list of flows"},
		"cut in the middle": {text: list(udp(1, "own", ""))[:40], err: "read"},
		"cut at the end":    {text: strings.TrimSuffix(list(udp(1, "own", "")), "]"), err: "has no end"},
	} {
		flows, source, err := readList(strings.NewReader(c.text), "-", "r1")
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
			continue
		}
		if err != nil || source != c.source || len(flows) != c.n {
			t.Errorf("%s: %d flows of %q, %v", name, len(flows), source, err)
		}
	}
}

// TestDiffExit: exit 0 when nothing differs, 1 when something does, with the
// same words either way.
func TestDiffExit(t *testing.T) {
	c := loadCanned(t, "testdata/show/active.json")
	socket := startDaemon(t, c)
	run := func(args ...string) (string, error) {
		app := newApp()
		var out bytes.Buffer
		app.Writer = &out
		err := app.RunContext(t.Context(), append([]string{"tandem", "flow", "diff", "--socket", socket}, args...))
		return out.String(), err
	}
	if out, err := run(); !errors.Is(err, errQuiet) || !strings.Contains(out, "own flows: missing, the kernel table has it") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run("-j"); !errors.Is(err, errQuiet) || json.Unmarshal([]byte(out), new(control.FlowDiff)) != nil {
		t.Errorf("%v: %s", err, out)
	}
	c.Diff = control.FlowDiff{Kernel: 5, Copies: 5}
	if out, err := run(); err != nil || !strings.Contains(out, "nothing differs") {
		t.Errorf("%v: %s", err, out)
	}
}

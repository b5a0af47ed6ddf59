// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testReport() *Report {
	r := &Report{Bench: "sync", About: "what <it> costs", Figures: []Figure{
		{Name: "us", Unit: "us", About: "all"},
		{Name: "us_beyond", Unit: "us", Aim: 12, About: "less forwarding"},
		{Name: "rate", Unit: "/s", Aim: 100, More: true, About: "how many"},
	}}
	for round, v := range [][3]float64{{40, 50, 240}, {44, 56, 284}} {
		for i, system := range []string{"nobody", "tandem", "conntrackd-direct"} {
			r.Runs = append(r.Runs, Sample{Round: round + 1, System: system, Values: Values{"us": v[i]}})
		}
	}
	r.Runs[1].Values["rate"] = 90
	r.conclude()
	return r
}

// Ratios are taken within a round, "beyond" too.
func TestSummary(t *testing.T) {
	want := []Summary{
		{"us", "nobody", Spread{42, 44, 40, 44, 2}, &Spread{(40./50 + 44./56) / 2, 40. / 50, 44. / 56, 40. / 50, 2}},
		{"us", "tandem", Spread{53, 56, 50, 56, 2}, nil},
		{"us", "conntrackd-direct", Spread{262, 284, 240, 284, 2}, &Spread{(240./50 + 284./56) / 2, 284. / 56, 240. / 50, 284. / 56, 2}},
		{"us_beyond", "tandem", Spread{11, 12, 10, 12, 2}, nil},
		{"us_beyond", "conntrackd-direct", Spread{220, 240, 200, 240, 2}, &Spread{20, 20, 20, 20, 2}},
		{"rate", "tandem", Spread{90, 90, 90, 90, 1}, nil},
	}
	close := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })
	if d := cmp.Diff(want, testReport().Summary, close); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// Of a hundred values one may be above the p99, of fewer none.
func TestP99(t *testing.T) {
	for n, want := range map[int]float64{1: 1, 2: 2, 99: 99, 100: 99, 101: 100, 200: 198} {
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(n - i)
		}
		if got := spreadOf(v).P99; got != want {
			t.Errorf("of %d: %g, want %g", n, got, want)
		}
	}
}

var spaces = regexp.MustCompile(` +`)

func TestText(t *testing.T) {
	var b bytes.Buffer
	testReport().Text(&b)
	for _, line := range []string{
		"us_beyond tandem 11.0 12.0 10.0 12.0 us 12.0 reached",
		"us_beyond conntrackd-direct 220 240 200 240 us 20.0 (20.0 to 20.0)",
		"rate tandem 90.0 90.0 90.0 90.0 /s 100 missed",
	} {
		if !strings.Contains(spaces.ReplaceAllString(b.String(), " "), line) {
			t.Errorf("no line %q in\n%s", line, b.String())
		}
	}
}

// Reports of one folder have names of their own.
func TestFile(t *testing.T) {
	for want, r := range map[string]Report{
		"failover":               {Bench: failoverName, Fault: defaultFault, Advert: "100ms"},
		"failover-10ms":          {Bench: failoverName, Fault: defaultFault, Advert: "10ms"},
		"failover-link-1s":       {Bench: failoverName, Fault: "link", Advert: "1s"},
		"failover-freeze-1s":     {Bench: failoverName, Fault: freezeFault, Freeze: "500ms", Advert: "1s"},
		"failover-freeze1s":      {Bench: failoverName, Fault: freezeFault, Freeze: "1s", Advert: "100ms"},
		"failover-freeze5s-10ms": {Bench: failoverName, Fault: freezeFault, Freeze: "5s", Advert: "10ms"},
		"busy-10ms":              {Bench: "busy", Advert: "10ms"},
	} {
		if got := r.file(); got != want {
			t.Errorf("%+v is saved as %s, want %s", r, got, want)
		}
	}
}

// What is saved can be read again, and the picture is XML.
func TestSave(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	r := testReport()
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "sync.json"))
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, &again); d != "" {
		t.Errorf("(-saved +read)\n%s", d)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "sync.svg"))
	if err != nil {
		t.Fatal(err)
	}
	bars := 0
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 1+6 {
		t.Errorf("the picture has %d rectangles, want the background and 6 bars", bars)
	}
}

// A run that had trouble does not count, and is not hidden.
func TestTrouble(t *testing.T) {
	r := testReport()
	r.Runs[2].Trouble = "the peer fell asleep"
	r.conclude()
	for _, s := range r.Summary {
		if s.System == "conntrackd-direct" && (s.Value.N != 1 || s.Ratio.N != 1) {
			t.Errorf("%+v", s)
		}
	}
	var b bytes.Buffer
	r.Text(&b)
	if !strings.Contains(b.String(), "round 1, conntrackd-direct: the peer fell asleep") {
		t.Errorf("hidden in\n%s", b.String())
	}
	if r.trouble("tandem") != nil || r.trouble("conntrackd-direct") == nil {
		t.Error("the trouble is somebody else's")
	}
}

func TestParseStat(t *testing.T) {
	p, ok := parseStat("42 (a (b) c) S 7 42 42 0 -1 2097408 1 2 3 4 150 50 30 20 20 0 1 0 99 0 0")
	want := process{parent: 7, kernel: true, own: 2 * time.Second, reaped: 500 * time.Millisecond}
	if !ok || p != want {
		t.Errorf("%+v, %t, want %+v", p, ok, want)
	}
	for _, bad := range []string{"", "42 no name", "42 (x) S 1 2", "42 (x) S x 42 42 0 -1 0 1 2 3 4 150 50 30 20 20"} {
		if _, ok := parseStat(bad); ok {
			t.Errorf("took %q", bad)
		}
	}
}

func TestDescends(t *testing.T) {
	procs := map[int]process{2: {parent: 1}, 3: {parent: 2}, 4: {parent: 1}}
	for pid, want := range map[int]bool{2: true, 3: true, 4: false, 9: false} {
		if descends(procs, pid, 2) != want {
			t.Errorf("%d descends from 2: %t", pid, !want)
		}
	}
}

func TestLags(t *testing.T) {
	made := []int64{100, 200, 300, 400}
	least, most, err := lagsOf(made, []seen{{80, 90, 5}, {240, 250, 6}, {340, 350, 6}, {440, 450, 9}}, 5)
	if err != nil || !cmp.Equal(most, []time.Duration{50, 150, 150, 250}) || !cmp.Equal(least, []time.Duration{0, 0, 40, 140}) {
		t.Errorf("%v, %v, %v", least, most, err)
	}
	if _, _, err := lagsOf(made, []seen{{490, 500, 8}}, 5); err == nil {
		t.Error("a flow that never came was not missed")
	}
}

func TestCacheSize(t *testing.T) {
	const text = "cache internal:\ncurrent active connections:\t 7\n\ncache external:\ncurrent active connections:\t          42\nconnections created:\t 43\n"
	if n, err := cacheSize(text, "cache external:"); n != 42 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := cacheSize("cache internal:\n", "cache external:"); err == nil {
		t.Error("found a cache that is not there")
	}
}

// What happened at rest is not charged to the flows.
func TestUsage(t *testing.T) {
	at := time.Now()
	a := reading{at: at, idle: 0, link: 100}
	b := reading{at: at.Add(2 * time.Second), idle: time.Second, foreign: time.Second / 2, daemons: time.Second, link: 1100}
	u := a.until(b)
	rest := usage{wall: time.Second, daemons: time.Second / 10, link: 50}
	got := u.less(rest)
	if got.daemons != 800*time.Millisecond || got.link != 900 || got.busy != u.busy || got.foreign != time.Second/2 {
		t.Errorf("%+v", got)
	}
}

func TestRefusals(t *testing.T) {
	for _, o := range []Options{{Runs: -1}, {Flows: 10}, {Flows: 5_000_000}, {Rate: 5}, {Life: -1}, {Strikes: 2}} {
		if _, err := Run(t.Context(), "sync", o); err == nil {
			t.Errorf("took %+v", o)
		}
	}
	if _, err := Run(t.Context(), "nothing", Options{}); err == nil {
		t.Error("ran a bench that does not exist")
	}
}

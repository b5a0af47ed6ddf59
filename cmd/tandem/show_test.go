// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
)

// canned answers from testdata/show/NAME.json.
type canned struct {
	Picture control.Status     `json:"status"`
	List    []control.Flow     `json:"flows"`
	Count   control.FlowCount  `json:"count"`
	Diff    control.FlowDiff   `json:"diff"`
	Past    []event.Event      `json:"events"`
	Changed []control.Timeline `json:"takeovers"`
	stream  *event.Stream

	control.Changes `json:"-"`
}

func (c *canned) Status() control.Status                { return c.Picture }
func (c *canned) VRRP() []control.VRRPGroup             { return c.Picture.Groups }
func (c *canned) Sync() *control.SyncStatus             { return c.Picture.Sync }
func (c *canned) FlowCount() (control.FlowCount, error) { return c.Count, nil }
func (c *canned) Events() *event.Stream                 { return c.stream }
func (c *canned) Flows(_ control.FlowQuery, yield func(*control.Flow) bool) error {
	for i := range c.List {
		if !yield(&c.List[i]) {
			return nil
		}
	}
	return nil
}

func (c *canned) Resync(peer string) ([]string, error) {
	if peer == "" {
		peer = "r2"
	}
	return []string{peer}, nil
}
func (c *canned) Takeovers(n int) []control.Timeline                 { return c.Changed[max(0, len(c.Changed)-n):] }
func (c *canned) FlowDiff(context.Context) (control.FlowDiff, error) { return c.Diff, nil }

func loadCanned(t *testing.T, path string) *canned {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &canned{stream: event.New(16)}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for _, e := range c.Past {
		c.stream.Publish(e)
	}
	return c
}

// ask runs one command line against a daemon that shows c.
func ask(t *testing.T, socket string, args ...string) string {
	t.Helper()
	app := newApp()
	var out bytes.Buffer
	app.Writer = &out
	if err := app.RunContext(t.Context(), append(append([]string{"tandem"}, args...), "--socket", socket)); err != nil {
		t.Errorf("tandem %s: %v", strings.Join(args, " "), err)
	}
	return out.String()
}

// TestShow renders pictures of a daemon as a person sees them. What counts
// from the present moment (vrrp show, sync show) is rendered at the picture's.
func TestShow(t *testing.T) {
	time.Local = time.UTC
	files, err := filepath.Glob("testdata/show/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no pictures: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c := loadCanned(t, file)
			var b strings.Builder
			section(&b, "status")
			writeStatus(&b, &c.Picture)
			section(&b, "vrrp show")
			writeGroups(&b, c.Picture.Groups, c.Picture.Now)
			for i := range c.Picture.Groups {
				writeGroup(&b, &c.Picture.Groups[i], c.Picture.Now)
			}
			section(&b, "vrrp detail")
			for i := range c.Picture.Groups {
				writeDetail(&b, &c.Picture.Groups[i], c.Picture.Now)
			}
			section(&b, "vrrp statistics")
			writeVRRPStatistics(&b, c.Picture.Groups, c.Picture.Strays)
			if len(c.Changed) > 0 {
				section(&b, "takeover show 2")
				writeTakeovers(&b, c.Changed, c.Picture.Now)
			}
			if c.Picture.Sync != nil {
				section(&b, "sync show")
				writePeers(&b, c.Picture.Sync, c.Picture.Now, nil)
				writeSyncCounters(&b, c.Picture.Sync)
				section(&b, "sync statistics")
				writeStatistics(&b, c.Picture.Sync)
			}
			if c.Diff.Kernel > 0 {
				section(&b, "flow diff")
				writeDiff(&b, &c.Diff)
			}
			socket := startDaemon(t, c)
			for _, command := range []string{"flow list", "flow count", "event watch --history"} {
				section(&b, command)
				b.WriteString(ask(t, socket, strings.Fields(command)...))
			}
			golden(t, strings.TrimSuffix(file, ".json")+".txt", b.String())
		})
	}
}

func section(w io.Writer, command string) { fmt.Fprintf(w, "\n$ tandem %s\n", command) }

func golden(t *testing.T, path, got string) {
	t.Helper()
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
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", path, d)
	}
}

func startDaemon(t *testing.T, c *canned) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	s := control.NewServer(socket, c, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return socket
}

// TestJSON: -j, before or after the command, prints what the socket says and
// nothing else.
func TestJSON(t *testing.T) {
	c := loadCanned(t, "testdata/show/active.json")
	socket := startDaemon(t, c)
	for _, tt := range []struct {
		args []string
		want any
		into any
	}{
		{[]string{"-j", "status"}, &c.Picture, new(control.Status)},
		{[]string{"status", "-j"}, &c.Picture, new(control.Status)},
		{[]string{"vrrp", "show", "-j"}, &c.Picture.Groups, new([]control.VRRPGroup)},
		{[]string{"vrrp", "detail", "-j"}, &c.Picture.Groups, new([]control.VRRPGroup)},
		{[]string{"vrrp", "statistics", "-j"}, &groupCounters{Groups: map[string]control.VRRPCounters{"LAN": c.Picture.Groups[0].Counters,
			"WAN": c.Picture.Groups[1].Counters, "OLD": c.Picture.Groups[2].Counters}, Interfaces: c.Picture.Strays}, new(groupCounters)},
		{[]string{"-j", "sync", "show"}, &c.Picture.Sync, new(*control.SyncStatus)},
		{[]string{"flow", "list", "-j"}, &c.List, new([]control.Flow)},
		{[]string{"flow", "count", "-j"}, &c.Count, new(control.FlowCount)},
		{[]string{"flow", "list", "--source", "own", "-j"}, &c.List, new([]control.Flow)},
		{[]string{"sync", "peers", "-j"}, &c.Picture.Sync.Peers, new([]control.SyncPeer)},
		{[]string{"sync", "statistics", "-j"}, &map[string]control.SyncCounters{"r2": c.Picture.Sync.Peers[0].Counters}, new(map[string]control.SyncCounters)},
		{[]string{"sync", "resync", "-j"}, &[]string{"r2"}, new([]string)},
	} {
		out := ask(t, socket, tt.args...)
		if err := json.Unmarshal([]byte(out), tt.into); err != nil {
			t.Errorf("tandem %s: %v in %q", strings.Join(tt.args, " "), err, out)
			continue
		}
		if d := cmp.Diff(tt.want, tt.into); d != "" {
			t.Errorf("tandem %s (-want +got):\n%s", strings.Join(tt.args, " "), d)
		}
	}
	c.List = nil
	if got := ask(t, socket, "flow", "list", "-j"); got != "[]\n" {
		t.Errorf("no flows: got %q, want an empty list", got)
	}
}

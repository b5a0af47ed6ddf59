// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// miniature is a bench of seconds: its figures mean nothing, but that it runs.
func miniature(t *testing.T) Options {
	return Options{Tandem: drill.BinaryForTest(t), Out: t.Output(), Runs: 1, Flows: 600, Rate: 2000, Life: 200 * time.Millisecond,
		rest: 300 * time.Millisecond, tail: 3 * time.Second, settle: 500 * time.Millisecond}
}

// Every bench runs, beside the pair of today, gives each of its figures, and
// leaves the machine as it was.
func TestBenches(t *testing.T) {
	before, err := os.ReadFile(maxFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range benches {
		t.Run(b.name, func(t *testing.T) {
			opts := miniature(t)
			opts.Compare = true
			r, err := Run(t.Context(), b.name, opts)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range b.figures {
				found := false
				for _, s := range r.Summary {
					found = found || s.Figure == f.Name && s.System == "tandem"
				}
				if !found {
					t.Errorf("%s has no figure %s", b.name, f.Name)
				}
			}
			want := 3
			if b.bare {
				want = 4
			}
			if len(r.Runs) != want {
				t.Errorf("%d runs, want %d", len(r.Runs), want)
			}
		})
	}
	nothingLeft(t)
	if after, err := os.ReadFile(maxFile); err != nil || string(after) != string(before) {
		t.Errorf("nf_conntrack_max is %s, was %s (%v)", after, before, err)
	}
}

// What the connections cost is seen, and each of them reached the peer: else
// the figures above would be of nothing.
func TestSyncSees(t *testing.T) {
	opts := miniature(t)
	opts.Flows = 3000
	r, err := Run(t.Context(), "sync", opts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.System != "tandem" {
			continue
		}
		v := run.Values
		if v["tcp_bytes"] < 10 || v["tcp_bytes"] > 500 || v["udp_bytes"] < 10 || v["tcp_left"] != 0 || v["udp_left"] != 0 || v["flows_s"] < 4000 {
			t.Errorf("implausible: %v", v)
		}
	}
}

// An interrupt in the middle of a load takes everything down at once.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	opts := miniature(t)
	opts.Flows, opts.Rate = 100_000, 1000
	opts.Out = writer(func(line string) {
		if strings.Contains(line, "born") {
			cancel()
		}
	})
	opts.Live = true
	began := time.Now()
	if _, err := Run(ctx, "memory", opts); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	nothingLeft(t)
}

type writer func(string)

func (w writer) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}

func nothingLeft(t *testing.T) {
	t.Helper()
	for _, name := range netlab.Names() {
		if strings.HasPrefix(name, fmt.Sprintf("tl%dx", os.Getpid())) {
			t.Errorf("left behind: %s", name)
		}
	}
}

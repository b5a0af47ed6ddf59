// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the tests that run tandem as its users do: the built
// binary, as processes, on both routers of a lab. Nothing is mocked, nothing
// is skipped: without root they fail.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
	"github.com/tandem-ha/tandem/maps"
)

// tandem is the binary under test.
var tandem string

// TestMain builds tandem once. What drill.BinaryForTest gives is the same one.
func TestMain(m *testing.M) {
	os.Exit(mainTest(m))
}

func mainTest(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: these tests make network namespaces and load BPF programs: run them as root")
		return 1
	}
	if tandem = os.Getenv("TANDEM_BINARY"); tandem == "" {
		dir, err := os.MkdirTemp("", "tandem-e2e-")
		if err != nil {
			fmt.Fprintf(os.Stderr, "e2e: make directory for the binary: %v\n", err)
			return 1
		}
		defer os.RemoveAll(dir)
		tandem = filepath.Join(dir, "tandem")
		if err := buildTandem(tandem); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
			return 1
		}
		os.Setenv("TANDEM_BINARY", tandem)
	}
	return m.Run()
}

func buildTandem(path string, flags ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/tandem-ha/tandem/cmd/tandem")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build tandem: %w: %s", err, out)
	}
	return nil
}

// answerLimit is how long one answer may take where time is not what is tried.
const answerLimit = 20 * time.Second

// ask asks a router's daemon, which must answer.
func ask(t *testing.T, p *drill.Pair, r *netlab.Router) control.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	s, err := p.Client(r).Status(ctx)
	if err != nil {
		t.Fatalf("ask %s: %v", r.Name, err)
	}
	if s.Sync == nil || len(s.Sync.Peers) != 1 || len(s.Sync.Links) == 0 || s.Capture == nil {
		t.Fatalf("%s answers without a link, a peer or capture: %+v", r.Name, s)
	}
	return s
}

// flows lists one source of flows of a router's daemon, by original tuple and
// protocol, with how often each came.
func flows(t *testing.T, p *drill.Pair, r *netlab.Router, q control.FlowQuery) map[flowKey]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	out := map[flowKey]int{}
	err := p.Client(r).Flows(ctx, q, func(f *control.Flow) error {
		out[flowKey{f.Protocol, f.Original}]++
		return nil
	})
	if err != nil {
		t.Fatalf("list flows of %s: %v", r.Name, err)
	}
	return out
}

type flowKey struct {
	protocol string
	control.Tuple
}

// eventually asks until it is so, each 10 ms, the last time once the limit is
// over; it returns how long that took.
func eventually(t *testing.T, limit time.Duration, what string, so func() bool) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		over := time.Since(began) > limit
		if so() {
			return time.Since(began)
		}
		if over {
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

// played plays a scene until it was the one that is to be tried, for which no
// process may stand still at the wrong moment: five times at most. What the scene
// finds wrong counts each time.
func played(t *testing.T, scene func(t *testing.T) (asMeant bool)) {
	t.Helper()
	for try := range 5 {
		asMeant := false
		t.Run(fmt.Sprintf("try %d", try+1), func(t *testing.T) { asMeant = scene(t) })
		if asMeant || t.Failed() {
			return
		}
	}
	t.Fatal("never the scene that is to be tried: this proves nothing")
}

// packets reads the counters of a router's capture program from the kernel,
// past the daemon that holds them.
func packets(t *testing.T, p *drill.Pair, r *netlab.Router) bpf.FlowCounters {
	t.Helper()
	for id := range heldBy(t, p.Process(r).Process.Pid)["map_id"] {
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if errors.Is(err, os.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			t.Fatalf("open map %d: %v", id, err)
		}
		defer m.Close()
		if info, err := m.Info(); err != nil || info.Name != "tandem_packets" {
			continue
		}
		c, err := maps.Counters[bpf.FlowCounters](m)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Fatalf("the daemon of %s holds no map tandem_packets", r.Name)
	return bpf.FlowCounters{}
}

// heldBy lists the BPF objects that a process has open, by kind as fdinfo has
// it: prog_id, map_id, link_id.
func heldBy(t *testing.T, pid int) map[string]map[uint32]bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("list files of process %d: %v", pid, err)
	}
	out := map[string]map[uint32]bool{"prog_id": {}, "map_id": {}, "link_id": {}}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(text)) {
			kind, value, _ := strings.Cut(line, ":")
			id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32)
			if ids, ok := out[kind]; ok && err == nil {
				ids[uint32(id)] = true
			}
		}
	}
	return out
}

// run runs the binary in a router's namespace, as its administrator does.
func run(t *testing.T, r *netlab.Router, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), answerLimit)
	defer cancel()
	out, err := r.NS.Output(ctx, tandem, args...)
	if err != nil {
		t.Fatalf("tandem %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// socket is where a router's daemon is asked.
func socket(p *drill.Pair, r *netlab.Router) string { return filepath.Join(p.Dir, r.Name+".sock") }

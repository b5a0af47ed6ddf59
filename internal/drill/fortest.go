// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// binary is tandem as built for the tests of this process.
var binary struct {
	sync.Mutex
	users int
	dir   string
}

// BinaryForTest builds tandem once for all tests of a process that use it at a
// time, or takes what TANDEM_BINARY names.
func BinaryForTest(t netlab.TB) string {
	t.Helper()
	if path := os.Getenv("TANDEM_BINARY"); path != "" {
		return path
	}
	binary.Lock()
	defer binary.Unlock()
	if binary.users == 0 {
		dir, err := os.MkdirTemp("", "tandem-test-")
		if err == nil {
			err = build(filepath.Join(dir, "tandem"))
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
		binary.dir = dir
	}
	binary.users++
	t.Cleanup(func() {
		binary.Lock()
		defer binary.Unlock()
		if binary.users--; binary.users == 0 {
			_ = os.RemoveAll(binary.dir)
		}
	})
	return filepath.Join(binary.dir, "tandem")
}

func build(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, "github.com/tandem-ha/tandem/cmd/tandem")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build tandem: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// ForTest builds a lab with a daemon on each router and waits until r1 is
// Active, r2 Backup, and both views are complete. All of it ends with the test;
// when the test failed, the daemons' last words are logged.
func ForTest(t netlab.TB, lab netlab.Options, opts PairOptions) *Pair {
	t.Helper()
	p := PrepareForTest(t, lab, opts)
	for _, r := range p.Lab.Routers() {
		if err := p.Start(r); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if err := p.AwaitReady(context.Background(), p.Lab.R1, 30*time.Second); err != nil {
		t.Fatalf("%v", err)
	}
	return p
}

// PrepareForTest is ForTest without a daemon running.
func PrepareForTest(t netlab.TB, lab netlab.Options, opts PairOptions) *Pair {
	t.Helper()
	if opts.Tandem == "" {
		opts.Tandem = BinaryForTest(t)
	}
	l := netlab.ForTest(t, lab)
	p, err := NewPair(l, opts)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, r := range l.Routers() {
				if proc := p.Process(r); proc != nil {
					t.Logf("tandem on %s:\n%s", r.Name, lastLines(proc.Tail(), 40))
				}
			}
		}
		if err := p.Close(); err != nil {
			t.Logf("%v", err)
		}
	})
	return p
}

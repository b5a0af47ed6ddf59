// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the tests that run tandem as its users do: the built
// binary, as processes, on both routers of a lab. Nothing is mocked, nothing
// is skipped: without root they fail.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
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

func buildTandem(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", path, "github.com/tandem-ha/tandem/cmd/tandem")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build tandem: %w: %s", err, out)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// tandem is the binary under test.
var tandem string

func TestMain(m *testing.M) { os.Exit(mainTest(m)) }

func mainTest(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "interop: these tests make network namespaces: run them as root")
		return 1
	}
	_ = flag.Set("test.parallel", "8") // they wait for timers, not for processors
	if tandem = os.Getenv("TANDEM_BINARY"); tandem != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "tandem-interop-")
	if err != nil {
		fmt.Fprintf(os.Stderr, "interop: make directory for the binary: %v\n", err)
		return 1
	}
	defer os.RemoveAll(dir)
	tandem = filepath.Join(dir, "tandem")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", tandem, "github.com/tandem-ha/tandem/cmd/tandem")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "interop: build tandem: %v: %s", err, out)
		return 1
	}
	return m.Run()
}

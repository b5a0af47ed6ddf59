// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// TestClocksApart: two nodes have no clock in common. The Backup's daemon runs
// in a time namespace whose clocks are hours ahead; and that is all that can be
// set apart on one machine: the wall clock has no namespace, and decides
// nothing (TestNoWallClockDecides in test/arrows).
func TestClocksApart(t *testing.T) {
	const flows = 2000
	s := play(t, netlab.Options{}, drill.PairOptions{Tandem: ahead(t, "r2", 5*time.Hour)}, fast, flows)
	r1, r2 := s.Lab.R1, s.Lab.R2
	if at := monotonicOf(t, s.Process(r2).Process.Pid); at != 5*time.Hour {
		t.Fatalf("r2's clock is ahead by %v", at)
	}
	s.same(r1, flows, 30*time.Second)
	if a, b := s.status(r1).Sets[0].Role, s.status(r2).Sets[0].Role; a != control.RoleActive || b != control.RoleBackup {
		t.Fatalf("r1 is %s, r2 is %s", a, b)
	}
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r2, control.RoleActive, 10*time.Second)
	t.Logf("r2 is Active after %v", netlab.Since(at))
	s.judge("power cut")
	eventually(t, 10*time.Second, "r2's fence down", func() bool { return !s.status(r2).Fence.Up })
}

// ahead makes a program that is tandem, but for one router in a time namespace.
func ahead(t *testing.T, router string, by time.Duration) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tandem")
	seconds := int(by.Seconds())
	text := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in\n*/%s.toml) exec unshare --time --monotonic %d --boottime %d -- %s \"$@\" ;;\nesac\nexec %s \"$@\"\n",
		router, seconds, seconds, tandem, tandem)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// monotonicOf is how far a process's CLOCK_MONOTONIC is ahead.
func monotonicOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/timens_offsets", pid))
	if err != nil {
		t.Fatal(err)
	}
	var seconds int64
	if _, err := fmt.Sscanf(string(text), "monotonic %d", &seconds); err != nil {
		t.Fatalf("read %q: %v", text, err)
	}
	return time.Duration(seconds) * time.Second
}

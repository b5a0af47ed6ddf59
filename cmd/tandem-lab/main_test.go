// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// TestMain lets the test binary be tandem-lab.
func TestMain(m *testing.M) {
	if os.Getenv("TANDEM_LAB") != "" {
		os.Exit(mainCode())
	}
	os.Exit(m.Run())
}

func lab(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "TANDEM_LAB=1")
	return cmd
}

// hanging is a daemon that starts and never says a word.
func hanging(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tandem")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nsleep 600 & wait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func namespacesOf(pid int) (out []string) {
	for _, n := range netlab.Names() {
		if strings.HasPrefix(n, fmt.Sprintf("tl%dx", pid)) {
			out = append(out, n)
		}
	}
	return out
}

// Ctrl-C in the middle of a drill leaves nothing behind.
func TestCtrlC(t *testing.T) {
	cmd := lab("drill", "crash", "--tandem", hanging(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(out)
	for sc.Scan() && !strings.Contains(sc.Text(), "starting tandem") {
	}
	time.Sleep(200 * time.Millisecond)
	pid := cmd.Process.Pid
	if len(namespacesOf(pid)) != 5 {
		t.Errorf("namespaces of the running lab: %v", namespacesOf(pid))
	}
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(errOut.String(), "interrupted") {
		t.Errorf("it said %q", errOut.String())
	}
	if left := namespacesOf(pid); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), fmt.Sprintf("tl%dx*", pid))); len(dirs) != 0 {
		t.Errorf("left behind: %v", dirs)
	}
}

func TestUpExecDown(t *testing.T) {
	const name = "uptest"
	_ = lab("down", "--name", name).Run() // of a test that was killed
	steps := []struct {
		args []string
		code int
		says string
	}{
		{[]string{"exec", "--name", name, "client", "true"}, exitFailed, "is the lab up?"},
		{[]string{"up", "--name", name}, 0, "tandem-lab down --name uptest"},
		{[]string{"up", "--name", name}, exitFailed, "take the lab down first"},
		{[]string{"exec", "--name", name, "r1", "--", "cat", "/proc/sys/net/ipv4/ip_forward"}, 0, "1\n"},
		{[]string{"exec", "--name", name, "r1"}, exitUsage, "name a host and a command"},
		{[]string{"down", "--name", name}, 0, ""},
		{[]string{"down", "--name", name}, exitFailed, `there is no lab called "uptest"`},
		{[]string{"up", "--name", "a b"}, exitUsage, "small letters"},
		{[]string{"drill", "crash", "--tandem", "/nowhere"}, exitFailed, "/nowhere is not there"},
		{[]string{"drill", "nothing"}, exitUsage, `unknown drill "nothing"`},
		{[]string{"bench"}, exitUsage, "name a bench: sync, "},
		{[]string{"bench", "nothing"}, exitUsage, `unknown bench "nothing"`},
		{[]string{"bench", "sync", "more"}, exitUsage, "takes no argument"},
		{[]string{"bench", "sync", "--tandem", "/bin/true", "--flows", "3"}, exitFailed, "3 flows: want 100 to"},
		{[]string{"nothing"}, exitUsage, `unknown command "nothing"`},
		{nil, exitUsage, "name a command"},
	}
	for _, s := range steps {
		cmd := lab(s.args...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != s.code || !strings.Contains(string(out), s.says) {
			t.Errorf("tandem-lab %s: exit %d, want %d; said %q, want %q", strings.Join(s.args, " "), code, s.code, out, s.says)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

// Command init is process 1 of the guest that test/vm boots: it mounts what
// tests expect, loads the modules, runs /binary and powers off.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// order is written by test/vm.
type order struct {
	Modules []struct {
		Name, Params string
		Optional     bool
	}
	Args []string
}

// cannot is the exit code reported when /binary was never run.
const cannot = 255

func main() {
	code, err := run()
	out, openErr := os.OpenFile("/dev/ttyS1", os.O_WRONLY, 0)
	if openErr != nil {
		out = os.Stdout
	}
	if err != nil {
		fmt.Fprintln(out, "tandem-vm:", err)
	}
	fmt.Fprintln(out, "tandem-vm: exit", code)
	// Power goes before the port's queue is empty, unless one waits for it (tcdrain).
	_ = unix.IoctlSetInt(int(out.Fd()), unix.TCSBRK, 1)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() (code int, err error) {
	if err := mountAll(); err != nil {
		return cannot, err
	}
	o, err := readOrder()
	if err != nil {
		return cannot, err
	}
	if err := loadModules(o); err != nil {
		return cannot, err
	}
	tty, err := os.OpenFile("/dev/ttyS1", os.O_RDWR, 0)
	if err != nil {
		return cannot, err
	}
	cmd := exec.Command("/binary", o.Args...)
	cmd.Dir = "/tmp"
	cmd.Env = []string{"HOME=/tmp", "TMPDIR=/tmp", "PATH=/", "TANDEM_VM=1"}
	cmd.Stdout, cmd.Stderr = tty, tty
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return cannot, fmt.Errorf("run /binary: %w", err)
		}
		// A binary that a signal killed has -1.
		return cmd.ProcessState.ExitCode() & 0xff, nil
	}
	return 0, nil
}

// mountAll mounts what a booted Debian has. A directory may be missing before
// the file system above it is there, so each is made just before its mount.
func mountAll() error {
	for _, m := range []struct{ kind, dir string }{
		{"devtmpfs", "/dev"},
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"tmpfs", "/tmp"},
		{"tmpfs", "/run"},
		{"bpf", "/sys/fs/bpf"},
		{"cgroup2", "/sys/fs/cgroup"},
		{"tracefs", "/sys/kernel/tracing"},
	} {
		// Below sysfs the kernel made the mount point itself and mkdir is refused.
		if err := os.MkdirAll(m.dir, 0o755); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("make %s: %w", m.dir, err)
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.dir, err)
		}
	}
	return nil
}

func readOrder() (*order, error) {
	content, err := os.ReadFile("/order.json")
	if err != nil {
		return nil, err
	}
	var o order
	if err := json.Unmarshal(content, &o); err != nil {
		return nil, fmt.Errorf("parse /order.json: %w", err)
	}
	return &o, nil
}

func loadModules(o *order) error {
	for _, m := range o.Modules {
		err := loadModule("/modules/"+m.Name, m.Params)
		if err != nil && !m.Optional {
			return fmt.Errorf("load module %q: %w", m.Name, err)
		}
	}
	return nil
}

func loadModule(file, params string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), params, 0)
}

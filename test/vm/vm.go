// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// patience bounds one boot and the run of its binary. Emulated on two loaded
// cores a boot takes 5 to 20 s, and all of it less than a minute.
const patience = 8 * time.Minute

// order is what the guest's init reads from /order.json.
type order struct {
	Modules []module
	Args    []string
}

// exitLine is the last line of init. Whatever else the guest prints, a run
// without it did not end by itself.
var exitLine = regexp.MustCompile(`(?m)^tandem-vm: exit (\d+)\n`)

// Run boots Linux 6.1, loads the modules ("name" or "name parameter=value", with
// all that they need), runs the static binary with args as root in /tmp, and
// returns what it wrote to stdout and stderr, and its exit code. It fails the
// test, with the kernel's console, if the guest does not come that far.
func Run(t testing.TB, binary string, args, modules []string) (output string, exitCode int) {
	t.Helper()
	k, err := findKernel()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	initrd := filepath.Join(dir, "initrd")
	if err := writeInitrd(k, initrd, buildInit(t, dir), binary, args, modules); err != nil {
		t.Fatal(err)
	}
	console := filepath.Join(dir, "console")
	start := time.Now()
	out, err := boot(t.Context(), k.Image, initrd, console)
	t.Logf("Linux %s: booted, ran and powered off in %.1f s", k.Release, time.Since(start).Seconds())
	found := exitLine.FindSubmatchIndex(out)
	if err != nil || found == nil {
		log, _ := os.ReadFile(console)
		t.Fatalf("the guest did not end by itself (%v)\n--- its output\n%s\n--- its console\n%s", err, out, log)
	}
	exitCode, err = strconv.Atoi(string(out[found[2]:found[3]]))
	if err != nil {
		t.Fatalf("parse the guest's exit code: %v", err)
	}
	return string(out[:found[0]]), exitCode
}

// buildInit compiles test/vm/init and returns its path.
func buildInit(t testing.TB, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "init")
	compile(t, "go", "build", "-o", file, "github.com/tandem-ha/tandem/test/vm/init")
	return file
}

// compile runs a command of the go tool so that its result is static and for
// the guest's processor.
func compile(t testing.TB, command ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

// writeInitrd packs /init, /binary, /order.json and /modules.
func writeInitrd(k *kernel, file, init, binary string, args, wanted []string) error {
	modules, err := k.resolve(wanted)
	if err != nil {
		return err
	}
	var a archive
	for name, source := range map[string]string{"init": init, "binary": binary} {
		content, err := os.ReadFile(source)
		if err != nil {
			return fmt.Errorf("pack the guest: %w", err)
		}
		a.file(name, content)
	}
	for _, m := range modules {
		content, err := k.read(m.Name)
		if err != nil {
			return fmt.Errorf("pack module %q: %w", m.Name, err)
		}
		a.file("modules/"+m.Name, content)
	}
	// init writes to the console before it can mount /dev.
	a.dir("dev")
	content, err := json.Marshal(order{Modules: modules, Args: args})
	if err != nil {
		return err
	}
	a.file("order.json", content)
	return os.WriteFile(file, a.bytes(), 0o600)
}

// boot runs QEMU until the guest powers off or panics, and returns what came
// out of its second serial port.
func boot(ctx context.Context, image, initrd, console string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "pc,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-kernel", image, "-initrd", initrd,
		// A panic reboots at once, which -no-reboot turns into the end of QEMU.
		"-append", "console=ttyS0 panic=-1 oops=panic mitigations=off",
		"-serial", "file:"+console, "-serial", "stdio")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = fmt.Errorf("no end after %v", patience)
	}
	if err != nil {
		err = fmt.Errorf("run QEMU: %w %s", err, stderr.Bytes())
	}
	// The guest's terminal ends lines with CR LF.
	return bytes.ReplaceAll(out, []byte("\r\n"), []byte("\n")), err
}

// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// write makes a program of root's.
func write(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return path
}

func TestTrusted(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	good := write(t, dir, "good", "#!/bin/sh\n", 0o755)
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	inside := write(t, open, "inside", "", 0o755)
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	foreign := write(t, dir, "foreign", "", 0o755)
	if err := os.Chown(foreign, 65534, 0); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(inside, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want string }{
		{dir + "/none", "there is no such file"},
		{dir, "is not a file that can be executed"},
		{write(t, dir, "text", "", 0o644), "is not executable: chmod +x " + dir + "/text"},
		{write(t, dir, "group", "", 0o775), "others than root may write to it (mode 0775): chmod go-w " + dir + "/group"},
		{write(t, dir, "world", "", 0o757), "others than root may write to it (mode 0757): chmod go-w " + dir + "/world"},
		{inside, "others than root may write to " + open + " (mode 0777): chmod go-w " + open},
		{link, "others than root may write to " + open + " (mode 0777): chmod go-w " + open},
		{foreign, "it belongs to user 65534, who could change what is run: chown root " + foreign},
		{good, ""},
		{"/bin/sh", ""},
	} {
		got := ""
		if err := Trusted(tt.path); err != nil {
			got = err.Error()
		}
		if want := strings.TrimPrefix(tt.path+": "+tt.want, tt.path+": "); tt.want == "" && got != "" || tt.want != "" && got != tt.path+": "+want {
			t.Errorf("%s: got %q, want %q", tt.path, got, tt.want)
		}
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // for nobody
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SECRET", "1")
	out := filepath.Join(dir, "out")
	sh := func(text string, args ...string) *Program {
		name := write(t, dir, "p"+hex.EncodeToString([]byte(text))[:min(20, 2*len(text))], "#!/bin/sh\n"+text+"\n", 0o755)
		return &Program{Argv: append([]string{name}, args...), Env: []string{"TANDEM_STATE=active"}, User: "root", Timeout: 20 * time.Second}
	}
	for name, tt := range map[string]struct {
		p    *Program
		want string
	}{
		"good":              {sh("exit 0"), ""},
		"bad":               {sh("echo first; echo last >&2; exit 3"), "exit status 3: last"},
		"silent":            {sh("exit 4"), "exit status 4"},
		"arguments":         {sh(`[ "$1 $2" = "a b" ]`, "a", "b"), ""},
		"clean environment": {sh(`[ -z "$SECRET" ] && [ "$TANDEM_STATE" = active ] && [ "$HOME" = / ] && [ "$(pwd)" = / ]`), ""},
		"no input":          {sh(`! read x`), ""},
		"as somebody else":  {&Program{Argv: sh(`id -u; [ "$(id -u)$(id -G)" = 6553465534 ]`).Argv, User: "nobody", Timeout: 20 * time.Second}, ""},
		"as nobody we know": {&Program{Argv: []string{"/bin/true"}, User: "nobody-we-know", Timeout: 20 * time.Second}, "look up hooks.user: user: unknown user nobody-we-know"},
		"not trusted":       {&Program{Argv: []string{write(t, dir, "w", "#!/bin/sh\n", 0o777)}, User: "root", Timeout: time.Second}, dir + "/w: others than root may write to it (mode 0777): chmod go-w " + dir + "/w"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := tt.p.Run(t.Context()); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}

	// At the timeout all of its group ends, and what ignores SIGTERM as well.
	p := sh("trap '' TERM; (trap '' TERM; sleep 60; echo alive >" + out + ") & sleep 61")
	p.Timeout = 100 * time.Millisecond
	began := time.Now()
	if err := p.Run(t.Context()); err == nil || err.Error() != "took longer than 100ms" {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 30*time.Second { // not to their end
		t.Errorf("it took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sh("sleep 60").Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestEcho(t *testing.T) {
	b := echo(echoRequest4, 0x0102030405060708)
	if got, want := hex.EncodeToString(b), "0800dbdd050607080102030405060708"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if checksum(b) != 0 {
		t.Error("the checksum does not verify")
	}
	b[0] = echoReply4
	if !answers(b, echoReply4, 0x0102030405060708) {
		t.Error("the answer is not taken")
	}
	for name, bad := range map[string][]byte{"short": b[:15], "other request": echo(echoReply4, 0x0102030405060709), "request": echo(echoRequest4, 0x0102030405060708), "empty": nil} {
		if answers(bad, echoReply4, 0x0102030405060708) {
			t.Errorf("%s is taken for the answer", name)
		}
	}
}

// Loopback answers in both families, in a namespace where no setting of the
// host's keeps it from that; an address that nobody has does not.
func TestPing(t *testing.T) {
	runtime.LockOSThread() // not unlocked: thread and namespace end together
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip link set lo up: %v %s", err, out)
	}
	for _, to := range []string{"127.0.0.1", "127.1.2.3", "::1"} {
		if err := Ping(t.Context(), netip.MustParseAddr(to), 10*time.Second); err != nil {
			t.Errorf("ping %s: %v", to, err)
		}
	}
	if Ping(t.Context(), netip.MustParseAddr("192.0.2.1"), time.Second) == nil {
		t.Error("an address that nobody has answers")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Ping(ctx, netip.MustParseAddr("127.0.0.1"), time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

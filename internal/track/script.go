// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// CleanEnv is all of the environment that a program finds beside what is told
// it: nothing of the daemon's.
var CleanEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "SHELL=/bin/sh", "LANG=C"}

// Program is one program as it is to be run.
type Program struct {
	Argv    []string
	Env     []string // beside CleanEnv
	User    string   // whom it runs as
	Timeout time.Duration
}

// killAfter is how long a program that took too long has after SIGTERM.
const killAfter = time.Second

// Run runs it to its end, with no input and in the root directory; the error
// says how it ended and what it said last. What is not Trusted is not run. At
// the timeout it and all it started in its process group are ended.
func (p *Program) Run(ctx context.Context) error {
	if err := Trusted(p.Argv[0]); err != nil {
		return err
	}
	credential, err := credentialOf(p.User)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	var out lastWords
	cmd := exec.CommandContext(limited, p.Argv[0], p.Argv[1:]...)
	cmd.Dir, cmd.Env = "/", append(append([]string(nil), CleanEnv...), p.Env...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	err = cmd.Run()
	if limited.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it started
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		return fmt.Errorf("took longer than %s", p.Timeout)
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it ended well; something it left in the background holds the output
		return nil
	}
	if said := out.String(); said != "" {
		return fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// credentialOf looks a user up; nil: as this process.
func credentialOf(name string) (*syscall.Credential, error) {
	if name == "root" || name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("look up hooks.user: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("look up hooks.user %s: uid %q", name, u.Uid)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("look up hooks.user %s: gid %q", name, u.Gid)
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up the groups of hooks.user %s: %w", name, err)
	}
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(g))
		}
	}
	return c, nil
}

// UserExists says whether hooks.user can be looked up.
func UserExists(name string) error {
	_, err := credentialOf(name)
	return err
}

// lastWords keeps the last line that a program wrote.
type lastWords struct{ b []byte }

const keepWords = 256

func (w *lastWords) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	if len(w.b) > 2*keepWords {
		w.b = append(w.b[:0], w.b[len(w.b)-keepWords:]...)
	}
	return len(p), nil
}

func (w *lastWords) String() string {
	lines := strings.Split(strings.TrimSpace(string(w.b)), "\n")
	last := lines[len(lines)-1]
	return strings.ToValidUTF8(last[max(0, len(last)-keepWords):], "?")
}

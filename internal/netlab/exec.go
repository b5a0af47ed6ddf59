// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs in a namespace. It dies with the lab: by
// Close, and by PDEATHSIG when the lab itself is killed.
type Process struct {
	*exec.Cmd
	ns   *Namespace
	done chan struct{}
	err  error
	out  tail
}

// Start runs a program in the namespace. Its output goes to w as well when w
// is not nil; the last 64 KiB are kept for Output.
func (n *Namespace) Start(w io.Writer, name string, args ...string) (*Process, error) {
	p := &Process{Cmd: exec.Command(name, args...), ns: n, done: make(chan struct{})}
	var sink io.Writer = &p.out
	if w != nil {
		sink = io.MultiWriter(&p.out, w)
	}
	p.Stdout, p.Stderr = sink, sink
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p.WaitDelay = time.Second // a child of it may hold the output open after its end
	if err := onStarter(func() error { return n.Run(p.Cmd.Start) }); err != nil {
		return nil, fmt.Errorf("start %q in %q: %w", name, n.Name, err)
	}
	go func() {
		p.err = p.Cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Output runs a program in the namespace to its end and returns what it wrote
// to its standard output; the error carries what it wrote to the other.
func (n *Namespace) Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := onStarter(func() error { return n.Run(cmd.Start) }); err != nil {
		return nil, fmt.Errorf("start %q in %q: %w", name, n.Name, err)
	}
	if err := cmd.Wait(); err != nil {
		return out.Bytes(), fmt.Errorf("run %q in %q: %w: %s", name, n.Name, err, bytes.TrimSpace(errOut.Bytes()))
	}
	return out.Bytes(), nil
}

// starter is the thread that starts every process. PDEATHSIG fires when the
// thread that forked ends, not the process (prctl(2)), and threads end with
// goroutines that are locked to them: this one never does.
var starter struct {
	once sync.Once
	jobs chan func()
}

func onStarter(fn func() error) error {
	starter.once.Do(func() {
		starter.jobs = make(chan func())
		go func() {
			runtime.LockOSThread()
			for job := range starter.jobs {
				job()
			}
		}()
	})
	done := make(chan error, 1)
	starter.jobs <- func() { done <- fn() }
	return <-done
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended, once Done is closed.
func (p *Process) Err() error { return p.err }

// Tail returns the last 64 KiB of what the process wrote.
func (p *Process) Tail() string { return p.out.String() }

// Stop sends a signal and waits; after the given time it kills. It kills at once
// what a power cut has halted, and finds nothing wrong with that.
func (p *Process) Stop(sig os.Signal, wait time.Duration) error {
	if p.ns.halted.Load() {
		_ = p.Process.Kill()
		<-p.done
		return nil
	}
	if err := p.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", p.Process.Pid, err)
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(wait):
	}
	_ = p.Process.Kill()
	<-p.done
	return fmt.Errorf("process %d did not end within %s of %v: killed", p.Process.Pid, wait, sig)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const keep = 64 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 2*keep {
		t.b = append(t.b[:0], t.b[len(t.b)-keep:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

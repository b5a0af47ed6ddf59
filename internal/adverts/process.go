// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

// Defaults of Config.
const (
	DefaultGateTimeout    = 200 * time.Millisecond
	DefaultReleaseTimeout = 100 * time.Millisecond
)

// Config is what Start needs. Groups that are disabled are left out.
type Config struct {
	Exe  string   // the binary to start; "": /proc/self/exe
	Args []string // its arguments; nil: "adverts"

	Groups     []config.Group
	SyncGroups []config.SyncGroup
	Ring       *os.File // ring of the TC ingress program, nil: raw sockets; stays the caller's

	GateTimeout    time.Duration // from Promoting to Fenced; 0: DefaultGateTimeout
	ReleaseTimeout time.Duration // from Demoting to Released; 0: DefaultReleaseTimeout
	StartupDelay   time.Duration // before the first group may leave Initialize
	GatePreempt    bool          // at the start no set preempts until AllowPreempt(true)

	SecondPath vrrp.SecondPath // what a timeout does that Vouch denies
	Vouched    string          // the set that Vouch is about

	Tracked map[string]Tracked // by group, as it is at the start

	Log *slog.Logger // nil: slog.Default()
}

// Process is the daemon's end of the child. Its methods may be called from
// any goroutine; all but Stop return without waiting for the child.
type Process struct {
	cmd    *exec.Cmd
	sock   *os.File
	shm    *shm
	names  atomic.Pointer[names]
	naming sync.Mutex // of who gives it other names, and of who writes by them
	events chan Event
	done   chan struct{} // closed when the child was reaped and Exited delivered
	log    *slog.Logger

	vouched string // Config.Vouched

	mu       sync.Mutex // sock's writes, stopping
	stopping bool
}

// Start starts the child in the network namespace of the calling thread. When
// ctx ends the child is stopped as by Stop. Events must be read until the
// channel is closed.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	sets := (&config.VRRP{Groups: cfg.Groups, SyncGroups: cfg.SyncGroups}).Sets()
	if len(sets) == 0 {
		return nil, errors.New("start adverts: no enabled group")
	}
	names := noNames(min(max(leastRoom, 2*len(cfg.Groups)), mostRoom))
	shared, err := createShm(names.room)
	if err != nil {
		return nil, fmt.Errorf("start adverts: %w", err)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		shared.close()
		return nil, fmt.Errorf("start adverts: %w", err)
	}
	defer theirs.Close()
	p := &Process{
		cmd:     command(cfg, theirs, shared.file),
		sock:    ours,
		shm:     shared,
		events:  make(chan Event, 256),
		done:    make(chan struct{}),
		log:     cfg.Log,
		vouched: cfg.Vouched,
	}
	p.names.Store(names)
	if p.log == nil {
		p.log = slog.Default()
	}
	if err := p.cmd.Start(); err != nil {
		ours.Close()
		shared.close()
		return nil, fmt.Errorf("start adverts: %w", err)
	}
	if err := p.configure(cfg, sets); err != nil {
		p.log.Error("configure adverts", "error", err)
		ours.Close() // the child ends by itself, Exited reports it
	}
	go p.read()
	stop := context.AfterFunc(ctx, func() { p.post(message{Type: msgStop}) })
	go func() { <-p.done; stop() }()
	return p, nil
}

func command(cfg Config, sock, shared *os.File) *exec.Cmd {
	exe, args := cfg.Exe, cfg.Args
	if exe == "" {
		exe = "/proc/self/exe"
	}
	if args == nil {
		args = []string{"adverts"}
	}
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.ExtraFiles = []*os.File{sock, shared} // 3 and 4, see Main
	if cfg.Ring != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, cfg.Ring) // 5
	}
	return cmd
}

// Room for groups that are added while the child runs; a slot is 16 bits.
const leastRoom, mostRoom = 1024, 1<<16 - 1

// socketBuffer holds what 255 groups have to say when all change at once, some
// six messages each of 1 KiB as the kernel counts them: the child, which never
// waits, drops what does not fit.
const socketBuffer = 4 << 20

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socketpair: %w", err)
	}
	for _, fd := range fds {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer); err != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer) // as far as net.core.wmem_max allows
		}
	}
	return os.NewFile(uintptr(fds[0]), "adverts"), os.NewFile(uintptr(fds[1]), "adverts-child"), nil
}

// configure sends hello, every set, go.
func (p *Process) configure(cfg Config, sets []config.Set) error {
	names := p.names.Load()
	maps.Copy(names.said, cfg.Tracked)
	h := hello{
		Protocol:       protocolNumber,
		Room:           uint16(names.room),
		GateTimeout:    int64(orDefault(cfg.GateTimeout, DefaultGateTimeout)),
		ReleaseTimeout: int64(orDefault(cfg.ReleaseTimeout, DefaultReleaseTimeout)),
		StartupDelay:   int64(cfg.StartupDelay),
		GatePreempt:    cfg.GatePreempt,
		Ring:           cfg.Ring != nil,
		SecondPath:     uint8(cfg.SecondPath),
	}
	if err := p.write(message{Type: msgHello, Tail: h.append(nil)}); err != nil {
		return err
	}
	if err := p.Begin(sets); err != nil {
		return err
	}
	return p.write(message{Type: msgGo})
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// Events delivers what the child says, in order; it is closed after Exited.
func (p *Process) Events() <-chan Event { return p.events }

// Fenced answers Promoting: the fence stands, the addresses may go in.
func (p *Process) Fenced(set string, term uint32) {
	p.answer(message{Type: msgFenced, Term: term}, set)
}

// Released answers Demoting: the peer has the RELEASE, the addresses may go.
func (p *Process) Released(set string, term uint32) {
	p.answer(message{Type: msgReleased, Term: term}, set)
}

// Ungated, for TakeOver: no address waits for a fence.
const Ungated = math.MaxInt64

// TakeOver makes a Backup Active at once: the Active hands the role over.
// Promoting (cause handed-over) follows, or Refused. Until fenced
// (CLOCK_MONOTONIC ns) the fence stands already: so long the addresses go in
// without waiting for Fenced.
func (p *Process) TakeOver(set string, fenced int64) {
	p.answer(message{Type: msgTakeOver, Value: fenced}, set)
}

// HandOver makes an Active a Backup without priority 0: the peer takes over.
// Demoting (cause handed-over) follows, or Refused. If no peer speaks within
// Active_Down_Interval the set takes the role back.
func (p *Process) HandOver(set string) { p.answer(message{Type: msgHandOver}, set) }

// Announce makes an Active announce its addresses again: others may believe a
// router that was Active beside it. A Backup ignores it.
func (p *Process) Announce(set string) { p.answer(message{Type: msgAnnounce}, set) }

// Vouch says when the Active of the set Config.Vouched said last, elsewhere
// than by adverts, that it is Active and sends them (CLOCK_MONOTONIC ns); 0: it
// does not say so. The election looks when it needs it.
func (p *Process) Vouch(at int64) { p.shm.vouch(at) }

// AllowPreempt permits, or forbids, every set to take the role from a peer
// that is alive and lower. A peer that falls silent is replaced either way.
func (p *Process) AllowPreempt(allow bool) {
	p.post(message{Type: msgAllow, Flags: bit(allow)})
}

// Stop ends the election in good order (priority 0, Demoting with cause
// shutdown, addresses out) and waits for the child's end. A child that does
// not end within 3 s is killed. Someone must go on reading Events.
func (p *Process) Stop() {
	p.post(message{Type: msgStop})
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		p.log.Warn("adverts process does not stop, killing it", "pid", p.cmd.Process.Pid)
		p.cmd.Process.Kill()
		<-p.done
	}
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// answer is late where the set has ended. While it is sent the slot is that set's.
func (p *Process) answer(m message, set string) {
	p.naming.Lock()
	defer p.naming.Unlock()
	if i, ok := p.names.Load().set(set); ok {
		m.Set = i
		p.post(m)
	}
}

// post writes m; an error means that the child is gone, which read reports.
func (p *Process) post(m message) {
	if err := p.write(m); err != nil {
		p.log.Debug("write to adverts process", "error", err)
	}
}

func (p *Process) write(m message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = p.stopping || m.Type == msgStop
	if _, err := p.sock.Write(m.append(nil)); err != nil {
		return fmt.Errorf("write message %d to adverts process: %w", m.Type, err)
	}
	return nil
}

// read delivers events until the child closes its end, then reaps it.
func (p *Process) read() {
	buf := make([]byte, maxMessage)
	for {
		n, err := p.sock.Read(buf)
		if err != nil || n == 0 {
			break
		}
		var m message
		if err := m.parse(buf[:n]); err != nil {
			p.log.Error("read from adverts process", "error", err)
			continue
		}
		e := p.names.Load().event(&m)
		if e == nil {
			continue
		}
		if m.Type == msgEnded {
			p.ended(m.Set)
		}
		p.events <- e
	}
	err := p.cmd.Wait()
	p.mu.Lock()
	stopping := p.stopping
	p.mu.Unlock()
	p.sock.Close()
	p.shm.retire(p.names.Load())
	switch {
	case err != nil:
		err = fmt.Errorf("adverts process: %w", err)
	case !stopping:
		err = errors.New("adverts process ended by itself")
	}
	p.events <- Exited{Err: err}
	close(p.events)
	close(p.done)
}

// Status reads the child's published state. After the child's end it is the
// last one published.
func (p *Process) Status() Status { return p.shm.status(p.names.Load()) }

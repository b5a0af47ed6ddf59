// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// PairOptions say how the daemons of a lab run.
type PairOptions struct {
	Tandem   string        // path of the binary
	Interval time.Duration // of adverts, default 100 ms
	// Edit may change the configuration of a router before its daemon starts.
	Edit func(router, toml string) string
	// Log takes what the daemons write; nil keeps the end of it in memory only.
	Log func(router string) io.Writer
}

// Pair is a lab with a daemon on each router.
type Pair struct {
	Lab  *netlab.Lab
	Dir  string // configurations and control sockets
	opts PairOptions
	run  map[*netlab.Router]*netlab.Process
}

// NewPair prepares the daemons of a lab; Start starts them.
func NewPair(lab *netlab.Lab, opts PairOptions) (*Pair, error) {
	if opts.Interval == 0 {
		opts.Interval = 100 * time.Millisecond
	}
	if _, err := os.Stat(opts.Tandem); err != nil {
		return nil, fmt.Errorf("find the tandem binary: %w", err)
	}
	sweepDirs()
	dir, err := os.MkdirTemp("", lab.Prefix+"-")
	if err != nil {
		return nil, fmt.Errorf("make directory for the daemons: %w", err)
	}
	return &Pair{Lab: lab, Dir: dir, opts: opts, run: map[*netlab.Router]*netlab.Process{}}, nil
}

// sweepDirs removes the directories of runs that were killed.
func sweepDirs() {
	entries, err := os.ReadDir(os.TempDir())
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() && netlab.Orphaned(e.Name()) {
			_ = os.RemoveAll(filepath.Join(os.TempDir(), e.Name()))
		}
	}
}

// Start writes a router's configuration and starts its daemon.
func (p *Pair) Start(r *netlab.Router) error {
	text := Config(r, p.socket(r), p.opts.Interval)
	if p.opts.Edit != nil {
		text = p.opts.Edit(r.Name, text)
	}
	path := filepath.Join(p.Dir, r.Name+".toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration of %s: %w", r.Name, err)
	}
	var log io.Writer
	if p.opts.Log != nil {
		log = p.opts.Log(r.Name)
	}
	proc, err := r.NS.Start(log, p.opts.Tandem, "run", "--config", path)
	if err != nil {
		return err
	}
	p.run[r] = proc
	return nil
}

func (p *Pair) socket(r *netlab.Router) string { return filepath.Join(p.Dir, r.Name+".sock") }

// Process is a router's daemon as last started.
func (p *Pair) Process(r *netlab.Router) *netlab.Process { return p.run[r] }

// Client asks a router's daemon.
func (p *Pair) Client(r *netlab.Router) *control.Client { return control.NewClient(p.socket(r)) }

// Stop ends a router's daemon with SIGTERM, as systemd does. It hands over
// first, and a peer that has a million flows to write takes its time.
func (p *Pair) Stop(r *netlab.Router) error {
	return p.run[r].Stop(syscall.SIGTERM, 50*time.Second)
}

// Close stops both daemons and removes their files. The lab is the caller's.
func (p *Pair) Close() error {
	var err error
	for r, proc := range p.run {
		select {
		case <-proc.Done():
			continue
		default:
		}
		if stopErr := proc.Stop(syscall.SIGTERM, 5*time.Second); stopErr != nil {
			err = errors.Join(err, fmt.Errorf("stop tandem on %s: %w", r.Name, stopErr))
		}
	}
	return errors.Join(err, os.RemoveAll(p.Dir))
}

// Await asks a router's daemon until it answers as wanted, every 10 ms. The
// error says what it answered last, or how the daemon ended.
func (p *Pair) Await(ctx context.Context, r *netlab.Router, limit time.Duration, what string, ok func(*control.Status) bool) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client := p.Client(r)
	var last control.Status
	var err error
	for {
		var s control.Status
		if s, err = client.Status(ctx); err == nil {
			if last = s; ok(&s) {
				return s, nil
			}
		}
		select {
		case <-p.run[r].Done():
			return last, fmt.Errorf("%s: the daemon of %s ended (%v); its last words:\n%s", what, r.Name, p.run[r].Err(), lastLines(p.run[r].Tail(), 15))
		case <-ctx.Done():
			return last, fmt.Errorf("%s: not within %s on %s: %s (%v); last words:\n%s", what, limit, r.Name, brief(&last), err, lastLines(p.run[r].Tail(), 15))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// AwaitRole waits until a router has a role (control.RoleActive, ...), and the
// record of the takeover with it: the role is the election's word, the record
// comes a moment later.
func (p *Pair) AwaitRole(ctx context.Context, r *netlab.Router, role string, limit time.Duration) (control.Status, error) {
	return p.Await(ctx, r, limit, "wait for "+role, func(s *control.Status) bool {
		return hasRole(s, role) && (role != control.RoleActive || s.Sync == nil || s.Last != nil)
	})
}

// AwaitReady waits until one router is Active, the other Backup, and each has
// a complete view of the other.
func (p *Pair) AwaitReady(ctx context.Context, active *netlab.Router, limit time.Duration) error {
	ready := func(role string) func(*control.Status) bool {
		return func(s *control.Status) bool { return hasRole(s, role) && complete(s) }
	}
	if _, err := p.Await(ctx, active, limit, "wait for Active with a complete view", ready(control.RoleActive)); err != nil {
		return err
	}
	_, err := p.Await(ctx, p.Lab.Other(active), limit, "wait for Backup with a complete view", ready(control.RoleBackup))
	return err
}

// AwaitCopied waits until a router's own flows are at its peer, and the peer's
// view has at least n flows.
func (p *Pair) AwaitCopied(ctx context.Context, from *netlab.Router, n int, limit time.Duration) error {
	_, err := p.Await(ctx, from, limit, "wait for an empty backlog", func(s *control.Status) bool {
		return complete(s) && s.Sync.Peers[0].BacklogFlows == 0
	})
	if err != nil {
		return err
	}
	_, err = p.Await(ctx, p.Lab.Other(from), limit, fmt.Sprintf("wait for a view of %d flows", n), func(s *control.Status) bool {
		return complete(s) && s.Sync.Peers[0].View >= n
	})
	return err
}

func hasRole(s *control.Status, role string) bool {
	for _, set := range s.Sets {
		if set.Role != role {
			return false
		}
	}
	return len(s.Sets) > 0
}

func complete(s *control.Status) bool {
	return s.Sync != nil && len(s.Sync.Peers) > 0 && s.Sync.Peers[0].Complete && s.Sync.Peers[0].PeerComplete
}

// brief is a status in one line.
func brief(s *control.Status) string {
	var b strings.Builder
	for _, set := range s.Sets {
		fmt.Fprintf(&b, "%s %s (%s%s) ", set.Name, set.Role, set.Reason, set.Waiting)
	}
	if s.Sync != nil {
		for _, peer := range s.Sync.Peers {
			fmt.Fprintf(&b, "peer %s heard=%t view=%d complete=%t/%t uncommitted=%d backlog=%d ", peer.Name,
				peer.Heard, peer.View, peer.Complete, peer.PeerComplete, peer.Uncommitted, peer.BacklogFlows)
		}
	}
	if b.Len() == 0 {
		return "it never answered"
	}
	return strings.TrimSpace(b.String())
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-n):], "\n    ")
}

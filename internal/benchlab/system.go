// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// system is what runs on the two routers.
type system interface {
	name() string
	// start ends when r1 forwards and r2 stands by with a copy of all there is.
	start(ctx context.Context) error
	// held counts r1's flows that r2 could take over.
	held(ctx context.Context) (int, error)
	// program is the process that keeps flows; "" if there is none.
	program() string
	// daemons are the processes that somebody started on a router, the one that
	// elects first.
	daemons(r *netlab.Router) []int
	// promotions counts how often a router became Active, both together.
	promotions(ctx context.Context) (int, error)
	// leave ends what runs on r2 and empties its kernel table; join starts it again.
	leave() error
	join(ctx context.Context) error
	// back ends when r1, which has failed, forwards again and r2 stands by; ended:
	// what ran on r1 is over, or about to be.
	back(ctx context.Context, ended bool) error
	// stop ends all of it, and leaves no virtual address.
	stop() error
}

// nobody is the routers without daemons, r1 with the addresses: what forwarding
// alone costs.
type nobody struct{ *stand }

func (n *nobody) name() string                            { return "nobody" }
func (n *nobody) program() string                         { return "" }
func (n *nobody) held(context.Context) (int, error)       { return 0, nil }
func (n *nobody) start(context.Context) error             { return n.lab.R1.HoldVIPs() }
func (n *nobody) daemons(*netlab.Router) []int            { return nil }
func (n *nobody) promotions(context.Context) (int, error) { return 0, nil }
func (n *nobody) leave() error                            { return nil }
func (n *nobody) join(context.Context) error              { return nil }
func (n *nobody) back(context.Context, bool) error        { return nil }
func (n *nobody) stop() error                             { return n.lab.R1.DropVIPs() }

// tandem is a daemon on each router.
type tandem struct {
	*stand
	pair *drill.Pair
	edit func(router, toml string) string
	mode string // part of the name
}

func (t *tandem) name() string { return "tandem" + t.mode }

// atTakeover edits a configuration: nothing is written ahead of need.
func atTakeover(_, toml string) string {
	return strings.Replace(toml, "[conntrack-sync]\n", "[conntrack-sync]\ncommit = \"takeover\"\n", 1)
}

// program is the binary's name as the kernel keeps it (TASK_COMM_LEN).
func (t *tandem) program() string {
	name := filepath.Base(t.opts.Tandem)
	return name[:min(len(name), 15)]
}

func (t *tandem) start(ctx context.Context) (err error) {
	t.pair, err = drill.NewPair(t.lab, drill.PairOptions{Tandem: t.opts.Tandem, Interval: t.opts.Advert, Edit: t.edit})
	if err != nil {
		return err
	}
	for _, r := range t.lab.Routers() {
		if err := t.pair.Start(r); err != nil {
			return err
		}
	}
	return t.pair.AwaitReady(ctx, t.lab.R1, 30*time.Second)
}

// held is the view of r2, once r1 has nothing that r2 lacks.
func (t *tandem) held(ctx context.Context) (int, error) {
	p, err := t.peer(ctx, t.lab.R2)
	if err != nil {
		return 0, err
	}
	return p.View, nil
}

// peer is what a router says of its peer.
func (t *tandem) peer(ctx context.Context, r *netlab.Router) (p control.SyncPeer, err error) {
	s, err := t.pair.Client(r).Sync(ctx)
	if err != nil {
		return p, fmt.Errorf("ask tandem on %s: %w", r.Name, err)
	}
	if s == nil || len(s.Peers) != 1 {
		return p, fmt.Errorf("ask tandem on %s: it has no peer", r.Name)
	}
	return s.Peers[0], nil
}

func (t *tandem) daemons(r *netlab.Router) []int {
	return []int{t.pair.Process(r).Process.Pid}
}

func (t *tandem) promotions(ctx context.Context) (n int, err error) {
	for _, r := range t.lab.Routers() {
		s, err := t.pair.Client(r).Status(ctx)
		if err != nil {
			return 0, fmt.Errorf("ask tandem on %s: %w", r.Name, err)
		}
		n += int(s.Groups[0].Counters.BecomeActive)
	}
	return n, nil
}

func (t *tandem) leave() error { return errors.Join(t.end(t.lab.R2), t.flush(t.lab.R2)) }

func (t *tandem) join(context.Context) error { return t.pair.Start(t.lab.R2) }

func (t *tandem) back(ctx context.Context, ended bool) error {
	if ended {
		if err := errors.Join(t.end(t.lab.R1), t.pair.Start(t.lab.R1)); err != nil {
			return err
		}
	}
	return t.pair.AwaitReady(ctx, t.lab.R1, 60*time.Second)
}

// stop ends the Backup first, so that nobody takes over.
func (t *tandem) stop() (err error) {
	if t.pair == nil {
		return nil
	}
	err = errors.Join(t.end(t.lab.R2), t.end(t.lab.R1), t.pair.Close())
	t.pair = nil
	return err
}

// end stops a router's daemon, unless it ended with the router's power.
func (t *tandem) end(r *netlab.Router) error {
	p := t.pair.Process(r)
	if p == nil {
		return nil
	}
	select {
	case <-p.Done():
		return nil
	default:
	}
	if err := p.Stop(syscall.SIGTERM, 20*time.Second); err != nil {
		return fmt.Errorf("stop tandem on %s: %w", r.Name, err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// peers is the pair that users have today, from Debian's packages: keepalived
// with a notify script that steers conntrackd, FTFW over UDP unicast. direct is
// DisableExternalCache: what comes is written into the kernel table at once.
type peers struct {
	*stand
	direct   bool
	dir      string
	byRouter map[*netlab.Router][]*netlab.Process
}

func (p *peers) name() string {
	if p.direct {
		return "conntrackd-direct"
	}
	return "conntrackd-external"
}

func (p *peers) program() string { return "conntrackd" }

// start lets r1 become master, then r2 join as backup: a keepalived that is
// master for a moment runs both of its scripts at once, in either order.
func (p *peers) start(ctx context.Context) (err error) {
	for _, name := range []string{"keepalived", "conntrackd"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("compare with %s: %w (make deps installs it)", name, err)
		}
	}
	if p.dir, err = os.MkdirTemp("", p.lab.Prefix+"-"); err != nil {
		return fmt.Errorf("make directory for the daemons: %w", err)
	}
	p.byRouter = map[*netlab.Router][]*netlab.Process{}
	for _, r := range p.lab.Routers() {
		if err := errors.Join(p.startOn(ctx, r), p.awaitReady(ctx, r)); err != nil {
			return err
		}
	}
	return nil
}

// awaitReady waits until a router has its first role, and its script has run.
func (p *peers) awaitReady(ctx context.Context, r *netlab.Router) error {
	role := "primary"
	if r == p.lab.R2 {
		role = "backup"
	}
	err := p.await(ctx, 40*time.Second, r.Name+" to have run its script as "+role, func() (bool, error) {
		return p.ready(r, role), p.ended()
	})
	if err != nil {
		return fmt.Errorf("%w; last words:\n%s", err, p.lastWords(r))
	}
	return nil
}

// lastWords is the end of what a router's daemons wrote.
func (p *peers) lastWords(r *netlab.Router) string {
	var out []string
	for _, proc := range p.byRouter[r] {
		lines := strings.Split(strings.TrimSpace(proc.Tail()), "\n")
		out = append(out, lines[max(0, len(lines)-8):]...)
	}
	return strings.Join(out, "\n")
}

func (p *peers) startOn(ctx context.Context, r *netlab.Router) error {
	if err := p.write(r); err != nil {
		return err
	}
	for _, cmd := range [][]string{
		{"conntrackd", "-C", p.path(r, "conntrackd.conf")},
		{"keepalived", "--dont-fork", "--vrrp", "--use-file", p.path(r, "keepalived.conf"),
			"--pid", p.path(r, "keepalived.pid"), "--vrrp_pid", p.path(r, "vrrp.pid"), "--log-console"},
	} {
		proc, err := r.NS.Start(nil, cmd[0], cmd[1:]...)
		if err != nil {
			return err
		}
		p.byRouter[r] = append(p.byRouter[r], proc)
		if cmd[0] == "conntrackd" { // the script of the other one asks it
			err := p.await(ctx, 10*time.Second, "conntrackd on "+r.Name, func() (bool, error) {
				_, err := p.ask(ctx, r, "-s")
				return err == nil, p.ended()
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *peers) path(r *netlab.Router, name string) string {
	return filepath.Join(p.dir, r.Name+"-"+name)
}

// ready says whether the notify script of a router has run to its end.
func (p *peers) ready(r *netlab.Router, role string) bool {
	text, err := os.ReadFile(p.path(r, "role"))
	return err == nil && strings.TrimSpace(string(text)) == role
}

// ended is an error when one of the daemons is no more.
func (p *peers) ended() error {
	for r, procs := range p.byRouter {
		for _, proc := range procs {
			select {
			case <-proc.Done():
				return fmt.Errorf("%s on %s ended (%v): %s", proc.Path, r.Name, proc.Err(), strings.TrimSpace(proc.Tail()))
			default:
			}
		}
	}
	return nil
}

// ask runs conntrackd as its own client.
func (p *peers) ask(ctx context.Context, r *netlab.Router, args ...string) (string, error) {
	out, err := r.NS.Output(ctx, "conntrackd", append([]string{"-C", p.path(r, "conntrackd.conf")}, args...)...)
	return string(out), err
}

// held is the external cache, or the kernel table where there is none.
func (p *peers) held(ctx context.Context) (int, error) {
	if p.direct {
		return p.entries(p.lab.R2)
	}
	text, err := p.ask(ctx, p.lab.R2, "-s")
	if err != nil {
		return 0, err
	}
	return cacheSize(text, "cache external:")
}

// cacheSize finds the number of flows in what conntrackd prints of a cache.
func cacheSize(text, cache string) (int, error) {
	_, text, ok := strings.Cut(text, cache)
	if ok {
		_, text, ok = strings.Cut(text, "current active connections:")
	}
	f := strings.Fields(text)
	if !ok || len(f) == 0 {
		return 0, errors.New("conntrackd's statistics have no " + cache)
	}
	return strconv.Atoi(f[0])
}

// daemons: keepalived was started last.
func (p *peers) daemons(r *netlab.Router) (out []int) {
	for _, proc := range slices.Backward(p.byRouter[r]) {
		out = append(out, proc.Process.Pid)
	}
	return out
}

func (p *peers) promotions(context.Context) (n int, err error) {
	for _, r := range p.lab.Routers() {
		text, err := os.ReadFile(p.path(r, "roles"))
		if err != nil {
			return 0, fmt.Errorf("count the scripts of %s: %w", r.Name, err)
		}
		n += strings.Count(string(text), "primary\n")
	}
	return n, nil
}

func (p *peers) leave() error {
	r := p.lab.R2
	p.end(p.byRouter[r])
	delete(p.byRouter, r)
	return errors.Join(p.flush(r), os.Remove(p.path(r, "role")))
}

// join: the keepalived of r2 becomes backup and has its script ask for a full
// copy.
func (p *peers) join(ctx context.Context) error { return p.startOn(ctx, p.lab.R2) }

func (p *peers) back(ctx context.Context, ended bool) error {
	if r := p.lab.R1; ended {
		p.end(p.byRouter[r])
		delete(p.byRouter, r)
		for _, name := range []string{"role", "lock", "keepalived.pid", "vrrp.pid"} { // a boot empties /run
			if err := os.Remove(p.path(r, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove what a daemon left: %w", err)
			}
		}
		if err := p.startOn(ctx, r); err != nil {
			return err
		}
	}
	return errors.Join(p.awaitReady(ctx, p.lab.R1), p.awaitReady(ctx, p.lab.R2))
}

// stop ends the backup first, so that nobody takes over.
func (p *peers) stop() (err error) {
	p.end(p.byRouter[p.lab.R2])
	p.end(p.byRouter[p.lab.R1])
	p.byRouter = nil
	for _, r := range p.lab.Routers() {
		for i, vip := range []netip.Prefix{netlab.LANVIP, netlab.WANVIP} {
			_ = r.NS.RemoveAddress(fmt.Sprintf("eth%d", i), vip) // gone as a rule
		}
	}
	if p.dir != "" {
		err = os.RemoveAll(p.dir)
	}
	p.dir = ""
	return err
}

// end stops the last one started first: keepalived still has its script.
func (p *peers) end(procs []*netlab.Process) {
	for i := len(procs) - 1; i >= 0; i-- {
		select {
		case <-procs[i].Done(): // with its router's power
		default:
			_ = procs[i].Stop(syscall.SIGTERM, 10*time.Second) // killed is as good: what matters is that it is gone
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/drill"
)

// fault is one way in which r1 may fail.
type fault struct {
	name, about string
	said        bool // the Active can say that it goes
	ends        bool // its daemons are over then
	// strike returns what undoes that which would outlast the daemons, or nil.
	strike func(ctx context.Context, s *stand, sys system) (mend func() error, err error)
}

// limit is what the outage should not exceed.
func (f *fault) limit(o *Options) time.Duration {
	if f.said {
		return 5 * time.Millisecond
	}
	return drill.ActiveDown(100, o.Advert) + 3*time.Millisecond
}

const freezeFault = "freeze"

var faults = []fault{
	{"power", "its power is cut", false, true, func(_ context.Context, s *stand, _ system) (func() error, error) {
		_, err := s.lab.R1.PowerOff()
		return nil, err // once puts it on
	}},
	{"link", "its LAN interface goes down", true, false, func(_ context.Context, s *stand, _ system) (func() error, error) {
		_, err := s.lab.R1.LinkDown("eth0")
		return func() error { return s.lab.R1.LinkUp("eth0") }, err
	}},
	{"kill", "its daemons get SIGKILL", false, true, func(_ context.Context, s *stand, sys system) (func() error, error) {
		return nil, signal(sys.daemons(s.lab.R1), unix.SIGKILL)
	}},
	{"stop", "its daemons are stopped, the one that elects first", true, true, func(_ context.Context, s *stand, sys system) (func() error, error) {
		return nil, signal(sys.daemons(s.lab.R1), unix.SIGTERM)
	}},
	{freezeFault, "all of its processes stand still for a time, and go on", false, false, freeze},
}

// FaultNames lists the faults of bench failover.
func FaultNames() (out []string) {
	for _, f := range faults {
		out = append(out, f.name)
	}
	return out
}

func faultOf(name string) (*fault, error) {
	i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
	if i < 0 {
		return nil, fmt.Errorf("unknown fault %q: there are %s", name, strings.Join(FaultNames(), ", "))
	}
	return &faults[i], nil
}

func freeze(ctx context.Context, s *stand, _ system) (mend func() error, err error) {
	all := s.lab.R1.NS.PIDs()
	err = signal(all, unix.SIGSTOP)
	return nil, errors.Join(err, sleep(ctx, s.opts.Freeze), signal(all, unix.SIGCONT))
}

// signal sends it to each; one that has ended has what it was to get.
func signal(pids []int, sig syscall.Signal) (err error) {
	for _, pid := range pids {
		if e := unix.Kill(pid, sig); e != nil && e != unix.ESRCH {
			err = errors.Join(err, fmt.Errorf("send %v to process %d: %w", sig, pid, e))
		}
	}
	return err
}

// busyBench is how often nothing has failed, and the role moves all the same.
var busyBench = bench{
	name: "busy", about: "takeovers that nothing called for, while twice as many busy loops as there are processors run beside the pair",
	flows: 1000, rate: 1000, most: 1 << 20,
	figures: []Figure{
		{Name: "false", Unit: "takeovers", About: "times that a router became Active, on either one, after the first"},
		{Name: "per_10min", Unit: "takeovers", Aim: 0.001, About: "the same for ten minutes: the aim is none"},
	},
	run:      runBusy,
	estimate: func(o *Options) time.Duration { return o.For + 30*time.Second },
}

func runBusy(ctx context.Context, s *stand, sys system) (Values, error) {
	before, err := sys.promotions(ctx)
	if err != nil {
		return nil, err
	}
	stop, err := spin(ctx)
	if err != nil {
		return nil, err
	}
	s.now("busy for %s", s.opts.For)
	err = sleep(ctx, s.opts.For)
	stop()
	if err != nil {
		return nil, err
	}
	after, err := sys.promotions(ctx)
	n := float64(after - before)
	return Values{"false": n, "per_10min": n * float64(10*time.Minute) / float64(s.opts.For)}, err
}

// spin starts busy loops, two for each processor, and returns what ends them.
func spin(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var loops []*exec.Cmd
	stop = func() {
		cancel()
		for _, l := range loops {
			_ = l.Wait() // killed, as it should be
		}
	}
	for range 2 * runtime.NumCPU() {
		l := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		l.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
		if err := l.Start(); err != nil {
			stop()
			return nil, fmt.Errorf("start a busy loop: %w", err)
		}
		loops = append(loops, l)
	}
	return stop, nil
}

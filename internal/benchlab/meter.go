// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// reading is the machine at an instant.
type reading struct {
	at      time.Time
	idle    time.Duration // of all processors, waiting for disks and stolen time included
	foreign time.Duration // processor time of processes that are not the bench's
	daemons time.Duration // processor time of what runs on the routers
	link    uint64        // bytes that r1's eth2 sent and received
}

// usage is what was used between two readings.
type usage struct {
	wall, busy, foreign, daemons time.Duration
	link                         uint64
}

// tick is USER_HZ, the unit of /proc/stat and /proc/PID/stat.
const tick = 10 * time.Millisecond

func (s *stand) read() (r reading, err error) {
	r.at = time.Now()
	if r.idle, err = idleTime(); err != nil {
		return r, err
	}
	ours := map[int]bool{}
	for _, router := range s.lab.Routers() {
		for _, pid := range router.NS.PIDs() {
			ours[pid] = true
		}
	}
	procs := processes()
	for pid, p := range procs {
		switch {
		case ours[pid]:
			r.daemons += p.own + p.reaped
		case !p.kernel && !descends(procs, pid, os.Getpid()):
			r.foreign += p.own + p.reaped
		}
	}
	link, err := s.lab.R1.NS.Netlink().LinkByName("eth2")
	if err != nil || link.Attrs().Statistics == nil {
		return r, fmt.Errorf("read counters of r1's eth2: %w", err)
	}
	r.link = link.Attrs().Statistics.RxBytes + link.Attrs().Statistics.TxBytes
	return r, nil
}

// until takes the difference. Busy is what was neither idle nor taken by
// processes that have nothing to do with the bench: interrupts, kernel threads
// and the bench's own.
func (r reading) until(now reading) usage {
	u := usage{wall: now.at.Sub(r.at), foreign: now.foreign - r.foreign, daemons: now.daemons - r.daemons, link: now.link - r.link}
	u.busy = time.Duration(runtime.NumCPU())*u.wall - (now.idle - r.idle) - u.foreign
	return u
}

// less takes away what the same would have used at rest, over the same time.
func (u usage) less(rest usage) usage {
	share := u.wall.Seconds() / rest.wall.Seconds()
	u.busy -= time.Duration(share * float64(rest.busy))
	u.daemons -= time.Duration(share * float64(rest.daemons))
	u.link -= min(u.link, uint64(share*float64(rest.link)))
	return u
}

// quieter is the rest in which less was used. A timer costs four times as much in
// some seconds of a shared machine, and whoever has many would be flattered by what
// is taken off for that.
func quieter(a, b usage) usage {
	if b.busy.Seconds()/b.wall.Seconds() < a.busy.Seconds()/a.wall.Seconds() {
		return b
	}
	return a
}

// daemonShare is the daemons' processor time in percent of one processor.
func (u usage) daemonShare() float64 { return 100 * u.daemons.Seconds() / u.wall.Seconds() }

// idleTime sums idle, iowait and steal over all processors. The kernel counts
// idle time exactly, busy time by sampling.
func idleTime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal
	if len(f) < 9 {
		return 0, fmt.Errorf("read processor time: /proc/stat begins with %q", line)
	}
	var sum time.Duration
	for _, i := range []int{4, 5, 8} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read processor time: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// process is what /proc/PID/stat says. A child's time goes to its parent when
// it is waited for, so that the sum over living processes loses nothing.
type process struct {
	parent      int
	kernel      bool
	own, reaped time.Duration
}

const pfKthread = 0x00200000 // PF_KTHREAD of linux/sched.h

func processes() map[int]process {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	out := make(map[int]process, len(files))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // gone meanwhile
		}
		pid, err := strconv.Atoi(strings.Split(f, "/")[2])
		if p, ok := parseStat(string(text)); ok && err == nil {
			out[pid] = p
		}
	}
	return out
}

// parseStat reads proc_pid_stat(5); the name in parentheses may hold anything.
func parseStat(text string) (p process, ok bool) {
	i := strings.LastIndexByte(text, ')')
	if i < 0 {
		return p, false
	}
	f := strings.Fields(text[i+1:]) // from field 3, the state
	if len(f) < 15 {
		return p, false
	}
	var n [15]int64
	for _, j := range []int{1, 6, 11, 12, 13, 14} {
		v, err := strconv.ParseInt(f[j], 10, 64)
		if err != nil {
			return p, false
		}
		n[j] = v
	}
	return process{parent: int(n[1]), kernel: n[6]&pfKthread != 0,
		own: time.Duration(n[11]+n[12]) * tick, reaped: time.Duration(n[13]+n[14]) * tick}, true
}

func descends(procs map[int]process, pid, from int) bool {
	for range 64 {
		if pid == from {
			return true
		}
		p, ok := procs[pid]
		if !ok || p.parent == 0 {
			return false
		}
		pid = p.parent
	}
	return false
}

// resident is the memory in use of what runs on a router, in bytes: of the one
// program that keeps flows.
func resident(r *netlab.Router, program string) (int64, error) {
	var sum int64
	for _, pid := range r.NS.PIDs() {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil || strings.TrimSpace(string(name)) != program {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			continue
		}
		if f := strings.Fields(string(text)); len(f) > 1 {
			pages, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
			}
			sum += pages * int64(os.Getpagesize())
		}
	}
	if sum == 0 {
		return 0, fmt.Errorf("read memory of %s on %s: it does not run", program, r.Name)
	}
	return sum, nil
}

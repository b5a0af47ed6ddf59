// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

// Real-time priorities. The second thread is real-time too: what the first
// one needs from it (a lock of the Go runtime, an answer) must not wait
// behind ordinary work.
const (
	electionPriority = 50
	stagePriority    = 40
)

const memoryLimit = 64 << 20

// Main is the child: the hidden command `tandem adverts`. fd is its end of
// the socketpair; fd+1 is the shared memory, fd+2 the ring if the hello says
// so. It returns when the daemon stopped it, is gone, or ctx ended, after
// priority 0 was sent and the addresses are out.
func Main(ctx context.Context, fd uintptr) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Ctrl-C and a service manager signal the whole group; it is the daemon's
	// order, or its end, that ends the child.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	limits := becomeRealTime()
	h, err := readHello(int(fd))
	if err != nil {
		return err
	}
	if h.Protocol != protocolNumber {
		return fmt.Errorf("the daemon speaks adverts protocol %d, this binary %d: it was replaced under a running daemon", h.Protocol, protocolNumber)
	}
	if n, err := vip.Cleanup(); err != nil {
		fmt.Fprintf(os.Stderr, "adverts: remove %d addresses of a former run: %v\n", n, err)
	}
	l, err := newLoop(int(fd), h)
	if err != nil {
		return err
	}
	defer l.close()
	if h.Ring {
		if err := l.openRing(int(fd) + 2); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { l.interrupt() })
	defer stop()
	return l.run(limits)
}

// becomeRealTime prepares the process; it returns what was refused, "" if
// nothing. The election works without any of it, only less punctually.
func becomeRealTime() string {
	// Nothing allocates in steady state. What rare events allocate is
	// collected when the limit is near, never in between.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	// A thread that returns from a system call needs a free P at once.
	runtime.GOMAXPROCS(max(4, runtime.NumCPU()))
	var why []string
	// ONFAULT: the Go heap reserves far more address space than it touches.
	const onFault = 4 // MCL_ONFAULT, the same on every architecture but alpha, ppc, sparc
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | onFault); err != nil {
		why = append(why, "memory is not locked: "+err.Error())
	}
	if err := allRealTime(stagePriority); err != nil {
		why = append(why, "no SCHED_FIFO: "+err.Error())
	} else if err := realTime(0, electionPriority); err != nil {
		why = append(why, "no SCHED_FIFO: "+err.Error())
	}
	if err := takeProcessor(); err != nil {
		why = append(why, "no processor of its own: "+err.Error())
	}
	return strings.Join(why, "; ")
}

// allRealTime covers the threads that the Go runtime has; later ones inherit.
func allRealTime(priority uint32) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	var all []error
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			if err := realTime(tid, priority); err != nil && err != unix.ESRCH {
				all = append(all, err)
			}
		}
	}
	if len(all) > 0 {
		return all[0]
	}
	return nil
}

func realTime(tid int, priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}
	return unix.SchedSetAttr(tid, &attr, 0)
}

// readHello reads the daemon's first message; the loop reads all others.
func readHello(fd int) (*hello, error) {
	buf := make([]byte, maxMessage)
	n, err := readWait(fd, buf)
	if err != nil {
		return nil, fmt.Errorf("read the daemon's hello: %w", err)
	}
	var m message
	if err := m.parse(buf[:n]); err != nil {
		return nil, err
	}
	if m.Type != msgHello {
		return nil, fmt.Errorf("%w: type %d before the hello", errMessage, m.Type)
	}
	h := &hello{}
	return h, h.parse(m.Tail)
}

// readWait reads one message from a socket that does not block.
func readWait(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EAGAIN:
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if _, err := unix.Poll(p, int(10*time.Second/time.Millisecond)); err != nil && err != unix.EINTR {
				return 0, err
			}
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, errors.New("the daemon is gone")
		default:
			return n, nil
		}
	}
}

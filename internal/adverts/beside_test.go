// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bare is a thread that does nothing but wake each millisecond, on the
// election's processor and above its priority: what holds it up is the machine's.
type bare struct {
	worst, total atomic.Int64 // held up once at most, and in all, by more than a tick
	end          func()
}

// beside starts a bare thread, which ends with the test.
func beside(t *testing.T) *bare {
	t.Helper()
	const tick = int64(ms)
	b := &bare{}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if err := realTime(0, electionPriority+10); err != nil {
			t.Errorf("a bare thread: %v", err)
		}
		if election, _, ok := processors(); ok {
			unix.SchedSetaffinity(0, &election)
		}
		c, nap := newClock(), unix.NsecToTimespec(tick)
		for !stop.Load() {
			began := c.now()
			// Raw: it must not wait for the Go scheduler when it wakes.
			unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, 0, uintptr(unsafe.Pointer(&nap)), 0, 0, 0)
			if late := c.now() - began - tick; late > tick {
				b.total.Add(late)
				b.worst.Store(max(b.worst.Load(), late))
			}
			runtime.Gosched()
		}
	}()
	b.end = func() { stop.Store(true); <-done }
	t.Cleanup(b.end)
	return b
}

// stood is the longest that the machine has stood still.
func (b *bare) stood() time.Duration { return time.Duration(b.worst.Load()) }

// lost is all the time that it has stood still.
func (b *bare) lost() time.Duration { return time.Duration(b.total.Load()) }

// calmly has a scene played again where something went wrong and the machine
// stood still meanwhile for longer than most: that proves nothing. The fifth time counts.
func calmly(t *testing.T, most time.Duration, scene func() (wrong string)) {
	t.Helper()
	for try := 1; ; try++ {
		b := beside(t)
		wrong := scene()
		b.end()
		if wrong == "" {
			return
		}
		if b.stood() <= most || try == 5 {
			t.Fatalf("%s; the machine stood still for %v at most", wrong, b.stood())
		}
		t.Logf("%s; once more, since the machine stood still for %v", wrong, b.stood())
	}
}

// SPDX-License-Identifier: Apache-2.0

package wakeup

import (
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forever is longer than any test may take: what ends a wait of it is not time.
const forever = time.Minute

// open gives a Waiter for one end of a pipe and the other end. blocks makes its
// next wait a system call, as after things that came thick and fast.
func open(t *testing.T, blocks bool) (w *Waiter, read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if w, err = New(int(read.Fd())); err != nil {
		t.Fatal(err)
	}
	w.dense = blocks
	t.Cleanup(func() { w.Close(); read.Close(); write.Close() }) // a second Close fails, and harms nobody
	return w, read, write
}

// waits runs a wait and says how long it took.
func waits(t *testing.T, fn func(time.Duration) error, d time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	if err := fn(d); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// each runs a test for both ways of waiting.
func each(t *testing.T, fn func(t *testing.T, blocks bool)) {
	t.Run("parked", func(t *testing.T) { fn(t, false) })
	t.Run("blocked", func(t *testing.T) { fn(t, true) })
}

// TestReadableEndsWait: a descriptor that is readable ends a wait, be it before
// or after the wait began.
func TestReadableEndsWait(t *testing.T) {
	each(t, func(t *testing.T, blocks bool) {
		w, read, write := open(t, blocks)
		write.Write([]byte{1})
		waits(t, w.Wait, forever)
		read.Read(make([]byte, 1))
		w.dense = blocks
		time.AfterFunc(3*time.Millisecond, func() { write.Write([]byte{1}) })
		waits(t, w.Wait, forever)
	})
}

// TestHangUpEndsWait: the end of the other side is news, too.
func TestHangUpEndsWait(t *testing.T) {
	each(t, func(t *testing.T, blocks bool) {
		w, _, write := open(t, blocks)
		write.Close()
		waits(t, w.Wait, forever)
	})
}

// TestTimeEndsWait: nothing comes, and the wait is as long as was asked, also
// where it begins blocked and goes on parked.
func TestTimeEndsWait(t *testing.T) {
	each(t, func(t *testing.T, blocks bool) {
		w, _, _ := open(t, blocks)
		for _, d := range []time.Duration{2 * time.Millisecond, dense + 20*time.Millisecond} {
			// A preemption by the runtime ends a system call early: that is "for nothing".
			if took := waits(t, w.Wait, d); took < d && !blocks {
				t.Errorf("a wait of %s took %s", d, took)
			}
			w.dense = blocks
		}
		if took := waits(t, w.Wait, 0); took > time.Second {
			t.Errorf("no wait took %s", took)
		}
	})
}

// TestRing: a ring ends the wait or pause under way, and else the next one,
// once.
func TestRing(t *testing.T) {
	each(t, func(t *testing.T, blocks bool) {
		w, _, _ := open(t, blocks)
		w.Ring()
		w.Ring()
		waits(t, w.Wait, forever)
		if w.dense = blocks; !blocks {
			if took := waits(t, w.Wait, 5*time.Millisecond); took < 5*time.Millisecond {
				t.Errorf("two rings ended a second wait after %s", took)
			}
		}
		time.AfterFunc(3*time.Millisecond, w.Ring)
		waits(t, w.Wait, forever)
		time.AfterFunc(3*time.Millisecond, w.Ring)
		waits(t, w.Pause, forever)
	})
}

// TestPauseHearsNoDescriptor: what comes during a pause waits for its end.
func TestPauseHearsNoDescriptor(t *testing.T) {
	w, _, write := open(t, false)
	write.Write([]byte{1})
	for left := 5 * time.Millisecond; left > 0; {
		left -= waits(t, w.Pause, left)
	}
	var fds = []unix.PollFd{w.fds[0]}
	if n, err := unix.Poll(fds, 0); n != 1 || err != nil {
		t.Errorf("after the pause %d descriptors are readable, %v", n, err)
	}
}

// TestDense: what comes thick and fast is waited for in a system call, what
// comes now and then is not.
func TestDense(t *testing.T) {
	w, read, write := open(t, false)
	for range 3 { // the first comes after nothing
		write.Write([]byte{1})
		waits(t, w.Wait, forever)
		read.Read(make([]byte, 1))
		w.last = time.Now() // whatever the host did between the two
	}
	if write.Write([]byte{1}); waits(t, w.Wait, forever) < 0 || !w.dense {
		t.Error("things came thick and fast, and the next wait would be parked")
	}
	for w.dense { // once, or more often where the host stands still
		read.Read(make([]byte, 1))
		time.AfterFunc(2*dense, func() { write.Write([]byte{1}) })
		waits(t, w.Wait, forever)
	}
}

// TestRingAfterClose does nothing; many ring while it closes.
func TestRingAfterClose(t *testing.T) {
	w, read, write := open(t, false)
	defer read.Close()
	defer write.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				w.Ring()
				w.rung.Store(false)
			}
		})
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestInterrupted showers the thread with signals, as Go's runtime does to
// preempt: every call must retry what returns EINTR.
func TestInterrupted(t *testing.T) {
	newNamespace(t)
	table, d := openTable(t), listen(t)
	pid, tid := unix.Getpid(), unix.Gettid()
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				stopped <- n
				return
			default:
				_ = unix.Tgkill(pid, tid, unix.SIGURG)
				n++
			}
		}
	}()
	ops := numbered(3000)
	key := ops[5].Flow.Key()
	var f Flow
	for range 5 {
		mustApply(t, table, ops...)
		if n := len(dump(t, table)); n != len(ops) {
			t.Errorf("dump shows %d flows", n)
		}
		if ok, err := table.Get(&key, &f); !ok || err != nil {
			t.Errorf("Get: %v, %v", ok, err)
		}
		if _, err := d.Read(time.Now().Add(20*time.Millisecond), func(*Death) {}); err != nil {
			t.Errorf("Read: %v", err)
		}
		flush(t, table)
		readDeaths(t, d, len(ops))
	}
	close(stop)
	if n := <-stopped; n < 100 {
		t.Errorf("%d signals only", n)
	}
}

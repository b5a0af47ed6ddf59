// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
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

// TestInterruptedWait: a signal during the wait for an answer does not end it;
// with SO_RCVTIMEO the kernel returns EINTR, whatever SA_RESTART says.
func TestInterruptedWait(t *testing.T) {
	newNamespace(t)
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	d := listen(t)
	tv := unix.NsecToTimeval((200 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	pid, tid := unix.Getpid(), unix.Gettid()
	signals := func() {
		for range 10 {
			time.Sleep(5 * time.Millisecond)
			_ = unix.Tgkill(pid, tid, unix.SIGURG)
		}
	}
	go signals()
	if _, err := c.receive(); !errors.Is(err, errNoAnswer) {
		t.Errorf("receive: %v", err)
	}
	go signals()
	start := time.Now()
	if _, err := d.Read(start.Add(100*time.Millisecond), func(*Death) {}); err != nil || time.Since(start) < 100*time.Millisecond {
		t.Errorf("Read returned after %v: %v", time.Since(start), err)
	}
}

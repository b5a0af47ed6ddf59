// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// A kernel that is not preempted in a system call (PREEMPT_NONE, PREEMPT_VOLUNTARY) lets
// even SCHED_FIFO wait for its end: one sendmsg of a commit is a millisecond.
// So the election has a processor that the daemon's long system calls leave
// alone: the last one that the daemon may use, if it may use more than one.

// processors gives the election's processor and the set of the others; false:
// there is only one.
func processors() (election unix.CPUSet, others unix.CPUSet, ok bool) {
	if err := unix.SchedGetaffinity(os.Getpid(), &others); err != nil || others.Count() < 2 {
		return election, others, false
	}
	last := 0
	for i, n := 0, others.Count(); n > 0; i++ {
		if others.IsSet(i) {
			last = i
			n--
		}
	}
	election.Set(last)
	others.Clear(last)
	return election, others, true
}

// LeaveProcessor locks the goroutine to its thread and keeps it off the
// election's processor. It is for what spends long in one system call.
func LeaveProcessor() error {
	runtime.LockOSThread()
	_, others, ok := processors()
	if !ok {
		return nil
	}
	if err := unix.SchedSetaffinity(0, &others); err != nil {
		return fmt.Errorf("leave the processor of the election: %w", err)
	}
	return nil
}

// takeProcessor gives the election's processor to the calling thread, and the
// others to the rest of the process.
func takeProcessor() error {
	election, others, ok := processors()
	if !ok {
		return nil
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil || tid == unix.Gettid() {
			continue
		}
		if err := unix.SchedSetaffinity(tid, &others); err != nil && err != unix.ESRCH {
			return err
		}
	}
	return unix.SchedSetaffinity(0, &election)
}

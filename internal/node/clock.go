// SPDX-License-Identifier: Apache-2.0

package node

import (
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is CLOCK_MONOTONIC in nanoseconds, the clock of bpf_ktime_get_ns. It
// is read some times for each datagram: by the runtime, which needs no system
// call for it, from one reading that did.
func monotonic() int64 { return clockBase + int64(time.Since(clockStart)) }

var (
	clockStart = time.Now()
	clockBase  = systemClock()
)

// systemClock is CLOCK_MONOTONIC at clockStart. We may be off the processor
// between the two readings: of several the tightest counts.
func systemClock() (base int64) {
	best := time.Hour
	for range 16 {
		before := time.Since(clockStart)
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic("CLOCK_MONOTONIC cannot be read: " + err.Error())
		}
		after := time.Since(clockStart)
		if after-before < best {
			best, base = after-before, ts.Nano()-int64(before+after)/2
		}
	}
	return base
}

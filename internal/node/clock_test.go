// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// monotonic is the kernel's clock, to what a reading of it takes.
func TestMonotonicIsTheKernels(t *testing.T) {
	best := time.Hour
	for range 200 {
		before := monotonic()
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		after := monotonic()
		off := time.Duration(max(before-ts.Nano(), ts.Nano()-after))
		best = min(best, max(off, 0))
	}
	if best > 50*time.Microsecond {
		t.Errorf("it is off by %s at least", best)
	}
}

func BenchmarkMonotonic(b *testing.B) {
	for b.Loop() {
		monotonic()
	}
}

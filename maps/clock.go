// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"os"
	"strconv"
	"strings"
)

// ahead is how far CLOCK_MONOTONIC of this process's time namespace is ahead
// of the kernel's own, in nanoseconds. Programs know the kernel's only
// (bpf_ktime_get_ns); all that passes through this package is in the process's.
// Outside of a time namespace it is 0 (time_namespaces(7)).
var ahead = timeOffset("/proc/self/timens_offsets")

func timeOffset(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0 // a kernel before 5.6, or without time namespaces
	}
	return parseTimeOffset(string(text))
}

// parseTimeOffset reads "monotonic SECONDS NANOSECONDS" among other clocks.
func parseTimeOffset(text string) int64 {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "monotonic" {
			continue
		}
		sec, err := strconv.ParseInt(f[1], 10, 64)
		nsec, err2 := strconv.ParseInt(f[2], 10, 64)
		if err == nil && err2 == nil {
			return sec*1e9 + nsec
		}
	}
	return 0
}

// fromKernel turns a program's time into the process's.
func fromKernel(at uint64) int64 { return int64(at) + ahead }

// toKernel turns a time of the process into one for a program. 0 stays 0: no
// time; what would be at or before the kernel's first instant is that instant.
func toKernel(at int64) int64 {
	if at == 0 {
		return 0
	}
	return max(at-ahead, 1)
}

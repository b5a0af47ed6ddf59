// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/tandem-ha/tandem/bpf"
)

// Counters sums the per-CPU counters of a program over all CPUs. T is one of
// the counter structs of include/shared.h.
func Counters[T bpf.FlowCounters | bpf.AdvertCounters | bpf.FenceCounters | bpf.SyncCounters](m *ebpf.Map) (sum T, err error) {
	var each []T
	if err := m.Lookup(uint32(0), &each); err != nil {
		return sum, fmt.Errorf("read counters of %s: %w", m, err)
	}
	words := unsafe.Sizeof(sum) / 8
	to := unsafe.Slice((*uint64)(unsafe.Pointer(&sum)), words)
	for i := range each {
		for j, v := range unsafe.Slice((*uint64)(unsafe.Pointer(&each[i])), words) {
			to[j] += v
		}
	}
	return sum, nil
}

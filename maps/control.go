// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// shared maps the memory of a program's .bss section, which holds one struct
// of include/shared.h.
func shared(section *ebpf.Map) ([]byte, error) {
	mem, err := unix.Mmap(section.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory of %s: %w", section, err)
	}
	return mem, nil
}

// FlowControl is struct flow_control, shared with tandem_flow.
type FlowControl struct{ mem []byte }

// OpenFlowControl maps it from the collection's .bss.
func OpenFlowControl(section *ebpf.Map) (*FlowControl, error) {
	mem, err := shared(section)
	return &FlowControl{mem}, err
}

// Wait announces that the reader sleeps: the next record wakes it. After it
// the reader must look at the ring once more (Ring.Pending).
func (c *FlowControl) Wait() { (*atomic.Uint32)(unsafe.Pointer(&c.mem[0])).Store(1) }

// Awake withdraws Wait: records come without a wakeup.
func (c *FlowControl) Awake() { (*atomic.Uint32)(unsafe.Pointer(&c.mem[0])).Store(0) }

// Forget makes every flow be told again with its next packet.
func (c *FlowControl) Forget() { (*atomic.Uint32)(unsafe.Pointer(&c.mem[4])).Add(1) }

// Close unmaps it.
func (c *FlowControl) Close() error { return unix.Munmap(c.mem) }

// FenceControl is struct fence_control, shared with the fence's programs.
type FenceControl struct{ mem []byte }

// OpenFenceControl maps it from the collection's .bss.
func OpenFenceControl(section *ebpf.Map) (*FenceControl, error) {
	mem, err := shared(section)
	return &FenceControl{mem}, err
}

// SetDeadline raises the fence until then (CLOCK_MONOTONIC, ns); 0 lowers it.
func (c *FenceControl) SetDeadline(ns int64) {
	(*atomic.Int64)(unsafe.Pointer(&c.mem[0])).Store(toKernel(ns))
}

// Deadline is what stands there.
func (c *FenceControl) Deadline() int64 { return (*atomic.Int64)(unsafe.Pointer(&c.mem[0])).Load() }

// SetSyncPort names the UDP port of the sync link, 0 for none.
func (c *FenceControl) SetSyncPort(port uint16) {
	(*atomic.Uint32)(unsafe.Pointer(&c.mem[8])).Store(uint32(port))
}

// Close unmaps it.
func (c *FenceControl) Close() error { return unix.Munmap(c.mem) }

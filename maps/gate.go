// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/bpf"
)

// SyncWindows is memory shared with tandem_sync: for each of a few pairs what
// was received of it.
type SyncWindows struct {
	mem []byte
	all []bpf.SyncWindow
}

// OpenSyncWindows maps them from the collection's tandem_windows.
func OpenSyncWindows(m *ebpf.Map) (*SyncWindows, error) {
	n := int(m.MaxEntries())
	mem, err := unix.Mmap(m.FD(), 0, n*int(unsafe.Sizeof(bpf.SyncWindow{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map windows of %s: %w", m, err)
	}
	return &SyncWindows{mem, unsafe.Slice((*bpf.SyncWindow)(unsafe.Pointer(&mem[0])), n)}, nil
}

// Len is how many there are.
func (w *SyncWindows) Len() int { return len(w.all) }

// Set writes one: the highest sequence received, and for it and those below
// the bit of their number modulo the window's size. The bits come first, so
// that whoever reads meanwhile takes nothing for received that was not.
func (w *SyncWindows) Set(i int, highest uint64, bits *[len(bpf.SyncWindow{}.Bits)]uint64) {
	to := &w.all[i]
	if bits == nil {
		bits = new([len(bpf.SyncWindow{}.Bits)]uint64)
	}
	for j := range bits { // most stand as they are, and a store is a locked one
		if to.Bits[j] != bits[j] {
			atomic.StoreUint64(&to.Bits[j], bits[j])
		}
	}
	atomic.StoreUint64(&to.Highest, highest)
}

// Close unmaps them.
func (w *SyncWindows) Close() error { return unix.Munmap(w.mem) }

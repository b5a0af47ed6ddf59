// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// pulse is a bare thread on each processor that sleeps for a millisecond at a
// time. By how much it overslept is what the machine did to everybody.
type pulse struct {
	most atomic.Int64 // overslept at a time, ns
	stop atomic.Bool
	wg   sync.WaitGroup
}

func newPulse() *pulse {
	p := &pulse{}
	for cpu := range runtime.NumCPU() {
		p.wg.Go(func() { p.beat(cpu) })
	}
	return p
}

func (p *pulse) beat(cpu int) {
	runtime.LockOSThread() // and never unlocked: the thread ends with its affinity
	var set unix.CPUSet
	set.Set(cpu)
	_ = unix.SchedSetaffinity(0, &set) // refused: wherever it may run
	nap := unix.NsecToTimespec(int64(time.Millisecond))
	for !p.stop.Load() {
		began := netlab.Now()
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &nap, nil)
		over := netlab.Now() - began - int64(time.Millisecond)
		for most := p.most.Load(); over > most && !p.most.CompareAndSwap(most, over); most = p.most.Load() {
		}
	}
}

// worst is the longest since it was asked before.
func (p *pulse) worst() time.Duration { return time.Duration(p.most.Swap(0)) }

func (p *pulse) close() {
	p.stop.Store(true)
	p.wg.Wait()
}

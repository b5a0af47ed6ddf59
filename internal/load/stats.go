// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clock reads CLOCK_MONOTONIC.
func clock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprintf("load: read CLOCK_MONOTONIC: %v", err))
	}
	return ts.Nano()
}

// realOffset is CLOCK_REALTIME minus CLOCK_MONOTONIC, to convert the kernel's
// receive times. Of several readings the tightest pair counts.
func realOffset() int64 {
	best, offset := int64(1<<62), int64(0)
	for range 8 {
		before := clock()
		now := time.Now().UnixNano()
		after := clock()
		if after-before < best {
			best, offset = after-before, now-(before+after)/2
		}
	}
	return offset
}

// Gaps is the spread of one figure per flow.
type Gaps struct {
	N             int
	Some          int // flows that have any
	P50, P99, Max time.Duration
}

// gapsOf takes the nearest-rank percentiles.
func gapsOf(d []time.Duration) Gaps {
	if len(d) == 0 {
		return Gaps{}
	}
	slices.Sort(d)
	rank := func(p int) time.Duration { return d[max(0, (len(d)*p+99)/100-1)] }
	none := sort.Search(len(d), func(i int) bool { return d[i] > 0 })
	return Gaps{N: len(d), Some: len(d) - none, P50: rank(50), P99: rank(99), Max: d[len(d)-1]}
}

func (g Gaps) String() string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/1e6) }
	return fmt.Sprintf("p50 %s / p99 %s / max %s ms", ms(g.P50), ms(g.P99), ms(g.Max))
}

// meter is the progress of one flow.
type meter struct {
	mu    sync.Mutex
	mark  int64 // progress before it belongs to the window before
	last  int64 // when something arrived, and was right
	worst int64 // longest standstill that ended in this window, ns
	err   error // what broke it
}

// hit notes that something arrived that had been due since a time; due 0
// means that nothing was late.
func (m *meter) hit(at, due int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = max(m.last, at)
	if due != 0 && at > m.mark {
		m.worst = max(m.worst, at-due)
	}
}

func (m *meter) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
	}
}

func (m *meter) reset(mark int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mark, m.worst = mark, 0
}

// read returns when it last progressed, the longest standstill that ended, and
// what broke it.
func (m *meter) read() (last, worst int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, m.worst, m.err
}

// Silence is the longest time in which not one packet reached any endpoint:
// From is when the last one before it came, To when the first one after it.
type Silence struct{ From, To int64 }

// Length of the silence.
func (s Silence) Length() time.Duration { return time.Duration(s.To - s.From) }

// arrivals collects the times at which packets of any flow arrived.
type arrivals struct {
	mu sync.Mutex
	at []int64
}

func (a *arrivals) add(at int64) {
	a.mu.Lock()
	a.at = append(a.at, at)
	a.mu.Unlock()
}

// reset forgets what came more than a second before the mark; the rest is
// needed to know when the last packet before a silence came.
func (a *arrivals) reset(mark int64) {
	a.mu.Lock()
	a.at = slices.DeleteFunc(a.at, func(at int64) bool { return at < mark-int64(time.Second) })
	a.mu.Unlock()
}

// silence looks for the longest one.
func (a *arrivals) silence() (s Silence) {
	a.mu.Lock()
	at := slices.Clone(a.at)
	a.mu.Unlock()
	slices.Sort(at)
	for i := 1; i < len(at); i++ {
		if at[i]-at[i-1] > s.To-s.From {
			s = Silence{From: at[i-1], To: at[i]}
		}
	}
	return s
}

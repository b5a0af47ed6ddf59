// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/conntrack"
)

var errFlowRecord = errors.New("parse flow record: wrong size, family or verdict")

// TicksPerSecond is the kernel's HZ: the coarse clock's resolution is one
// jiffy (TICK_NSEC).
func TicksPerSecond() uint32 {
	var ts unix.Timespec
	if unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &ts) != nil || ts.Nano() <= 0 {
		return 250
	}
	return uint32((1_000_000_000 + ts.Nano()/2) / ts.Nano())
}

// ParseFlow reads a record of tandem_flow into f; hz is TicksPerSecond. at is
// CLOCK_MONOTONIC in nanoseconds, verdict Replicate or Gone. It
// does not allocate.
func ParseFlow(rec []byte, hz uint32, f *conntrack.Flow) (at int64, verdict conntrack.Verdict, err error) {
	if len(rec) != int(unsafe.Sizeof(bpf.FlowRecord{})) {
		return 0, conntrack.Ignore, errFlowRecord
	}
	r := (*bpf.FlowRecord)(unsafe.Pointer(&rec[0]))
	if r.Family != conntrack.IPv4 && r.Family != conntrack.IPv6 || r.Verdict != flowReplicate && r.Verdict != flowGone {
		return 0, conntrack.Ignore, errFlowRecord
	}
	*f = conntrack.Flow{
		Orig:    conntrack.Tuple{Src: addr(&r.Orig.Src), Dst: addr(&r.Orig.Dst), SrcPort: r.Orig.Sport, DstPort: r.Orig.Dport},
		Reply:   conntrack.Tuple{Src: addr(&r.Reply.Src), Dst: addr(&r.Reply.Dst), SrcPort: r.Reply.Sport, DstPort: r.Reply.Dport},
		Status:  conntrack.Status(r.Status),
		Mark:    r.Mark,
		Timeout: seconds(r.Timeout, hz),
		Zone:    r.Zone,
		Family:  r.Family,
		Proto:   r.Proto,
		TCP:     conntrack.TCP{State: conntrack.TCPState(r.State), Flags: r.Flags, Scale: r.Scale},
	}
	verdict = conntrack.Replicate
	if r.Verdict == flowGone {
		verdict = conntrack.Gone
	}
	return fromKernel(r.At), verdict, nil
}

// enum flow_verdict of include/shared.h
const (
	flowReplicate = 1
	flowGone      = 2
)

func addr(words *[4]uint32) conntrack.Addr {
	return *(*conntrack.Addr)(unsafe.Pointer(words))
}

// seconds rounds jiffies up: an entry that lives has time left. Negative ones
// (the entry's time is up, nobody looked yet) are 0.
func seconds(jiffies, hz uint32) uint32 {
	if int32(jiffies) <= 0 {
		return 0
	}
	return (jiffies + hz - 1) / hz
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"net/netip"
	"time"

	"github.com/tandem-ha/tandem/vrrp"
)

// Status is what the child publishes in shared memory; reading it costs the
// child nothing.
type Status struct {
	Groups     []GroupStatus
	Interfaces []InterfaceStatus
	Sent       Histogram // lateness of each periodic advert, after it was handed to the device
	Decided    Histogram // lateness of the decision that an Active is gone
	RingMissed uint64    // adverts that only the raw sockets saw while a ring was there
	Unsent     uint64    // messages to the daemon that found its socket full
}

// GroupStatus is one group.
type GroupStatus struct {
	Name, Set, Interface string
	VRID                 uint8
	State                vrrp.State
	Reason               string // why the group is in Initialize, "" else
	Fault                bool   // Reason is a fault of this group
	Priority             uint8  // effective
	Active               netip.Addr
	ActivePriority       uint8
	ActiveInterval       time.Duration
	Since                int64 // of State, CLOCK_MONOTONIC ns
	WouldPreempt         bool
	Conflict             bool // another Active is heard
	AddressesIn          bool
	Checksum             vrrp.Checksum // of the next advert; version 3 over IPv4 alone has a choice
	PeerChecksum         vrrp.Checksum // of the last one heard, vrrp.ChecksumAuto: none was
	Counters             vrrp.Counters
}

// InterfaceStatus is one interface that carries groups.
type InterfaceStatus struct {
	Name     string
	Counters vrrp.InterfaceCounters
}

// Bounds are the upper bounds of a Histogram's buckets in microseconds; one
// more bucket holds what is above the last.
var Bounds = [...]int64{
	10, 20, 50, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000,
	10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
}

// Histogram counts lateness in microseconds.
type Histogram struct {
	Buckets [len(Bounds) + 1]uint64 // not cumulative
	Sum     uint64                  // microseconds
	Max     uint64                  // microseconds
}

// Count is the number of observations.
func (h *Histogram) Count() uint64 {
	var n uint64
	for _, b := range h.Buckets {
		n += b
	}
	return n
}

// Quantile is the upper bound, in microseconds, of the bucket that holds
// quantile q (0..1); what is above the last bound counts as Max.
func (h *Histogram) Quantile(q float64) int64 {
	want := uint64(q * float64(h.Count()))
	var n uint64
	for i, b := range h.Buckets {
		n += b
		if n > want && i < len(Bounds) {
			return Bounds[i]
		}
	}
	return int64(h.Max)
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"net/netip"
	"time"

	"github.com/tandem-ha/tandem/vrrp"
)

// Event is what the election tells the daemon: one of the types below.
// At is CLOCK_MONOTONIC in nanoseconds, read in the child when it happened.
// Term counts the promotions of a set; the answer to an event names its term,
// so that a late answer to a former promotion changes nothing.
type Event interface{ event() }

// Ready says that the child runs, has removed what a former one left behind,
// and watches its interfaces. It is the first event.
type Ready struct {
	RealTime string // "" or why the child runs without SCHED_FIFO or locked memory
	Ring     bool   // adverts are taken from the ring; else from the raw sockets
	At       int64
}

// Promoting says that a set is Active and its first advert is out. The
// addresses wait for Process.Fenced; without it within Config.GateTimeout the
// set sends priority 0 and goes back to Backup (Demoting, cause refused).
type Promoting struct {
	Set     string
	Term    uint32
	Cause   vrrp.Cause    // timeout, priority-zero, handed-over, owner
	Silence time.Duration // since the last advert of the former Active; 0: none was ever heard
	At      int64
}

// AddressesIn says that the set's addresses are in and announced once.
type AddressesIn struct {
	Set  string
	Term uint32
	At   int64
}

// Demoting says that a set left Active: its adverts have stopped, priority 0
// is out where the RFC wants one. The addresses wait for Process.Released for
// at most Config.ReleaseTimeout.
type Demoting struct {
	Set   string
	Term  uint32
	Cause vrrp.Cause // higher-priority, interface-down, unwell, maintenance, shutdown, handed-over, overslept, refused
	At    int64
}

// AddressesOut says that the set's addresses are gone. It follows each
// Demoting, also when none had been put in, unless the set was promoted again
// before: then the Promoting of the next term follows instead.
type AddressesOut struct {
	Set  string
	Term uint32
	At   int64
}

// Changed says that a set went from one state to another; it comes before
// the Promoting or Demoting of the same instant.
type Changed struct {
	Set      string
	From, To vrrp.State
	Reason   string // for Initialize: why the set waits, e.g. "LAN: interface eth0 is down"
	At       int64
}

// WouldPreempt says that a Backup outranks the Active and only the missing
// permission (Process.AllowPreempt) or hand-over keeps it from the role.
type WouldPreempt struct {
	Set string
	On  bool
	At  int64
}

// AlarmKind names an Alarm.
type AlarmKind uint8

// Alarms.
const (
	// AlarmSilent: a member of a sync group hears no Active while the others do.
	AlarmSilent AlarmKind = iota + 1
	// AlarmConflict: two Actives; Peer is the other one, which we outrank.
	AlarmConflict
	// AlarmAddress: an address could not be put in, or was removed by others.
	AlarmAddress
	// AlarmSend: the kernel refuses our adverts.
	AlarmSend
	// AlarmDoubt: no advert is heard, and the Active says over the second path
	// that it sends them.
	AlarmDoubt
)

// String is the alarm in the words of events and metrics.
func (k AlarmKind) String() string {
	switch k {
	case AlarmSilent:
		return "silent-member"
	case AlarmConflict:
		return "conflict"
	case AlarmAddress:
		return "address"
	case AlarmSend:
		return "send"
	case AlarmDoubt:
		return "second-path"
	default:
		return "unknown"
	}
}

// Alarm begins (On) or ends something an operator should know.
type Alarm struct {
	Set, Group string
	Kind       AlarmKind
	On         bool
	Peer       netip.Addr // AlarmConflict
	Text       string
	At         int64
}

// Rival says that another router is Active, which this one outranks: at the
// first of its adverts, and once a second while they come. It may have the
// hosts' traffic; Process.Announce brings it here.
type Rival struct {
	Set  string
	Peer netip.Addr
	At   int64
}

// Refused answers a TakeOver or HandOver that the set's state did not allow.
type Refused struct {
	Set  string
	What string // "take-over" or "hand-over"
	At   int64
}

// Ended says that a set is gone which Process.End ended: the last word of it. Its
// name is free for Begin.
type Ended struct {
	Set    string
	Groups []string
	At     int64
}

// Exited is the last event: the child is gone, the channel is closed after
// it. Err is nil after Stop. Addresses that a killed child left vanish by
// themselves within 4 s; vip.Cleanup removes them at once.
type Exited struct{ Err error }

func (Ready) event()        {}
func (Promoting) event()    {}
func (AddressesIn) event()  {}
func (Demoting) event()     {}
func (AddressesOut) event() {}
func (Changed) event()      {}
func (WouldPreempt) event() {}
func (Alarm) event()        {}
func (Rival) event()        {}
func (Refused) event()      {}
func (Ended) event()        {}
func (Exited) event()       {}

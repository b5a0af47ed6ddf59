// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"bytes"
	"net/netip"
)

const (
	centisecond = int64(10_000_000)
	second      = int64(1_000_000_000)
)

// Config is one virtual router's configuration.
type Config struct {
	Version      uint8 // 2 (RFC 3768, IPv4 alone) or 3
	VRID         uint8 // 1-255
	Priority     uint8 // 1-255, 255: owner of the addresses
	Preempt      bool  // Preempt_Mode; the owner preempts always
	Interval     int64 // Advertisement_Interval in ns, 10 ms - 40.95 s; v2: 1 - 255 whole seconds
	PreemptDelay int64 // ns between the first lower advert and preemption
	Checksum     Checksum
	AuthType     uint8          // v2: AuthNone, AuthText
	Auth         [authSize]byte // v2: the password, padded with zeroes
	Addresses    []byte         // the advertised list as on the wire
}

// Instance is one virtual router, RFC 9568 section 6: its timers and what it
// knows of the Active. It belongs to a Set, which alone changes its state.
type Instance struct {
	cfg    Config
	source netip.Addr // our primary address, for the tie-break of section 6.4.3

	adver   int64 // Adver_Timer: deadline, 0 stopped
	down    int64 // Active_Down_Timer: deadline, 0 stopped
	delay   int64 // preempt delay: deadline, 0 not armed
	waited  bool  // the preempt delay is over
	expired int64 // when Active_Down_Timer ran out (its deadline), 0 has not; Backup only
	rearmed bool  // an overslept Active_Down_Timer was given one interval, once per silence
	zero    bool  // Active_Down_Timer stands at Skew_Time, because of priority 0
	outrank bool  // the Active that is heard is lower, preemption is wanted
	fault   bool
	unwell  bool // what is tracked beside the interface: see SetUnwell

	activeInterval int64      // Active_Adver_Interval, adopted from the wire
	followed       netip.Addr // whose advert armed Active_Down_Timer last
	armed          int64      // kernel time of that advert
	onWord         int64      // when followed was taken for the heir, which has to be said again; 0: it need not
	peer           netip.Addr
	peerPriority   uint8
	peerSum        Checksum // what the peer's checksums cover
	heard          int64    // kernel time of the last advert of another router, 0 never
	sent           int64    // last advert of ours
	former         int64    // the interval before a longer one: see pace
	again          int      // adverts still sent at that pace
	replied        int64    // last advert sent at once against a losing one
	rivals         int      // losing adverts in this conflict
	rivalUntil     int64    // the conflict ends, 0 none

	count Counters
}

// verdict is what an advert means for the whole set.
type verdict uint8

const (
	verdictNone  verdict = iota
	verdictLost          // Active: another one outranks us
	verdictRival         // Active: another one, which we outrank
	verdictGone          // Active: another one released
)

// skewTime is Skew_Time, section 6.1. Multiply before dividing.
func (in *Instance) skewTime() int64 {
	if in.cfg.Version == 2 {
		return (256 - int64(in.cfg.Priority)) * second / 256
	}
	return (256 - int64(in.cfg.Priority)) * in.activeInterval / 256
}

// activeDown is Active_Down_Interval, section 6.1.
func (in *Instance) activeDown() int64 { return 3*in.activeInterval + in.skewTime() }

// startup arms the timer of a new Backup.
func (in *Instance) startup(now int64) {
	in.reset()
	in.activeInterval = in.cfg.Interval
	in.down = now + in.activeDown()
}

// reset forgets everything but identity, counters and the peer's checksum.
func (in *Instance) reset() {
	in.adver, in.down, in.delay, in.expired = 0, 0, 0, 0
	in.waited, in.rearmed, in.zero, in.outrank = false, false, false, false
	in.followed, in.armed, in.onWord = netip.Addr{}, 0, 0
	in.peer, in.peerPriority, in.heard = netip.Addr{}, 0, 0
	in.rivals, in.rivalUntil, in.replied = 0, 0, 0
	in.again = 0
}

// activate arms the timer of a new Active, whose first advert goes out now.
func (in *Instance) activate(now int64) {
	in.reset()
	in.activeInterval = in.cfg.Interval
	in.adver = now + in.cfg.Interval
	in.count.MasterTransitions++
}

// deactivate arms the timer of a former Active: a full Active_Down_Interval.
func (in *Instance) deactivate(now int64) {
	in.reset()
	in.down = now + in.activeDown()
}

// note records who spoke; every advert that passed the checks comes here.
func (in *Instance) note(a *Advert, src netip.Addr, at int64) {
	in.count.RcvdAdvertisements++
	in.heard, in.peer, in.peerPriority, in.peerSum = at, src, a.Priority, a.Checksum
	if a.Priority == 0 {
		in.count.RcvdPriZeroPackets++
	}
	if !bytes.Equal(a.Addresses, in.cfg.Addresses) {
		in.count.AddressListErrors++
	}
}

// adopt takes the Active's interval from the wire and arms
// Active_Down_Timer, both from the instant the kernel saw the advert.
func (in *Instance) adopt(a *Advert, at int64) {
	if in.cfg.Version == 3 && in.activeInterval != a.Interval {
		in.activeInterval = a.Interval
		in.count.IntervalChanges++
	}
	in.down = at + in.activeDown()
	in.followed, in.armed = in.peer, at
	in.expired, in.rearmed, in.zero = 0, false, false
}

// isStranger says whether a router that we outrank, and that spoke just now, is
// not the one that was followed so far.
func (in *Instance) isStranger() bool { return in.followed.IsValid() && in.peer != in.followed }

// heardInBackup is section 6.4.2, advert received.
func (in *Instance) heardInBackup(a *Advert, at int64, allowed bool) {
	lower := a.Priority < in.cfg.Priority
	switch {
	case a.Priority == 0:
		in.delay, in.waited, in.outrank = 0, false, false
		if in.expired == 0 {
			in.down = at + in.skewTime()
			in.zero, in.rearmed = true, false
		}
	case !lower || !in.preempts():
		in.delay, in.waited, in.outrank, in.onWord = 0, false, false, 0
		in.adopt(a, at)
	case in.mayPreempt(at):
		in.outrank = true
		if !allowed {
			if in.isStranger() {
				in.onWord = at
			}
			in.adopt(a, at)
		}
		// Else nothing: the timer keeps running and takes the role.
	default:
		in.adopt(a, at)
	}
}

// preempts: Preempt_Mode, which the owner always has.
func (in *Instance) preempts() bool { return in.cfg.Preempt || in.cfg.Priority == PriorityOwner }

// mayPreempt arms the preempt delay once and says whether it is over.
func (in *Instance) mayPreempt(at int64) bool {
	if in.cfg.PreemptDelay == 0 || in.waited || in.cfg.Priority == PriorityOwner {
		return true
	}
	if in.delay == 0 {
		in.delay = at + in.cfg.PreemptDelay
	}
	return false
}

// heardInActive is section 6.4.3, advert received.
func (in *Instance) heardInActive(a *Advert, src netip.Addr, at int64) verdict {
	switch {
	case a.Priority == 0:
		return verdictGone
	case a.Priority > in.cfg.Priority,
		a.Priority == in.cfg.Priority && in.source.IsValid() && src.Compare(in.source) > 0:
		return verdictLost
	}
	in.count.Conflicts++
	in.rivals++
	in.rivalUntil = at + 3*max(a.Interval, in.cfg.Interval) + in.cfg.Interval
	return verdictRival
}

// tickBackup runs Active_Down_Timer and the preempt delay. A timer found
// late by more than an interval is given one more first: while this process
// did not run, the Active's adverts may not have reached us either.
func (in *Instance) tickBackup(now int64) {
	if in.delay != 0 && now >= in.delay {
		in.delay, in.waited, in.outrank = 0, true, true
	}
	if in.down == 0 || now < in.down {
		return
	}
	if now-in.down > in.activeInterval && !in.rearmed {
		in.count.Oversleeps++
		in.rearmed = true
		in.down = now + in.activeInterval
		return
	}
	in.expired, in.down = in.down, 0
}

// tickActive runs Adver_Timer; due is the deadline that was reached, 0 none.
// The period keeps its phase unless whole intervals were missed.
func (in *Instance) tickActive(now int64) (due int64) {
	if in.adver == 0 || now < in.adver {
		return 0
	}
	due = in.adver
	if in.adver += in.step(); in.adver <= now {
		in.adver = now + in.cfg.Interval
		in.count.Oversleeps++
	}
	return due
}

// step is the time to the advert after the one of now.
func (in *Instance) step() int64 {
	if in.again > 0 {
		in.again--
		return in.former
	}
	return in.cfg.Interval
}

// overslept: a peer that adopted our interval may have taken over, since
// nothing was sent for its Active_Down_Interval (at least three intervals).
func (in *Instance) overslept(now int64) bool {
	return in.adver != 0 && now > in.patience()
}

// patience is how long a peer that adopted our interval waits at least.
func (in *Instance) patience() int64 { return in.sent + 3*in.cfg.Interval }

// silent: the timer ran out a full Active_Down_Interval ago, and no advert
// that was merely lower explains it.
func (in *Instance) silent(now int64) bool {
	return in.expired != 0 && now >= in.silentAt() && now-in.heard >= in.activeDown()
}

func (in *Instance) silentAt() int64 { return in.expired + in.activeDown() }

// drop counts an advert that failed a check.
func (c *Counters) drop(d Drop) {
	switch d {
	case DropGroup:
		c.VersionErrors++
	case DropSum:
		c.ChecksumErrors++
	case DropTTL:
		c.IPTTLErrors++
	case DropCount:
		c.CountErrors++
	case DropLength:
		c.PacketLengthErrors++
	case DropAuth:
		c.AuthTypeErrors++
	case DropSecret:
		c.AuthFailures++
	case DropZero, DropDiffers:
		c.AdvIntervalErrors++
	case DropLocal:
		c.LinkLocalErrors++
	}
}

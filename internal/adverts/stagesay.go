// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

// This file carries out what vip.Announcements plans, and says when it has to
// begin anew.

// announce begins a set's announcements, if its addresses are in.
func (st *stage) announce(ss *stageSet, now int64) {
	for i := range ss.virtual {
		if ss.in {
			st.said.Start(ss.virtual[i].announced, now)
		}
	}
}

// hush: the role is lost, or given away, and the addresses wait for the
// daemon's word to go. From now on nothing speaks for them: an announcement
// that was planned, or an answer from a virtual MAC, would call packets back
// from whoever has the role. What still comes is taken and forwarded.
func (st *stage) hush(ss *stageSet) {
	ss.hushed = true
	for i := range ss.virtual {
		st.said.Stop(ss.virtual[i].announced)
	}
	for _, m := range ss.macs {
		if m.index != 0 {
			complain(m.Mute(m.index))
		}
	}
}

// announceOn does so for the addresses on one interface.
func (st *stage) announceOn(wire string, now int64) {
	for _, ss := range st.sets {
		for j := range ss.virtual {
			if v := &ss.virtual[j]; ss.in && v.wire == wire {
				st.said.Start(v.announced, now)
			}
		}
	}
}

// say sends one announcement of an address that is in; i is its index among
// the announcements.
func (st *stage) say(i int, reply bool) {
	ss := st.spoken[i].set
	at := st.spoken[i].at
	v := &ss.virtual[at]
	l, ok := st.links[v.iface]
	if !ss.in || !st.speaks(ss, st.clock.now()) || ss.errs[at] != 0 || !ok || l.MAC == ([6]byte{}) || v.build(l.MAC) != nil {
		return
	}
	st.garp.Send(l.Index, v.says[bit(reply)])
}

// rivalFor is how long the word of a second Active counts.
const rivalFor = int64(2 * time.Second)

// holdRefreshes: in a parted network the peer is Active as well, and says so
// elsewhere. When the parts are joined its flows are still unknown here, and a
// refresh in the moment before its first advert would call their packets. What
// the daemon orders then is announced all the same.
func (st *stage) holdRefreshes(now int64) {
	at := int64(st.vouched.Load())
	if at == 0 || now-at >= rivalFor {
		return
	}
	for _, ss := range st.sets {
		for i := range ss.virtual {
			if ss.vouched {
				st.said.Hold(ss.virtual[i].announced, now+int64(time.Second))
			}
		}
	}
}

// spoken is where an announcement's address is.
type spoken struct {
	set *stageSet
	at  int // in its virtual
}

// moved: hosts and switches may have lost what they knew of the addresses on
// this interface.
func moved(old, now vip.Link) bool {
	return now.Moved || (now.Up && !old.Up) || (old.MAC != now.MAC && old.MAC != [6]byte{})
}

// build makes the messages anew only when the MAC changed.
func (v *virtual) build(mac [6]byte) (err error) {
	if v.says[0] != nil && v.mac == mac {
		return nil
	}
	v.mac = mac
	ip := v.prefix.Addr()
	if ip.Is6() {
		v.says[0], err = vip.NA(ip, mac)
		v.says[1] = v.says[0]
		return err
	}
	if v.says[0], err = vip.GARP(ip, mac, false); err == nil {
		v.says[1], err = vip.GARP(ip, mac, true)
	}
	return err
}

// sleeps finds the suspends of the machine, which CLOCK_MONOTONIC leaves out
// and CLOCK_BOOTTIME counts: another router may have announced itself meanwhile.
type sleeps struct {
	asleep int64
	known  bool
}

// longSleep is beyond what lies between two readings of clocks.
const longSleep = int64(50_000_000)

// slept is how long one lasted that ended since the last call, 0: none did.
func (s *sleeps) slept(monotonic, boot int64) int64 {
	before, known := s.asleep, s.known
	s.asleep, s.known = boot-monotonic, true
	if d := s.asleep - before; known && d > longSleep {
		return d
	}
	return 0
}

func (st *stage) lookForSleep(now int64) {
	d := st.sleeps.slept(now, kernelClock(unix.CLOCK_BOOTTIME))
	if d == 0 {
		return
	}
	for _, ss := range st.sets {
		if until := ss.sure.Load(); now+d > until {
			ss.doubt = until
		}
		st.announce(ss, now)
	}
}

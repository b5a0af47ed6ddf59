// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

// makeEvery is how often a virtual MAC device is tried that cannot be made.
const makeEvery = int64(time.Second)

// stageMAC is the device of one group's virtual MAC. It is made when the
// parent is there, and made anew with it; until then the group waits.
type stageMAC struct {
	*vip.MAC
	group  uint16
	index  int32 // 0: it is not there
	tried  int64
	failed string
}

// makeMACs makes the devices that are not there.
func (st *stage) makeMACs(now int64) {
	for _, ss := range st.sets {
		for _, m := range ss.macs {
			if _, there := st.links[m.Parent]; m.index == 0 && there && (m.tried == 0 || now >= m.tried+makeEvery) {
				st.makeMAC(ss, m, now)
			}
		}
	}
}

func (st *stage) makeMAC(ss *stageSet, m *stageMAC, now int64) {
	m.tried = now
	index, err := m.Create()
	if err != nil {
		if text := err.Error(); text != m.failed { // once, not every second
			m.failed = text
			fmt.Fprintln(os.Stderr, "adverts:", text)
		}
		st.report(report{kind: reportMAC, set: ss.slot, group: m.group})
		return
	}
	m.index, m.failed = index, ""
	st.links[m.Name()] = vip.Link{Index: index, Name: m.Name(), MAC: m.Addr()}
	st.report(report{kind: reportMAC, set: ss.slot, group: m.group, on: true})
	if ss.in { // somebody removed it
		st.plan(ss)
		st.mend(ss)
	}
}

// checkMACs holds every device against the links, which were read anew.
func (st *stage) checkMACs() {
	for _, ss := range st.sets {
		for _, m := range ss.macs {
			l := st.links[m.Name()]
			if l.Index != m.index {
				l = vip.Link{Index: m.index, Deleted: true}
			}
			st.watchMAC(l)
		}
	}
}

// nextMAC is when a device is tried again, 0 never.
func (st *stage) nextMAC() int64 {
	next := int64(0)
	for _, ss := range st.sets {
		for _, m := range ss.macs {
			if _, there := st.links[m.Parent]; m.index == 0 && there && (next == 0 || m.tried+makeEvery < next) {
				next = m.tried + makeEvery
			}
		}
	}
	return next
}

// raise sets up the devices of an Active.
func (st *stage) raise(ss *stageSet) {
	for _, m := range ss.macs {
		if m.index != 0 && !ss.hushed {
			complain(m.Up(m.index))
		}
	}
}

// removeMAC removes the device of a set that ends. What its parent had before is
// put back by the last device on it.
func (st *stage) removeMAC(m *stageMAC) {
	var heir *stageMAC
	for _, ss := range st.sets {
		for _, other := range ss.macs {
			if other.Parent == m.Parent {
				heir = other
			}
		}
	}
	if heir != nil {
		complain(m.Bequeath(heir.MAC, heir.index))
	}
	complain(m.Remove(m.index))
	delete(st.links, m.Name())
}

// leave removes every device, and waits for those that linger.
func (st *stage) leave() {
	for _, ss := range st.sets {
		if ss.out != 0 {
			time.Sleep(time.Duration(ss.out - st.clock.now()))
			st.takeOut(ss)
		}
	}
	_, err := vip.RemoveMACs()
	complain(err)
}

// watchMAC holds what the kernel says of a device against what it ought to be.
func (st *stage) watchMAC(l vip.Link) {
	for _, ss := range st.sets {
		for _, m := range ss.macs {
			if m.index == 0 || l.Index != m.index {
				continue
			}
			switch {
			case l.Deleted:
				m.index, m.tried = 0, 0 // made anew in this turn, if the parent is there
			case ss.in && !l.Admin && !m.IsUp(m.index): // the notice may be older than our own word
				st.down(ss, m)
			case !ss.in && ss.out == 0 && l.Admin:
				complain(m.Down(m.index))
			}
		}
	}
}

// down: someone set an Active's device down. Its addresses are as good as gone.
func (st *stage) down(ss *stageSet, m *stageMAC) {
	for i := range ss.virtual {
		v := &ss.virtual[i]
		if v.iface == m.Name() && v.failed == 0 {
			v.failed = unix.ENETDOWN
			st.report(report{kind: reportAddress, set: ss.slot, group: v.group, port: v.index, errno: v.failed, on: true})
		}
	}
	st.mend(ss)
}

// SPDX-License-Identifier: Apache-2.0

package takeover

// Another election (failover-mechanism.external) says who is Active and moves
// the addresses; this machine does the rest in the same order. It hears of a
// promotion when the addresses are in, and of a demotion when they are out.

// foreignTakeover is `tandem takeover`: answered when the fence is down.
func (m *Machine) foreignTakeover(now int64, ev Event) {
	switch {
	case m.stage == stageActive:
		m.answer(ev.Order, Action{On: true, Already: true, Active: m.name, Note: m.name + " is Active already"})
		return
	case ev.On && !m.Active():
		m.resume(ev.Cause)
		m.answer(ev.Order, Action{On: true, Active: m.name, Note: m.name + " is Active"})
		return
	case !m.Active():
		m.promote(now, ev.Cause)
	}
	m.wish.orders = append(m.wish.orders, ev.Order)
}

// resume is a takeover of a process that starts where the addresses have been
// before: what is in this kernel table is the truth, a peer's copy adds what is
// missing, and there is nothing to fence.
func (m *Machine) resume(cause string) {
	m.nextTerm()
	m.knowTerms()
	m.released, m.resumed = false, true
	m.do(Action{Kind: ActResume})
	m.do(Action{Kind: ActSetActive, On: true})
	m.note("takeover: " + cause)
	m.activate()
}

// depart is a clean stop where another election leaves the addresses here: the
// router goes on, so no fence, and nothing of a peer is written over what it
// forwards.
func (m *Machine) depart() {
	m.stage, m.released = stageBackup, true
	m.note("yield: stopped by the operator")
	m.fail(m.name + " is stopping")
	m.do(Action{Kind: ActRush, On: false})
	m.do(Action{Kind: ActPause, D: m.timing.YieldFence})
	m.do(Action{Kind: ActRelease})
	m.do(Action{Kind: ActSetActive, On: false})
	m.do(Action{Kind: ActFenceDown})
}

// foreignYield is `tandem yield`: answered when the release is out.
func (m *Machine) foreignYield(now int64, ev Event) {
	if !m.Active() {
		m.answer(ev.Order, Action{On: true, Already: true, Note: m.name + " is not Active"})
		return
	}
	m.demote(now, ev.Cause)
	m.answer(ev.Order, Action{On: true, Note: m.name + " has released the role"})
}

// foreignAddress: the address is here and the order is on its way, through a
// script. Until it comes the fence stands, as long as one sign of life holds.
func (m *Machine) foreignAddress() {
	if m.external && !m.Active() && !m.stopping {
		m.do(Action{Kind: ActFenceUp, D: m.timing.FenceHold})
		m.note("an address of the other election appeared: the fence waits for its word")
	}
}

// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"fmt"
	"slices"
	"strings"
)

// An operator's switchover is a hand-over like any other; what it adds is a
// word before (refusals), a word after (the outcome), and that who gave does
// not take the role back by its priority alone.

// wish is what somebody waits for: a switchover of an operator, or another
// election's takeover or yield, which may be asked for twice.
type wish struct {
	orders []uint32
	peer   PeerID // a switchover's other side
	swap   bool   // it is a switchover
	force  bool
	until  int64 // a giver whose hand-over broke off: when to give up on the peer
}

func (w *wish) on() bool { return len(w.orders) > 0 }

// held says that this node gave its role to a peer by a switchover. As with
// no-preempt, it leaves it there until the peer loses the role, it gets the
// role itself for whatever reason, or the set or the process ends.
type held struct {
	on   bool
	peer PeerID
	seen bool // the peer said that it is Active
}

// heard takes a peer's role.
func (h *held) heard(id PeerID, r Role) {
	switch {
	case !h.on || h.peer != id:
	case r == RoleActive:
		h.seen = true
	case h.seen:
		*h = held{}
	}
}

// switchover takes the order, or refuses it with a sentence.
func (m *Machine) switchover(now int64, ev Event) {
	if m.wish.on() || m.hand.phase != PhaseNone || m.stopping || m.stage != stageBackup && m.stage != stageActive {
		m.answer(ev.Order, Action{Note: "another change of role is under way: see tandem status"})
		return
	}
	if to := m.activeAlready(ev.Name); to != "" {
		m.answer(ev.Order, Action{On: true, Already: true, Active: to, Note: to + " is Active already"})
		return
	}
	id, why := m.partner(ev.Name)
	if why == "" {
		why = m.unready(m.peers[id], ev.On)
	}
	if why != "" {
		m.answer(ev.Order, Action{Note: why})
		return
	}
	m.wish = wish{orders: []uint32{ev.Order}, peer: id, swap: true, force: ev.On}
	m.hand.retryAt, m.hand.failed = 0, false
	giver, taker := m.name, m.peers[id].name
	if m.stage == stageBackup {
		giver, taker = taker, giver
	}
	m.note("switchover from " + giver + " to " + taker + " was asked for")
}

// activeAlready names the node that is to be Active if it is, "" else.
func (m *Machine) activeAlready(to string) string {
	if to == m.name && to != "" && m.Active() {
		return to
	}
	for _, p := range m.peers {
		if p.up && p.state.Role == RoleActive && p.name == to && !m.Active() {
			return to
		}
	}
	return ""
}

// partner is the peer that a switchover is with.
func (m *Machine) partner(to string) (PeerID, string) {
	ids := m.peerIDs()
	if m.stage == stageBackup {
		if to != "" && to != m.name {
			return 0, m.noSuch(to, to+" is neither this node nor the Active: ask on "+to+" or on the Active")
		}
		for _, id := range ids {
			if p := m.peers[id]; p.up && p.state.Role == RoleActive {
				return id, ""
			}
		}
		return 0, "no Active is heard over the sync link: there is nobody to take the role from"
	}
	if to != "" {
		for _, id := range ids {
			if m.peers[id].name == to {
				return id, ""
			}
		}
		return 0, m.noSuch(to, "")
	}
	if id, p := m.taker(); p != nil {
		return id, ""
	}
	for _, id := range ids {
		if m.peers[id].up {
			return id, ""
		}
	}
	return 0, "no peer is heard over the sync link: nobody could take over"
}

// noSuch is the sentence for a name that nobody has; known is the one for a
// name that a peer has.
func (m *Machine) noSuch(to, known string) string {
	names := []string{m.name}
	for _, id := range m.peerIDs() {
		if name := m.peers[id].name; name == to {
			return known
		} else if name != "" {
			names = append(names, name)
		}
	}
	return fmt.Sprintf("no node is called %q: known are %s", to, strings.Join(names, ", "))
}

func (m *Machine) peerIDs() (ids []PeerID) {
	for id := range m.peers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

const forceHint = ": what is missing would be lost (--force goes ahead)"

// unready says why a switchover with p cannot be, or must not be without
// force.
func (m *Machine) unready(p *peer, force bool) string {
	switch {
	case !p.up:
		return p.name + " is not heard over the sync link"
	case m.stage == stageBackup && m.fault:
		return m.name + " cannot take over: it is in fault, tandem status says which"
	case m.stage == stageBackup && !p.view && !force:
		return "the copy of " + p.name + "'s flows is not complete here" + forceHint
	case m.stage == stageBackup:
		return ""
	case p.state.Role == RoleActive:
		return p.name + " is Active as well: the election has to settle that first"
	case p.state.Fault:
		return p.name + " cannot take over: it is in fault, tandem status there says which"
	case !p.state.Complete && !force:
		return p.name + " does not say that its copy is complete" + forceHint
	}
	return ""
}

// brokeOff says why this node's hand-over ended before its time.
func (m *Machine) brokeOff() string {
	h, p := &m.hand, m.peers[m.hand.peer]
	if p == nil || !p.up {
		return "the peer fell silent at phase " + h.phase.String()
	}
	limit := m.timing.HandOver.String()
	switch {
	case m.fault && m.stage == stageBackup && h.phase != PhaseGo && h.phase != PhaseDone:
		return m.name + " can no longer take over: it is in fault, tandem status says which"
	case h.phase == PhaseOffer && p.state.Phase != PhaseWant:
		return p.name + " did not answer within " + limit
	case h.phase == PhaseOffer:
		return p.name + " had not acknowledged every flow within " + limit + forceHint
	case h.phase == PhaseWant && !h.rushing:
		return p.name + " did not say within " + limit + " that this node has acknowledged every flow" + forceHint
	case h.phase == PhaseWant:
		return "the flows could not be written into the kernel table within " + limit
	case h.phase == PhaseDrained:
		return p.name + " did not say that the flows are in its kernel table"
	case h.phase == PhaseCommitted:
		return p.name + " did not stop its adverts within " + limit
	}
	return p.name + " had not taken over when it was its turn"
}

// settleWish judges a giver whose hand-over broke off after its adverts had
// stopped: the peer may still be there in a moment.
func (m *Machine) settleWish(now int64) {
	if !m.wish.on() || m.wish.until == 0 {
		return
	}
	p := m.peers[m.wish.peer]
	switch {
	case m.Active():
		m.fail(p.name + " did not take over: " + m.name + " took the role back")
	case p.up && p.state.Role == RoleActive:
		m.succeed(p.name, p.name+" is Active")
	case now >= m.wish.until:
		m.fail(p.name + " did not say that it took over: tandem status says who is Active")
	}
}

// succeed and fail end what somebody waits for, if anybody does.
func (m *Machine) succeed(active, what string) {
	m.settleOrders(Action{On: true, Active: active, Note: what})
}

func (m *Machine) fail(why string) { m.settleOrders(Action{Note: why}) }

func (m *Machine) settleOrders(a Action) {
	w := m.wish
	m.wish = wish{}
	if w.swap {
		m.note("switchover: " + a.Note)
	}
	for _, o := range w.orders {
		m.answer(o, a)
	}
}

func (m *Machine) answer(order uint32, a Action) {
	a.Kind, a.Order = ActOutcome, order
	m.do(a)
}

// where says how far a change of role is, as the steps of its record; "" when
// there is nothing to say.
func (m *Machine) where() string {
	h := &m.hand
	switch m.stage {
	case stagePromoting:
		return "fence up"
	case stageCommitting:
		if m.external {
			return "fence up"
		}
		return "addresses in"
	case stageActive:
		return map[Phase]string{PhaseNone: "fence down", PhaseTaken: "fence down", PhaseOffer: "offered to the peer",
			PhaseDrained: "all flows acknowledged", PhaseGo: "committed at the peer"}[h.phase]
	case stageYielding:
		if m.released {
			return "the peer has the addresses"
		}
		return "adverts stopped"
	}
	switch {
	case h.phase == PhaseWant && h.rushing:
		return "all flows acknowledged"
	case h.phase == PhaseWant:
		return "asked the Active"
	case h.phase == PhaseCommitted && h.rushing:
		return "committed"
	case h.phase == PhaseCommitted:
		return "adverts of the peer stopped"
	case h.phase == PhaseGo:
		return "addresses out"
	case m.external && m.released:
		return "released"
	case h.phase == PhaseDone:
		return "the rest acknowledged"
	}
	return ""
}

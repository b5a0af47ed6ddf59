// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"cmp"
	"sync"
)

// Tracked is what a group follows beside its adverts: what it means for the
// group. The daemon knows what it is and why; the child only what follows.
type Tracked struct {
	Priority uint8  // in force; 0: the configured one
	Fault    string // why the group cannot have the role, "" when it can
	Loose    bool   // the group's own interface may be without a carrier
}

// Track says what the things that a group tracks mean for it now.
func (p *Process) Track(group string, t Tracked) {
	n := p.names.Load()
	for i := range n.groups {
		if n.groups[i].Name == group {
			p.post(n.track(uint16(i), t))
		}
	}
}

// SetAside keeps every set from the role until it is called with false. An
// Active releases the role (Demoting, cause maintenance).
func (p *Process) SetAside(aside bool) {
	p.post(message{Type: msgAside, Flags: bit(aside)})
}

// tracking keeps the reasons, which never reach the child.
type tracking struct {
	mu     sync.Mutex
	faults map[uint16]string // by group
}

// track notes the reason and gives the child's word.
func (n *names) track(group uint16, t Tracked) message {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.Fault != "" { // a reason outlives its fault: events come late
		n.faults[group] = t.Fault
	}
	m := message{Type: msgTrack, Group: group, Set: n.setOf[group], Value: int64(t.Priority), Flags: bit(t.Fault != "")}
	if m.Value == 0 {
		m.Value = int64(n.groups[group].Priority)
	}
	if t.Loose {
		m.Flags |= flagLoose
	}
	return m
}

func (n *names) why(group uint16) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return cmp.Or(n.faults[group], "something that it tracks failed")
}

// trackedGroup is the child's side.
type trackedGroup struct{ fault, loose bool }

// track takes the daemon's word of a group.
func (l *loop) track(m *message) {
	g := int(m.Group)
	if g >= len(l.tracked) || m.Value < 1 || m.Value > 255 {
		return
	}
	t := &l.tracked[g]
	t.fault, t.loose = m.Flags&flagOn != 0, m.Flags&flagLoose != 0
	i := int(l.setup.setOf[g])
	s := &l.sets[i]
	s.SetPriority(s.member(g), uint8(m.Value))
	s.SetUnwell(s.member(g), t.fault, l.now)
	s.SetFault(s.member(g), l.portFault(g) != reasonNone, l.now)
	s.dirty = true
	l.perform(i)
}

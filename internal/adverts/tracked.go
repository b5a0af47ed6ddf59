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

// Track says what the things that a group tracks mean for it now. It is
// remembered for a group that begins later.
func (p *Process) Track(group string, t Tracked) {
	p.naming.Lock() // no group begins in between
	defer p.naming.Unlock()
	n := p.names.Load()
	n.said[group] = t
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

// tracking is what was said of groups, and the reasons, which never reach the
// child.
type tracking struct {
	said map[string]Tracked // by name; under Process.naming

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
	m := message{Type: msgTrack, Group: group, Set: n.groups[group].set, Value: int64(t.Priority), Flags: bit(t.Fault != "")}
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

// heal forgets the reason: the slot is free.
func (n *names) heal(group uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.faults, group)
}

// trackedGroup is the child's side.
type trackedGroup struct {
	priority     uint8 // 0: the configured one
	fault, loose bool
}

// track takes the daemon's word of a group.
func (l *loop) track(m *message) {
	g := l.member(m.Group)
	if g == nil || m.Value < 1 || m.Value > 255 {
		return
	}
	g.tracked = trackedGroup{uint8(m.Value), m.Flags&flagOn != 0, m.Flags&flagLoose != 0}
	if g.set != nil {
		l.follow(g)
		l.perform(g.set)
	}
}

// follow tells the set of a group all that is known of it.
func (l *loop) follow(g *member) {
	s := g.set
	if g.tracked.priority != 0 {
		s.SetPriority(g.at, g.tracked.priority)
	}
	s.SetUnwell(g.at, g.tracked.fault, l.now)
	s.SetFault(g.at, g.portFault() != reasonNone, l.now)
	s.dirty = true
}

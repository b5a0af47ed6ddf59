// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"github.com/tandem-ha/tandem/vrrp"
)

// Sets come and go while others run, at the start as later:
//
//	msgGroup, msgGroup, ..   members, and the ports that they are the first on
//	msgBegin                 the set; the stage opens sockets, makes devices
//	msgEnd                   as at a stop: priority 0, Demoting, addresses out
//	orderEnd, reportEnded    the stage's part is gone, and ports nobody uses
//	msgEnded                 its slots are free
//
// What the daemon still says of a set that has ended finds none of that slot, or
// one whose terms are above those of any before.

func (l *loop) set(slot uint16) *set {
	for _, s := range l.sets {
		if s.slot == slot {
			return s
		}
	}
	return nil
}

func (l *loop) port(slot uint16) *port {
	for _, p := range l.ports {
		if p.slot == slot {
			return p
		}
	}
	return nil
}

// member finds a group, also one whose set is about to begin.
func (l *loop) member(slot uint16) *member {
	for _, p := range l.ports {
		for _, g := range p.members {
			if g.slot == slot {
				return g
			}
		}
	}
	return nil
}

// admit takes a member of the set that begins next. A group with a virtual MAC
// waits for its device.
func (l *loop) admit(m *message) {
	g := &member{slot: m.Group}
	if err := g.cfg.parse(m.Tail); err != nil {
		fmt.Fprintln(os.Stderr, "adverts:", err)
		return
	}
	g.device = g.cfg.device()
	g.noMAC = g.device != nil
	slot := uint16(m.Value)
	if g.port = l.port(slot); g.port == nil {
		g.port = &port{slot: slot, name: g.cfg.Interface, v6: g.cfg.v6(), rx: -1, reason: reasonStarting}
		l.ports = append(l.ports, g.port)
	}
	g.port.members = append(g.port.members, g)
	l.coming = append(l.coming, g)
}

// begin forms a set of the members that came. It elects at once, but not before
// the start.
func (l *loop) begin(m *message) {
	members := l.coming
	l.coming = nil
	if len(members) == 0 || l.set(m.Set) != nil || l.stopping != 0 {
		return
	}
	s := &set{slot: m.Set, members: members, dirty: true, sure: new(atomic.Int64), vouched: m.Flags&flagOn != 0,
		gate: gate{gateTimeout: l.hello.GateTimeout, releaseTimeout: l.hello.ReleaseTimeout, term: l.terms}}
	var cfg []vrrp.Config
	o := order{kind: orderBegin, set: s.slot, vouched: s.vouched, sure: s.sure}
	for i, g := range members {
		g.set, g.at = s, i
		g.port.byVRID[g.cfg.VRID] = g
		cfg = append(cfg, machineConfig(&g.cfg))
		o.seats = append(o.seats, g.seat())
	}
	s.Set = vrrp.NewSet(cfg, !l.allowed)
	if s.vouched {
		s.SetSecondPath(vrrp.SecondPath(l.hello.SecondPath))
	}
	s.SetAside(l.aside, l.now)
	for _, g := range members {
		s.SetSource(g.at, g.source())
		l.follow(g)
	}
	l.sets = append(l.sets, s)
	l.order(o)
	if l.started {
		l.start(s)
	}
}

func (l *loop) start(s *set) {
	if !s.ending {
		s.Start(l.now)
		s.dirty = true
	}
}

// end has a set leave its role for good.
func (l *loop) end(s *set) {
	s.ending, s.dirty = true, true
	s.Shutdown(l.now)
}

// leave tells the stage of an ending set whose addresses are out.
func (l *loop) leave(s *set) {
	if s.ending && !s.ended && s.gate.idle() {
		s.ended = true
		l.order(order{kind: orderEnd, set: s.slot})
	}
}

// forget takes a set out that has ended, and ports that nobody is on any more.
func (l *loop) forget(s *set) {
	l.terms = max(l.terms, s.gate.term)
	l.sets = slices.DeleteFunc(l.sets, func(other *set) bool { return other == s })
	for _, g := range s.members {
		l.shm.clearGroup(int(g.slot))
		p := g.port
		if p.byVRID[g.cfg.VRID] == g {
			p.byVRID[g.cfg.VRID] = nil
		}
		p.members = slices.DeleteFunc(p.members, func(other *member) bool { return other == g })
		if len(p.members) == 0 {
			l.shm.publishInterface(int(p.slot), &vrrp.InterfaceCounters{})
			l.ports = slices.DeleteFunc(l.ports, func(other *port) bool { return other == p })
		}
	}
	l.tell(message{Type: msgEnded, Set: s.slot, At: l.now})
}

// seat is what the stage has of a member.
func (g *member) seat() seat { return seat{group: g.slot, port: g.port.slot, cfg: g.cfg} }

func machineConfig(g *group) vrrp.Config {
	c := vrrp.Config{
		Version: g.Version, VRID: g.VRID, Priority: g.Priority, Preempt: g.Preempt,
		Interval: g.Interval, PreemptDelay: g.PreemptDelay,
		Checksum: g.Wire.Checksum, AuthType: g.Wire.AuthType, Auth: g.Wire.Auth,
	}
	for _, a := range g.Addresses {
		c.Addresses = append(c.Addresses, a.Prefix.Addr().AsSlice()...)
	}
	return c
}

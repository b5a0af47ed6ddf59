// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

// names maps the slots of the messages to the names of the configuration; only
// the daemon's side knows names. It does not change: other names take its place
// (Process.naming).
type names struct {
	groups []namedGroup // by message.Group
	sets   []string     // by message.Set; "": free
	ports  []namedPort  // by the port of a group
	room   int
	*tracking
}

type namedGroup struct {
	config.Group        // no Name: the slot is free
	set, port    uint16 // slots
}

func (g *namedGroup) live() bool { return g.Name != "" }

// namedPort is one interface with groups of one family.
type namedPort struct {
	name string // "": the slot is free
	v6   bool
}

func noNames(room int) *names {
	return &names{room: room, tracking: &tracking{said: map[string]Tracked{}, faults: map[uint16]string{}}}
}

func (n *names) clone() *names {
	next := *n
	next.groups, next.sets, next.ports = slices.Clone(n.groups), slices.Clone(n.sets), slices.Clone(n.ports)
	return &next
}

// set finds a set's slot.
func (n *names) set(name string) (slot uint16, ok bool) {
	i := slices.Index(n.sets, name)
	return uint16(max(i, 0)), i >= 0 && name != ""
}

// with gives a set and its groups slots, and ports that are new.
func (n *names) with(s config.Set) (next *names, err error) {
	next = n.clone()
	if _, known := n.set(s.Name); known {
		return nil, fmt.Errorf("set %q is there already", s.Name)
	}
	set := free(&next.sets, func(s string) bool { return s == "" })
	next.sets[set] = s.Name
	for _, g := range s.Groups {
		named := namedGroup{Group: g, set: uint16(set), port: uint16(next.port(namedPort{g.Interface, g.IPv6()}))}
		next.groups[free(&next.groups, func(g namedGroup) bool { return !g.live() })] = named
	}
	if most := max(len(next.sets), len(next.groups), len(next.ports)); most > n.room {
		return nil, fmt.Errorf("there is room for %d groups", n.room)
	}
	return next, nil
}

func (n *names) port(p namedPort) int {
	if i := slices.Index(n.ports, p); i >= 0 {
		return i
	}
	i := free(&n.ports, func(p namedPort) bool { return p.name == "" })
	n.ports[i] = p
	return i
}

// free is the index of the first free element, a new one if need be.
func free[T any](all *[]T, isFree func(T) bool) int {
	i := slices.IndexFunc(*all, isFree)
	if i < 0 {
		i = len(*all)
		*all = append(*all, *new(T))
	}
	return i
}

// without is n without a set, its groups, and the ports that it was the last on.
func (n *names) without(set uint16) *names {
	next := n.clone()
	next.sets[set] = ""
	used := make([]bool, len(next.ports))
	for i := range next.groups {
		switch g := &next.groups[i]; {
		case g.live() && g.set == set:
			*g = namedGroup{}
			n.heal(uint16(i))
		case g.live():
			used[g.port] = true
		}
	}
	for i := range used {
		if !used[i] {
			next.ports[i] = namedPort{}
		}
	}
	return next
}

// changed is n with other configurations of the same groups.
func (n *names) changed(groups []config.Group) *names {
	next := n.clone()
	for i := range next.groups {
		for _, g := range groups {
			if g.Name == next.groups[i].Name {
				next.groups[i].Group = g
			}
		}
	}
	return next
}

// members are the slots of a set's groups.
func (n *names) members(set uint16) (out []uint16) {
	for i := range n.groups {
		if n.groups[i].live() && n.groups[i].set == set {
			out = append(out, uint16(i))
		}
	}
	return out
}

// wireGroup is g as the child needs it.
func wireGroup(g config.Group) group {
	w := group{
		Interface:    g.Interface,
		VRID:         g.VRID,
		Priority:     g.Priority,
		Version:      uint8(g.Version),
		Preempt:      !g.NoPreempt,
		Interval:     int64(g.AdvertInterval),
		PreemptDelay: int64(g.PreemptDelay),
		Source:       g.HelloSource,
		Addresses:    wireAddresses(g.Addresses, g.Interface),
		Wire:         wireTransport(&g),
		Place:        wirePlacing(&g),
	}
	return w
}

// message tells the child of a group.
func (n *names) message(t messageType, group uint16) message {
	g := &n.groups[group]
	w := wireGroup(g.Group)
	return message{Type: t, Group: group, Set: g.set, Value: int64(g.port), Tail: w.append(nil)}
}

// event translates a message of the child; nil: nothing to tell.
func (n *names) event(m *message) Event {
	on := m.Flags&flagOn != 0
	if m.Type == msgReady {
		return Ready{RealTime: string(m.Tail), Ring: on, At: m.At}
	}
	if int(m.Set) >= len(n.sets) || int(m.Group) >= len(n.groups) || n.sets[m.Set] == "" {
		return nil
	}
	set, group := n.sets[m.Set], n.groups[m.Group].Name
	switch m.Type {
	case msgPromoting:
		return Promoting{Set: set, Term: m.Term, Cause: vrrp.Cause(m.Cause), Silence: time.Duration(m.Value), At: m.At}
	case msgAddressesIn:
		return AddressesIn{Set: set, Term: m.Term, At: m.At}
	case msgDemoting:
		return Demoting{Set: set, Term: m.Term, Cause: vrrp.Cause(m.Cause), At: m.At}
	case msgAddressesOut:
		return AddressesOut{Set: set, Term: m.Term, At: m.At}
	case msgChanged:
		e := Changed{Set: set, From: vrrp.State(m.Kind >> 4), To: vrrp.State(m.Kind & 15), At: m.At}
		if e.To == vrrp.Initialize && m.Value != 0 {
			e.Reason = fmt.Sprintf("%s: %s", group, n.reason(m.Group, reason(m.Value)))
		}
		return e
	case msgWouldPreempt:
		return WouldPreempt{Set: set, On: on, At: m.At}
	case msgAlarm:
		return Alarm{Set: set, Group: group, Kind: AlarmKind(m.Kind), On: on, Peer: m.Peer,
			Text: n.alarmText(m), At: m.At}
	case msgRival:
		return Rival{Set: set, Peer: m.Peer, At: m.At}
	case msgEnded:
		e := Ended{Set: set, At: m.At}
		for _, i := range n.members(m.Set) {
			e.Groups = append(e.Groups, n.groups[i].Name)
		}
		return e
	case msgRefused:
		what := "take-over"
		if messageType(m.Kind) == msgHandOver {
			what = "hand-over"
		}
		return Refused{Set: set, What: what, At: m.At}
	}
	return nil
}

// reason is why a group waits in Initialize.
type reason uint8

const (
	reasonNone reason = iota
	reasonStarting
	reasonMissing
	reasonDown
	reasonNoAddress
	reasonNoLinkLocal
	reasonTentative // its duplicate address detection still runs
	reasonDuplicate // and found another host
	reasonOther     // another member of the set is in fault
	reasonStopped
	reasonNoDevice // of the virtual MAC
	reasonTracked  // what the group tracks failed: names.why
)

// ofAddress: the interface lacks the address that adverts are sent from.
func (r reason) ofAddress() bool { return r >= reasonNoAddress && r <= reasonDuplicate }

// fault: something is missing that the group needs.
func (r reason) fault() bool {
	switch r {
	case reasonNone, reasonStarting, reasonOther, reasonStopped:
		return false
	}
	return true
}

func (n *names) reason(group uint16, r reason) string {
	iface := n.groups[group].Interface
	switch r {
	case reasonStarting:
		return "startup delay"
	case reasonMissing:
		return "interface " + iface + " does not exist"
	case reasonDown:
		return "interface " + iface + " is down"
	case reasonNoAddress:
		return "interface " + iface + " has no IPv4 address of its own"
	case reasonNoLinkLocal:
		return "no IPv6 link-local address on " + iface + " (is IPv6 enabled there?)"
	case reasonTentative:
		return "the link-local address of " + iface + " is tentative: duplicate address detection still runs"
	case reasonDuplicate:
		return "the link-local address of " + iface + " is a duplicate: another host on the link has it"
	case reasonOther:
		return "another member of the sync group waits"
	case reasonStopped:
		return "stopped"
	case reasonNoDevice:
		return "no device for the virtual MAC on " + iface + " yet (the log says why)"
	case reasonTracked:
		return n.why(group)
	}
	return ""
}

func (n *names) alarmText(m *message) string {
	g := &n.groups[m.Group]
	switch AlarmKind(m.Kind) {
	case AlarmSilent:
		return "no Active is heard on " + g.Interface + " while the other members of the sync group hear one: " +
			"check the network between the routers there (switch, VLAN, IGMP snooping)"
	case AlarmConflict:
		return "another Active of lower priority speaks on " + g.Interface + ": it should step back by itself; " +
			"if it does not, it does not hear this router"
	case AlarmDoubt:
		return "no advert of the Active is heard on " + strings.Join(n.interfacesOf(m.Set), ", ") +
			", though it says over the sync link that it is Active and sends them: " +
			"check the network between the routers there (switch, VLAN, IGMP snooping, a filter of IP protocol 112)"
	case AlarmSend:
		if m.Flags&flagOn == 0 {
			return "adverts leave " + g.Interface + " again"
		}
		return "adverts cannot be sent on " + g.Interface + ": " + errnoText(m.Value)
	case AlarmAddress:
		a := netip.Prefix{}
		if all := g.Installed(); int(m.Term) < len(all) {
			a = all[m.Term].Prefix
		}
		if m.Flags&flagOn == 0 {
			return "virtual address " + a.String() + " is in"
		}
		return "virtual address " + a.String() + ": " + errnoText(m.Value)
	}
	return ""
}

// interfacesOf are those that carry the members of a set.
func (n *names) interfacesOf(set uint16) (out []string) {
	for _, i := range n.members(set) {
		if iface := n.groups[i].Interface; !slices.Contains(out, iface) {
			out = append(out, iface)
		}
	}
	return out
}

// errnoText is the kernel's word for an error number, 0: removed by others.
func errnoText(errno int64) string {
	if errno == 0 {
		return "removed by others, put back"
	}
	return syscall.Errno(errno).Error()
}

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

// names maps the indices of the messages to the names of the configuration;
// only the daemon's side knows names.
type names struct {
	groups     []config.Group // enabled ones; index: message.Group
	setOf      []uint16       // by group
	sets       []string       // index: message.Set
	index      map[string]uint16
	interfaces []string // one for each family, in the order of first use by a group
	*tracking
}

// nameSets forms the sets: one per sync group with its members, one per group
// that is in none.
func nameSets(groups []config.Group, syncs []config.SyncGroup) (*names, error) {
	n := &names{index: map[string]uint16{}, tracking: &tracking{faults: map[uint16]string{}}}
	syncOf := map[string]string{}
	for _, s := range syncs {
		for _, m := range s.Member {
			syncOf[m] = s.Name
		}
	}
	type port struct {
		name string
		v6   bool
	}
	seen := map[port]bool{}
	for _, g := range groups {
		if g.Disable {
			continue
		}
		set := g.Name
		if s, ok := syncOf[g.Name]; ok {
			set = s
		}
		i, ok := n.index[set]
		if !ok {
			i = uint16(len(n.sets))
			n.index[set] = i
			n.sets = append(n.sets, set)
		}
		n.groups = append(n.groups, g)
		n.setOf = append(n.setOf, i)
		if p := (port{g.Interface, g.IPv6()}); !seen[p] {
			seen[p] = true
			n.interfaces = append(n.interfaces, g.Interface)
		}
	}
	if len(n.groups) == 0 {
		return nil, fmt.Errorf("no enabled group")
	}
	return n, nil
}

// with is n with other configurations of the same groups.
func (n *names) with(groups []config.Group) *names {
	next := *n
	next.groups = slices.Clone(n.groups)
	for i := range next.groups {
		for _, g := range groups {
			if g.Name == next.groups[i].Name {
				next.groups[i] = g
			}
		}
	}
	return &next
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

// message tells the child of group i.
func (n *names) message(i int) message {
	w := wireGroup(n.groups[i])
	return message{Type: msgGroup, Group: uint16(i), Set: n.setOf[i], Tail: w.append(nil)}
}

// event translates a message of the child; nil: nothing to tell.
func (n *names) event(m *message) Event {
	if int(m.Set) >= len(n.sets) || int(m.Group) >= len(n.groups) {
		return nil
	}
	set, group := n.sets[m.Set], n.groups[m.Group].Name
	on := m.Flags&flagOn != 0
	switch m.Type {
	case msgReady:
		return Ready{RealTime: string(m.Tail), Ring: on, At: m.At}
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
	g := n.groups[m.Group]
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
	for i, g := range n.groups {
		if n.setOf[i] == set && !slices.Contains(out, g.Interface) {
			out = append(out, g.Interface)
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

// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"net/netip"
	"slices"
)

// interfaces reads what the text says of the machine's interfaces: their
// addresses, and the groups that VyOS 1.1 has there.
func (t *translation) interfaces() {
	all := t.root.at("interfaces")
	if all == nil {
		return
	}
	for _, form := range all.kids {
		for _, i := range form.kids {
			t.machine(i.word, i)
		}
	}
}

// machine reads one interface and the VLANs on it.
func (t *translation) machine(name string, i *node) {
	t.own[name] = nil
	if a := i.kid("address"); a != nil {
		for _, v := range a.kids {
			if p, err := netip.ParsePrefix(v.word); err == nil || v.word == "dhcp" {
				t.own[name] = append(t.own[name], p) // of DHCP an IPv4 address that is nobody's
			}
		}
	}
	for _, vlan := range []string{"vif", "vif-s", "vif-c"} {
		if v := i.kid(vlan); v != nil {
			for _, k := range v.kids {
				t.machine(name+"."+k.word, k)
			}
		}
	}
	if g := i.at("vrrp vrrp-group"); g != nil {
		for _, k := range slices.Clone(g.kids) {
			t.modernize(name, k)
		}
		i.kid("vrrp").remove()
	}
}

// modernize moves a group of VyOS 1.1, which has no name and stands at its
// interface, to where later versions have it.
func (t *translation) modernize(iface string, g *node) {
	vrrp := t.root.put(g.line, "high-availability", "vrrp")
	name := iface + "-" + g.word
	t.told(g, "the group is called %s here", name)
	group := vrrp.put(g.line, "group", name)
	group.put(g.line, "interface", iface)
	group.put(g.line, "vrid", g.word)
	for _, k := range g.kids {
		if k.word == "sync-group" {
			if s := k.last(); s != nil {
				vrrp.put(k.line, "sync-group", s.word, "member", name)
			}
			continue
		}
		if k.word == "run-transition-scripts" {
			k.word = "transition-script"
		}
		k.parent = group
		group.kids = append(group.kids, k)
	}
}

// compare holds a group against the interfaces: what tandem check --live would
// refuse on this machine.
func (t *translation) compare(g *node) {
	iface := g.at("interface").last()
	if iface == nil {
		return
	}
	own, there := t.own[iface.word]
	if !there {
		return
	}
	v6 := hasIPv6(g)
	if !slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr().Is6() == v6 }) && !v6 {
		t.told(iface, "%s has no IPv4 address in this text, and adverts are sent from one: the group waits until it has", iface.word)
	}
	owner := false
	if p := g.at("priority").last(); p != nil {
		owner = p.word == "255"
	}
	for _, name := range []string{"address", "virtual-address"} {
		for _, v := range g.at(name).values() {
			addr, ok := hostOf(v.word)
			has := slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == addr })
			switch {
			case !ok || v.kid("interface") != nil:
			case has && !owner:
				t.told(v, "it is %s's own address too: tandem check --live refuses that below priority 255", iface.word)
			case !has && owner:
				t.told(v, "priority 255 is for the router that owns the address, and %s has it not in this text: tandem check --live refuses that", iface.word)
			}
		}
	}
}

// outside counts what is no business of tandem's, by its first word (the first
// two below service).
func (t *translation) outside() {
	for _, n := range t.root.kids {
		switch n.word {
		case "high-availability":
		case "service":
			for _, s := range n.kids {
				if s.word != "conntrack-sync" {
					t.stays(s)
				}
			}
		case "nat":
			t.stranded(n)
			t.stays(n)
		default:
			t.stays(n)
		}
	}
}

// stays says that a part of the text is left to others.
func (t *translation) stays(n *node) {
	what := "not part of VRRP or of the copy of connections"
	switch n.word {
	case "interfaces":
		what = "tandem adds and removes virtual addresses only"
	case "protocols":
		what = "sessions of routing protocols end in a router and are not copied (docs/limits.md)"
	case "system":
		if n.hollow || len(n.kids) == 1 && n.kid("host-name") != nil {
			return // taken over whole
		}
	}
	if leaves := n.leaves(); leaves > 0 && !n.hollow {
		first, last := n.span()
		t.notes = append(t.notes, Note{Line: first, Path: n.path(), Text: "stays with what configures this machine (" + lines(leaves, first, last) + "): " + what})
	}
}

// stranded warns of flows that no copy can save.
func (t *translation) stranded(nat *node) {
	rules := nat.at("source rule")
	if rules == nil {
		return
	}
	for _, r := range rules.kids {
		if m := r.at("translation address masquerade"); m != nil {
			t.told(m, "flows that are translated to an address which does not move are lost with their router: translate to a virtual address")
		}
	}
}

// leaves counts the ends of branches, which are the lines of a set file.
func (n *node) leaves() int {
	if len(n.kids) == 0 {
		return 1
	}
	sum := 0
	for _, k := range n.kids {
		sum += k.leaves()
	}
	return sum
}

// span is the first and the last line below n.
func (n *node) span() (first, last int) {
	first, last = n.first, n.line
	for _, k := range n.kids {
		f, l := k.span()
		first, last = min(first, f), max(last, l)
	}
	return first, last
}

// lines says how many options there are and where.
func lines(n, first, last int) string {
	if n == 1 {
		return "1 option"
	}
	if first == last {
		return fmt.Sprintf("%d options", n)
	}
	return fmt.Sprintf("%d options, lines %d to %d", n, first, last)
}

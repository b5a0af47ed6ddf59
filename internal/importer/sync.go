// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"net/netip"
	"slices"
	"strings"
)

// The options of service conntrack-sync, each with its key.
var syncOptions = []option{
	{from: "failover-mechanism vrrp sync-group", key: "failover-mechanism.vrrp.sync-group", read: text, must: true},
	{from: "failover-mechanism cluster", read: refused("tandem elects by VRRP: write a group, or failover-mechanism.external = true if another program elects")},
	{from: "accept-protocol", key: "accept-protocol", read: protocols},
	{from: "ignore-address", key: "ignore-address", read: ignored},
	{from: "expect-sync", key: "expect-sync", read: texts},
	{from: "disable-external-cache", key: "commit", read: constant(`"continuous"`)},
	{from: "startup-resync", read: gone("a node that starts is always brought up to date")},
	{from: "purge-timeout", read: gone("the receiver never ages a flow: its owner ends it")},
	{from: "event-listen-queue-size", read: gone("changes do not come through a netlink queue")},
	{from: "sync-queue-size", read: gone("what the sender keeps does not depend on losses")},
	{from: "disable-syslog", read: gone(`flows are not logged; [log] level = "error" quietens the rest`)},
}

var linkOptions = []option{
	{from: "peer", key: "peer", read: texts},
	{from: "port", key: "port", read: number},
}

// replication translates service conntrack-sync.
func (t *translation) replication(sync *node) {
	to := newTable(sync, true, "conntrack-sync")
	if sync.kid("disable-external-cache") == nil {
		to.comment = `VyOS writes copied flows into the kernel at a takeover (commit = "takeover" here). ` +
			`tandem's default writes them ahead, so that a takeover does not depend on their number.`
	}
	t.take(sync, syncOptions, to)
	auth := to.add("authentication", `"none"`, nil)
	auth.must = true
	auth.comment = "As conntrackd: nothing is sealed, so nobody but the peer may reach the link. " +
		"Better is a key-file, the same on each node: tandem sync key new draws one."
	t.tables = append(t.tables, to)
	var links []*table
	for _, i := range inOrder(sync.see("interface")) {
		l := newTable(i, true, "conntrack-sync", "interface", i.word)
		t.take(i, linkOptions, l)
		links = append(links, l)
	}
	t.ports(links)
	t.listen(sync.see("listen-address"), links)
	t.multicast(sync.see("mcast-group"), links)
	t.tables = append(t.tables, links...)
}

// ports: tandem has one for all links, and one of its own when none is said.
func (t *translation) ports(links []*table) {
	var first *item
	for n, l := range links {
		i := l.get("port")
		switch {
		case n == 0 && i == nil:
			l.comment = "tandem's own port, 3781, not conntrackd's 3780: the firewalls must let it pass."
		case n == 0 && i.value == "3780":
			i.comment = "conntrackd's port: it must have ended on this machine, and the peers are tandem."
		}
		if n == 0 {
			first = i
			continue
		}
		if (i == nil) != (first == nil) || i != nil && i.value != first.value {
			from := l.from
			if i != nil {
				from = i.from
			}
			t.lost(from, "left out: the port is the same on all links, that of %s was taken", links[0].from.word)
			l.drop("port")
			if first != nil {
				l.add("port", first.value, first.from)
			}
		}
	}
}

// get gives a line of the table, nil when there is none.
func (t *table) get(key string) *item {
	for _, i := range t.items {
		if i.key == key {
			return i
		}
	}
	return nil
}

func (t *table) drop(key string) {
	t.items = slices.DeleteFunc(t.items, func(i *item) bool { return i.key == key })
}

// listen: VyOS has the address once, tandem at its link.
func (t *translation) listen(n *node, links []*table) {
	for _, v := range n.values() {
		addr, _ := netip.ParseAddr(v.word)
		i := slices.IndexFunc(links, func(l *table) bool {
			return slices.ContainsFunc(t.own[l.from.word], func(p netip.Prefix) bool { return p.Addr() == addr })
		})
		if i < 0 && len(links) == 1 {
			i = 0
		}
		if i < 0 || links[i].get("listen-address") != nil {
			t.lost(v, "left out: it does not say which of the links has it: write listen-address into that one's table")
			continue
		}
		links[i].add("listen-address", quote(v.word), v)
	}
}

// multicast: the group is for links on which no peer is named.
func (t *translation) multicast(n *node, links []*table) {
	v := n.last()
	if v == nil {
		return
	}
	written := false
	for _, l := range links {
		if l.get("peer") == nil {
			l.add("mcast-group", quote(v.word), v)
			written = true
		}
	}
	if !written {
		t.told(v, "nothing was written: each link names its peer, so VyOS does not use it either")
	}
}

// protocols takes lists with commas too, and names that guides print.
func protocols(t *translation, ns []*node) string {
	var out []string
	for _, v := range ns[0].values() {
		for name := range strings.FieldsFuncSeq(v.word, func(r rune) bool { return r == ',' || r == ' ' }) {
			name = strings.ToLower(name)
			if name == "ipv6-icmp" || name == "icmpv6" {
				name = "icmp6"
			}
			if s := quote(name); !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return t.some(ns, out)
}

// ignored takes the word between, too, that guides and VyOS 1.1 print:
// ignore-address ipv4-address 10.0.0.2.
func ignored(t *translation, ns []*node) string {
	var out []string
	add := func(n *node) {
		if s := quote(n.word); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, v := range ns[0].values() {
		switch v.word {
		case "ipv4", "ipv6", "ipv4-address", "ipv6-address":
			for _, w := range v.values() {
				add(w)
			}
		default:
			add(v)
		}
	}
	return t.some(ns, out)
}

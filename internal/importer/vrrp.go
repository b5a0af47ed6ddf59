// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"net/netip"
	"strings"
)

// The options of high-availability vrrp, each with its key, in the order of
// docs/tandem.toml. Names of several ages of VyOS are parted by |.
var groupOptions = []option{
	{from: "description", key: "description", read: text},
	{from: "disable", key: "disable", read: present},
	{from: "interface", key: "interface", read: text, must: true},
	{from: "vrid", key: "vrid", read: number, must: true},
	{from: "address|virtual-address", key: "address", read: advertised, must: true},
	{from: "excluded-address|virtual-address-excluded", key: "excluded-address", read: addresses},
	{from: "priority", key: "priority", read: number, must: true},
	{from: "advertise-interval", key: "advertise-interval", read: seconds},
	{from: "no-preempt|preempt", key: "no-preempt", read: preempt, must: true},
	{from: "preempt-delay", key: "preempt-delay", read: preemptDelay},
	{from: "authentication", key: "authentication", read: authentication},
	{from: "hello-source-address", key: "hello-source-address", read: text},
	{from: "peer-address", key: "peer-address", read: texts},
	{from: "rfc3768-compatibility", key: "virtual-mac", read: present},
	{from: "track interface", key: "track.interface", read: texts},
	{from: "track exclude-vrrp-interface", key: "track.exclude-vrrp-interface", read: present},
}

var garpOptions = []option{
	{from: "garp interval", key: "garp.interval", read: seconds},
	{from: "garp master-delay", key: "garp.master-delay", read: seconds},
	{from: "garp master-refresh", key: "garp.master-refresh", read: seconds},
	{from: "garp master-refresh-repeat", key: "garp.master-refresh-repeat", read: number},
	{from: "garp master-repeat", key: "garp.master-repeat", read: number},
}

var healthOptions = []option{
	{from: "script", key: "script", read: text, must: true},
	{from: "ping", key: "ping", read: text, must: true},
	{from: "interval", key: "interval", read: seconds},
	{from: "failure-count", key: "failure-count", read: number},
	{from: "timeout", key: "timeout", read: seconds},
}

var transitionOptions = []option{
	{from: "master", key: "active", read: text},
	{from: "backup", key: "backup", read: text},
	{from: "fault", key: "fault", read: text},
	{from: "stop", key: "stop", read: text},
	{from: "mode-force", read: gone("scripts always run on each change of state, in order")},
}

var globalOptions = []option{
	{from: "startup-delay", key: "startup-delay", read: seconds},
	{from: "router-id", read: gone("it stands in keepalived's mails only; a node's name is [node] name")},
	{from: "notification", read: refused("tandem sends no mail: a transition script can, and so can an alert on tandem's metrics")},
}

var haOptions = []option{
	{from: "disable", read: refused("VyOS runs none of this while it is disabled, and tandem would run all of it")},
	{from: "virtual-server", read: refused("tandem does no load balancing: keep IPVS where it is")},
	{from: "vrrp snmp", read: refused("tandem has no SNMP agent: [metrics] listen gives the same figures to Prometheus")},
}

// election translates high-availability.
func (t *translation) election(ha *node) {
	ha.see("vrrp")
	global := newTable(ha, false, "vrrp", "global-parameters")
	version := t.version(ha.see("vrrp global-parameters version"), ha.see("vrrp group"), global)
	for _, g := range inOrder(ha.see("vrrp group")) {
		t.group(g, version)
	}
	for _, s := range inOrder(ha.see("vrrp sync-group")) {
		t.syncGroup(s, ha.at("vrrp group"))
	}
	if g := ha.see("vrrp global-parameters"); g != nil {
		t.take(g, globalOptions, global)
		t.take(g, garpOptions, global)
	}
	t.write(global)
	t.take(ha, haOptions, new(table)) // none has a key
}

// inOrder gives the named things below n as the text has them.
func inOrder(n *node) []*node {
	if n == nil {
		return nil
	}
	for _, k := range n.kids {
		k.used = true
	}
	return n.kids
}

func (t *translation) group(g *node, version string) {
	to := newTable(g, true, "vrrp", "group", g.word)
	t.take(g, groupOptions, to)
	if version != "" && !hasIPv6(g) {
		to.add("version", version, g).comment = t.unset
		t.unset = ""
	}
	t.take(g, garpOptions, to)
	t.tables = append(t.tables, to)
	t.scripts(g, to.key)
	t.compare(g)
}

// scripts are the tables of a group or sync group that name programs.
func (t *translation) scripts(g *node, key string) {
	sub := func(name string, options []option) {
		if n := g.see(name); n != nil {
			to := &table{item: item{key: key + "." + name, from: n}}
			t.take(n, options, to)
			t.write(to)
		}
	}
	if h := g.see("health-check"); h != nil && h.kid("script") == nil && h.kid("ping") == nil {
		h.spend()
		t.told(h, "nothing was written: it has neither script nor ping, so VyOS does not use it either")
	} else {
		sub("health-check", healthOptions)
	}
	sub("transition-script", transitionOptions)
}

// syncGroup leaves members out that are disabled, as keepalived does.
func (t *translation) syncGroup(s, groups *node) {
	if d := s.see("disable"); d != nil {
		s.spend()
		t.told(d, "nothing was written: VyOS does not use the sync group either")
		return
	}
	to := newTable(s, true, "vrrp", "sync-group", s.word)
	var names []string
	for _, m := range s.see("member").values() {
		if off := groups.kid(m.word).kid("disable"); off != nil {
			t.told(m, "nothing was written: group %s is disabled (line %d), and a sync group waits for each of its members", m.word, off.line)
			continue
		}
		names = append(names, quote(m.word))
	}
	if len(names) > 0 {
		to.add("member", list(names), s.kid("member")).must = true
	}
	t.tables = append(t.tables, to)
	t.scripts(s, to.key)
}

// version decides on the protocol of the IPv4 groups, and returns what is to be
// written into each of them, "" when it stands in the global table. keepalived
// speaks version 2 for IPv4 unless told, and 3 for IPv6 whatever it is told.
func (t *translation) version(said, groups *node, global *table) string {
	value := "2"
	if v := said.last(); v != nil {
		value = number(t, []*node{said})
	}
	var v4, v6 bool
	for _, g := range inOrder(groups) {
		v4, v6 = v4 || !hasIPv6(g), v6 || hasIPv6(g)
	}
	t.all3 = value == "3"
	switch {
	case value == "" || !v4 && value == "2":
		return ""
	case said.last() == nil:
		t.unset = unset
		t.told(groups, "VyOS leaves the version unset, and keepalived speaks 2 for IPv4 then: version = 2 was written, so that a router can be exchanged while the other still runs VyOS")
	}
	if value == "2" && v6 {
		return value
	}
	if said == nil {
		said = groups
	}
	global.add("version", value, said).comment = t.unset
	return ""
}

// unset is the comment on a version that VyOS does not say.
const unset = "VyOS leaves it unset, which is 2 for IPv4. All routers of a group must speak the same; " +
	"when each runs tandem take the line out everywhere: 3 is the default, and allows adverts below 1s."

// preempt: without a value it is the default; VyOS 1.1 says true or false.
func preempt(t *translation, ns []*node) string {
	for _, n := range ns {
		if n.word == "no-preempt" {
			ns[len(ns)-1].spend()
			return "true"
		}
	}
	if v := ns[0].last(); v != nil && v.word == "false" {
		return "true"
	}
	ns[0].spend()
	t.told(ns[0], "nothing was written: a better router preempts by default; no-preempt = true turns it off")
	return ""
}

// preemptDelay: VyOS does not use it beside no-preempt.
func preemptDelay(t *translation, ns []*node) string {
	if g := ns[0].parent; g.kid("no-preempt") != nil {
		ns[0].spend()
		t.told(ns[0], "nothing was written: the group has no-preempt (line %d), so VyOS does not use it either", g.kid("no-preempt").line)
		return ""
	}
	return seconds(t, ns)
}

// authentication needs both halves, and version 2.
func authentication(t *translation, ns []*node) string {
	a := ns[0]
	form, password := a.see("type").last(), a.see("password").last()
	a.spend()
	switch {
	case t.all3 || hasIPv6(a.parent):
		t.told(a, "nothing was written: VRRP version 3 has no authentication, so keepalived sends none here either")
	case form == nil || password == nil:
		t.lost(a, "left out: it needs both type and password, and VyOS refuses one without the other")
	case form.word != "plaintext-password":
		t.lost(form, `left out: %q is not offered: only "plaintext-password" is, and neither keeps anybody out`, form.word)
	default:
		return fmt.Sprintf("{ type = %s, password = %s }", quote(form.word), quote(password.word))
	}
	return ""
}

// hasIPv6 says whether a group is one of IPv6.
func hasIPv6(g *node) bool {
	for _, name := range []string{"address", "virtual-address"} {
		if a := g.kid(name); a != nil {
			for _, v := range a.kids {
				return strings.Contains(v.word, ":")
			}
		}
	}
	return false
}

// hostOf reads an address with or without its prefix length.
func hostOf(s string) (netip.Addr, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		return a, err == nil
	}
	return p.Addr(), true
}

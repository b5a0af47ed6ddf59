// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"
)

func TestChanged(t *testing.T) {
	const lan, main, node = "vrid = 10\n", "member = [\"LAN\", \"WAN\"]\n", "name = \"r1\"\n"
	const lanTable, dmz = "[vrrp.group.LAN]", "[vrrp.group.DMZ]\ninterface = \"eth4\"\nvrid = 9\naddress = \"10.9.0.1/24\"\n"
	for name, tt := range map[string]struct {
		edits []string
		want  string // what a daemon does
		stuck string // or what it cannot
	}{
		"nothing":              {nil, "nothing has changed", ""},
		"only its writing":     {[]string{`address = ["10.0.0.1/24"]`, `address = "10.0.0.1/24" # the clients' gateway`}, "nothing has changed", ""},
		"priority":             {[]string{lan, lan + "priority = 90\n"}, "taken over: [vrrp.group.LAN]", ""},
		"what is tracked":      {[]string{lan, lan + "track.interface = \"eth3\"\n"}, "taken over: [vrrp.group.LAN]", ""},
		"checks and scripts":   {[]string{lan, lan + "transition-script.stop = \"/a\"\n", main, main + "health-check.ping = \"192.0.2.1\"\n"}, "taken over: [vrrp.group.LAN], [vrrp.sync-group.MAIN]", ""},
		"how they are run":     {[]string{node, node + "[hooks]\nuser = \"nobody\"\n"}, "taken over: [hooks]", ""},
		"an address":           {[]string{`"10.0.0.1/24"`, `"10.0.0.2/24"`}, "taken over: [vrrp.group.LAN]", ""},
		"how it preempts":      {[]string{lan, lan + "preempt-delay = \"5s\"\n"}, "taken over: [vrrp.group.LAN]", ""},
		"announcements":        {[]string{lan, lan + "garp.master-refresh = \"9s\"\n"}, "taken over: [vrrp.group.LAN]", ""},
		"the interval":         {[]string{lan, lan + "priority = 90\nadvertise-interval = \"100ms\"\n"}, "taken over: [vrrp.group.LAN]", ""},
		"the wire":             {[]string{lan, lan + "peer-address = \"10.0.0.9\"\nhello-source-address = \"10.0.0.8\"\nchecksum = \"message\"\naccept-mode = false\n"}, "taken over: [vrrp.group.LAN]", ""},
		"the startup delay":    {[]string{node, node + "[vrrp.global-parameters]\nstartup-delay = \"9s\"\n"}, "taken over: [vrrp.global-parameters]", ""},
		"an interface":         {[]string{"eth0", "eth7"}, "began anew: MAIN", ""},
		"a vrid":               {[]string{lan, "vrid = 11\n"}, "began anew: MAIN", ""},
		"a version":            {[]string{lan, lan + "version = 2\n"}, "began anew: MAIN", ""},
		"a virtual MAC":        {[]string{lan, lan + "virtual-mac = true\n"}, "began anew: MAIN", ""},
		"an owner":             {[]string{lan, lan + "priority = 255\n", "vrid = 20\n", "vrid = 20\npriority = 255\n"}, "began anew: MAIN", ""},
		"another family":       {[]string{`"10.0.0.1/24"`, `"fe80::1/64"`}, "began anew: MAIN", ""},
		"one of two, in place": {[]string{lan, "vrid = 11\n", "vrid = 20\n", "vrid = 20\npriority = 90\n", node, node + "[hooks]\ntimeout = \"9s\"\n"}, "taken over: [hooks]; began anew: MAIN", ""},
		"a group more":         {[]string{lanTable, dmz + lanTable}, "began: DMZ", ""},
		"a disabled one":       {[]string{lanTable, dmz + "disable = true\n" + lanTable}, "nothing has changed", ""},
		"a name":               {[]string{lanTable, "[vrrp.group.HOME]", main, "member = [\"HOME\", \"WAN\"]\n"}, "began anew: MAIN", ""},
		"a member more":        {[]string{lanTable, dmz + lanTable, main, "member = [\"LAN\", \"DMZ\", \"WAN\"]\n"}, "began anew: MAIN", ""},
		"a member less":        {[]string{main, "member = [\"WAN\"]\n"}, "began anew: MAIN; began: LAN", ""},
		"the order of members": {[]string{main, "member = [\"WAN\", \"LAN\"]\n"}, "taken over: [vrrp.sync-group.MAIN]", ""},
		"another sync group":   {[]string{lanTable, dmz + lanTable, "[vrrp.sync-group.MAIN]", "[vrrp.sync-group.SIDE]\nmember = \"DMZ\"\n[vrrp.sync-group.MAIN]"}, "began: SIDE", ""},
		"who starts the hooks": {[]string{node, node + "[hooks]\nstart = \"unit\"\n"}, "", "[hooks].start"},
		"the node":             {[]string{node, "name = \"r9\"\n[log]\nlevel = \"debug\"\n"}, "", "[node], [log]"},
		"the copy":             {[]string{"authentication = \"none\"\n", "authentication = \"none\"\ncommit = \"takeover\"\n"}, "", "[conntrack-sync]"},
		"whom the copy follows": {[]string{"sync-group.MAIN", "sync-group.BOTH", `sync-group = "MAIN"`, `sync-group = "BOTH"`}, "",
			"[conntrack-sync] (the replication follows MAIN from its start to its end)"},
	} {
		t.Run(name, func(t *testing.T) {
			old, err := parse("f", good)
			if err != nil {
				t.Fatal(err)
			}
			next, err := parse("g", edit(t, tt.edits...))
			if err != nil {
				t.Fatal(err)
			}
			c, err := old.Changed(next)
			if got := c.String(); err == nil && got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.stuck == "" && err != nil || tt.stuck != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.stuck+" changed: ") || !c.None()) {
				t.Errorf("got %v, want %q refused", err, tt.stuck)
			}
		})
	}
}

// What is gone ends, and what is enabled begins, without those beside them.
func TestChangedSets(t *testing.T) {
	set := func(disable bool, groups ...string) (v VRRP) {
		for _, name := range groups {
			v.Groups = append(v.Groups, Group{Name: name, Disable: disable && name == "B"})
		}
		return v
	}
	for _, tt := range []struct {
		was, is VRRP
		want    string
	}{
		{set(false, "A", "B"), set(false, "A"), "ended: B"},
		{set(false, "A", "B"), set(true, "A", "B"), "ended: B"},
		{set(true, "A", "B"), set(false, "A", "B"), "began: B"},
		{set(false, "A", "B"), set(false, "B", "A"), "nothing has changed"},
		{set(false, "A"), set(false, "B"), "ended: A; began: B"},
		{set(false, "B"), set(true, "B"), "no group is enabled any more: nothing was taken over; to end them all stop tandem"},
	} {
		c, err := (&Config{VRRP: tt.was}).Changed(&Config{VRRP: tt.is})
		got := c.String()
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

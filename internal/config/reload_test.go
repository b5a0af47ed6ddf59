// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChanged(t *testing.T) {
	const lan, main, node = "vrid = 10\n", "member = [\"LAN\", \"WAN\"]\n", "name = \"r1\"\n"
	for name, tt := range map[string]struct {
		edits []string
		want  []string // what can be taken over
		stuck string   // or what cannot
	}{
		"nothing":              {nil, nil, ""},
		"only its writing":     {[]string{`address = ["10.0.0.1/24"]`, `address = "10.0.0.1/24" # the clients' gateway`}, nil, ""},
		"priority":             {[]string{lan, lan + "priority = 90\n"}, []string{"[vrrp.group.LAN]"}, ""},
		"what is tracked":      {[]string{lan, lan + "track.interface = \"eth3\"\n"}, []string{"[vrrp.group.LAN]"}, ""},
		"checks and scripts":   {[]string{lan, lan + "transition-script.stop = \"/a\"\n", main, main + "health-check.ping = \"192.0.2.1\"\n"}, []string{"[vrrp.group.LAN]", "[vrrp.sync-group.MAIN]"}, ""},
		"how they are run":     {[]string{node, node + "[hooks]\nuser = \"nobody\"\n"}, []string{"[hooks]"}, ""},
		"who starts the hooks": {[]string{node, node + "[hooks]\nstart = \"unit\"\n"}, nil, "[hooks]"},
		"an owner":             {[]string{lan, lan + "priority = 255\n", "vrid = 20\n", "vrid = 20\npriority = 255\n"}, nil, "[vrrp.group.LAN], [vrrp.group.WAN]"},
		"the interval":         {[]string{lan, lan + "priority = 90\nadvertise-interval = \"100ms\"\n"}, nil, "[vrrp.group.LAN]"},
		"an address":           {[]string{`"10.0.0.1/24"`, `"10.0.0.2/24"`}, []string{"[vrrp.group.LAN]"}, ""},
		"another family":       {[]string{`"10.0.0.1/24"`, `"fe80::1/64"`}, nil, "[vrrp.group.LAN]"},
		"how it preempts":      {[]string{lan, lan + "preempt-delay = \"5s\"\n"}, []string{"[vrrp.group.LAN]"}, ""},
		"announcements":        {[]string{lan, lan + "garp.master-refresh = \"9s\"\n"}, []string{"[vrrp.group.LAN]"}, ""},
		"another group":        {[]string{"[vrrp.sync-group.MAIN]", "[vrrp.group.DMZ]\ninterface = \"eth4\"\nvrid = 9\naddress = \"10.9.0.1/24\"\n[vrrp.sync-group.MAIN]"}, nil, "the list of groups and sync groups"},
		"the node":             {[]string{node, "name = \"r9\"\n[log]\nlevel = \"debug\"\n"}, nil, "[node], [log]"},
		"the copy":             {[]string{"authentication = \"none\"\n", "authentication = \"none\"\ncommit = \"takeover\"\n"}, nil, "[conntrack-sync]"},
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
			what, err := old.Changed(next)
			if d := cmp.Diff(tt.want, what); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if tt.stuck == "" && err != nil || tt.stuck != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.stuck+" changed: ")) {
				t.Errorf("got %v, want %q refused", err, tt.stuck)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// alone is the smallest file for another election.
const alone = `[conntrack-sync]
failover-mechanism.external = true
failover-mechanism.address = ["10.0.0.1", "203.0.113.1"]
authentication = "none"
[conntrack-sync.interface.eth2]
[node]
name = "r1"
`

func TestExternal(t *testing.T) {
	c, err := parse("f", alone)
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("203.0.113.1")}
	if !c.Sync.External || c.Sync.SyncGroup+c.Sync.Group != "" || cmp.Diff(want, c.Sync.Addresses, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) != "" {
		t.Errorf("got %+v", c.Sync)
	}
}

func TestExternalRefused(t *testing.T) {
	const head, yes, addr = "[conntrack-sync]\n", "failover-mechanism.external = true\n", `failover-mechanism.address = ["10.0.0.1", "203.0.113.1"]` + "\n"
	const tail = "authentication = \"none\"\n[conntrack-sync.interface.eth2]\n"
	const group = "[vrrp.group.LAN]\ninterface = \"eth0\"\nvrid = 10\naddress = \"10.0.0.1/24\"\n"
	const form = `: must be addresses without prefix length, as ["10.0.0.1", "203.0.113.1"]`
	for name, tt := range map[string]struct{ text, want string }{
		"no addresses": {head + yes + tail, `f:2: conntrack-sync.failover-mechanism.address: missing: name the virtual addresses that the other election moves, as address = ["10.0.0.1"]: ` +
			`else they are taken for this router's own, and flows to them are not copied`},
		"a prefix":       {head + yes + "failover-mechanism.address = \"10.0.0.1/24\"\n" + tail, `f:3: conntrack-sync.failover-mechanism.address: "10.0.0.1/24"` + form},
		"twice":          {head + yes + "failover-mechanism.address = [\"10.0.0.1\", \"10.0.0.1\"]\n" + tail, `f:3: conntrack-sync.failover-mechanism.address: "10.0.0.1": stands there twice`},
		"not external":   {group + head + "failover-mechanism.vrrp.group = \"LAN\"\n" + addr + tail, "f:7: conntrack-sync.failover-mechanism.address: is for external = true: those of a group stand in its own table"},
		"and a group":    {group + head + yes + addr + "failover-mechanism.vrrp.group = \"LAN\"\n" + tail, "f:1: vrrp.group.LAN: with failover-mechanism.external = true another program elects: take this table out\nf:6: conntrack-sync.failover-mechanism: names a group, and another election (external): keep one of the two lines"},
		"beside a group": {group + head + yes + addr + tail, "f:1: vrrp.group.LAN: with failover-mechanism.external = true another program elects: take this table out"},
		"second path":    {head + yes + addr + "second-path = \"on\"\n" + tail, `f:4: conntrack-sync.second-path: "on": must be "off", "alarm" or "hold"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse("f", tt.text)
			if err == nil {
				t.Fatal("accepted")
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

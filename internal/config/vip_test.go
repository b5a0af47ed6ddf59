// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// all adds garp lines for every group.
func all(lines string) []string {
	return []string{"[node]\n", "[vrrp.global-parameters]\n" + lines + "[node]\n"}
}

func TestPlacesRefused(t *testing.T) {
	after := func(lines string) []string { return []string{"vrid = 10\n", "vrid = 10\n" + lines} }
	const garp = "f:4: vrrp.group.LAN.garp."
	for _, tt := range []struct {
		name  string
		edits []string
		want  string
	}{
		{"no address", after("excluded-address = []\n"), `f:4: vrrp.group.LAN.excluded-address: empty list: give at least one virtual address, as excluded-address = ["10.0.0.1/24"]`},
		{"a network", after("excluded-address = \"10.0.8.0/24\"\n"), `f:4: vrrp.group.LAN.excluded-address: "10.0.8.0/24": is the address of the network, not of a host in it`},
		{"advertised too", after("excluded-address = \"10.0.0.1\"\n"), `f:4: vrrp.group.LAN.excluded-address: "10.0.0.1/32": stands in group LAN already: an address belongs to one group, once`},
		{"another group's", after("excluded-address = \"203.0.113.1/24\"\n"), `f:4: vrrp.group.LAN.excluded-address: "203.0.113.1/24": stands in group WAN already: an address belongs to one group, once`},
		{"twice", after("excluded-address = [\"2001:db8::1/64\", \"2001:db8::1/64\"]\n"), `f:4: vrrp.group.LAN.excluded-address: "2001:db8::1/64": stands in group LAN already: an address belongs to one group, once`},
		{"both names", after("virtual-mac = true\nrfc3768-compatibility = true\n"), `f:5: vrrp.group.LAN.rfc3768-compatibility: is the old name of virtual-mac, which stands here too: take this line out`},
		{"no flag", after("virtual-mac = \"yes\"\n"), `f:4: vrrp.group.LAN.virtual-mac: "yes": must be true or false, without quotes`},
		{"owner", append(after("virtual-mac = true\npriority = 255\n"), `member = ["LAN", "WAN"]`, `member = ["WAN"]`), `f:5: vrrp.group.LAN.priority: 255: with virtual-mac the addresses are on a device of their own, and an owner has them on its interface, which answers by its own MAC: take them from the interface and write 254`},
		{"interval", after("garp.interval = \"1001s\"\n"), garp + `interval: "1001s": must be from 0s to 16m40s`},
		{"interval without unit", after("garp.interval = 1\n"), garp + `interval: 1: must be a duration with its unit, in quotes, as "1s" or "100ms"`},
		{"delay", after("garp.master-delay = \"256s\"\n"), garp + `master-delay: "256s": must be from 0s to 4m15s`},
		{"refresh", after("garp.master-refresh = \"-1s\"\n"), garp + `master-refresh: "-1s": must be from 0s to 4m15s`},
		{"repeat", after("garp.master-repeat = 0\n"), garp + `master-repeat: 0: must be a whole number from 1 to 255`},
		{"refresh repeat", after("garp.master-refresh-repeat = 256\n"), garp + `master-refresh-repeat: 256: must be a whole number from 1 to 255`},
		{"unknown", after("garp.master-repeats = 1\n"), garp + `master-repeats: unknown key: did you mean "master-repeat"?`},
		{"for all", all("garp.master-repeat = 0\n"), `f:16: vrrp.global-parameters.garp.master-repeat: 0: must be a whole number from 1 to 255`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse("f", edit(t, tt.edits...))
			if err == nil {
				t.Fatal("accepted")
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	lan := "vrid = 10\nexcluded-address = [{ address = \"10.0.8.1/24\", interface = \"eth0.8\" }, \"2001:db8::1/64\"]\n" +
		"rfc3768-compatibility = true\n[vrrp.group.LAN.garp]\ninterval = \"10ms\"\nmaster-delay = \"0s\"\nmaster-repeat = 3\n[vrrp.group.LAN]\n"
	lan = strings.Replace(lan, "[vrrp.group.LAN]\n", "", 1)
	text := edit(t, append(all("garp.master-refresh = \"60s\"\ngarp.master-refresh-repeat = 2\ngarp.master-repeat = 9\n"),
		"[vrrp.group.WAN]", lan[strings.Index(lan, "[vrrp"):]+"[vrrp.group.WAN]", "vrid = 10\n", lan[:strings.Index(lan, "[vrrp")])...)
	c, err := parse("f", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	got := c.VRRP.Groups[0]
	if !got.VirtualMAC || c.VRRP.Groups[1].VirtualMAC {
		t.Errorf("virtual MAC: %v, %v", got.VirtualMAC, c.VRRP.Groups[1].VirtualMAC)
	}
	excluded := []Address{{netip.MustParsePrefix("10.0.8.1/24"), "eth0.8"}, {netip.MustParsePrefix("2001:db8::1/64"), "eth0"}}
	if d := cmp.Diff(excluded, got.Excluded, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Error(d)
	}
	if all := got.Installed(); len(all) != 3 || all[0] != got.Addresses[0] || all[2] != excluded[1] {
		t.Errorf("installed: %v", all)
	}
	for i, want := range []GARP{
		{Interval: 10 * time.Millisecond, Refresh: time.Minute, RefreshRepeat: 2, Repeat: 3},
		{Delay: 5 * time.Second, Refresh: time.Minute, RefreshRepeat: 2, Repeat: 9},
	} {
		if got := c.VRRP.Groups[i].GARP; got != want {
			t.Errorf("group %d: %+v, want %+v", i, got, want)
		}
	}
}

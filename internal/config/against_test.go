// SPDX-License-Identifier: Apache-2.0

package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Two routers of one set; edit changes the second.
func TestAgainst(t *testing.T) {
	router := func(name string, priority uint8) *Config {
		return &Config{Path: name, Node: Node{name}, VRRP: VRRP{
			Groups: []Group{
				{Name: "LAN", VRID: 10, Priority: priority, Version: 3, AdvertInterval: time.Second},
				{Name: "WAN", VRID: 20, Priority: priority, Version: 3, AdvertInterval: time.Second},
			},
			SyncGroups: []SyncGroup{{Name: "MAIN", Member: []string{"LAN", "WAN"}}},
		}}
	}
	for name, tt := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"node":    {func(c *Config) { c.Node.Name = "a" }, `a: node.name: "a": b has the same: nodes of one name do not talk`},
		"vrid":    {func(c *Config) { c.VRRP.Groups[1].VRID = 21 }, `a: vrrp.group.WAN.vrid: 20: b has 21: it is the same on every router of the group`},
		"version": {func(c *Config) { c.VRRP.Groups[0].Version = 2 }, `a: vrrp.group.LAN.version: 3: b has 2: routers that speak different versions do not hear each other`},
		"order": {func(c *Config) { c.VRRP.Groups[1].Priority = 250 },
			`a: vrrp.group.WAN.priority: 200: b has 250, and in group LAN of the same sync group MAIN it is 200 to 100: one router must be the better one in all members`},
		"equal": {func(c *Config) { c.VRRP.Groups[1].Priority = 200 },
			`a: vrrp.group.WAN.priority: 200: b has the same, so that addresses decide, in each group of sync group MAIN by itself: give the two routers different priorities`},

		"all is well":                      {func(*Config) {}, ""},
		"priorities differ, the order not": {func(c *Config) { c.VRRP.Groups[1].Priority = 1 }, ""},
		"a group that the other has not":   {func(c *Config) { c.VRRP.Groups[1].Name, c.VRRP.Groups[1].Priority = "DMZ", 250 }, ""},
		"another interval in version 3":    {func(c *Config) { c.VRRP.Groups[0].AdvertInterval = time.Minute }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := router("a", 200), router("b", 100)
			tt.edit(b)
			got := ""
			if err := a.Against(b); err != nil {
				got = err.Error()
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	a, b := router("a", 200), router("b", 100)
	a.VRRP.Groups[0].Version, b.VRRP.Groups[0].Version, b.VRRP.Groups[0].AdvertInterval = 2, 2, 3*time.Second
	const want = `a: vrrp.group.LAN.advertise-interval: "1s": b has "3s": version 2 drops the adverts of another interval`
	if err := a.Against(b); err == nil || err.Error() != want {
		t.Errorf("version 2 with two intervals: %v", err)
	}
}

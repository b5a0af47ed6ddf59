// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTrackingRefused(t *testing.T) {
	const group, member = "vrid = 10\n", `member = ["LAN", "WAN"]` + "\n"
	const rule = `must be the absolute path of a program, and its arguments behind spaces, as "/etc/tandem/check.sh eth3"`
	const weight = `must be a whole number from -253 to 253, and not 0: below 0 it is taken off the priority while the thing is down, ` +
		`above 0 it is added while it is up; without a weight, down is a fault`
	const interfaces = `must be names of interfaces, as ["eth3"], or with a weight { name = "eth3", weight = -50 }`
	for name, tt := range map[string]struct{ after, lines, want string }{
		"script and ping": {group, "health-check.script = \"/a\"\nhealth-check.ping = \"192.0.2.1\"\n",
			"f:5: vrrp.group.LAN.health-check.ping: beside a script: a health check is one of the two, keep one of the lines"},
		"neither": {group, "health-check.interval = \"1s\"\n",
			`f:4: vrrp.group.LAN.health-check: neither script nor ping: write script = "/etc/tandem/check.sh", or ping = "192.0.2.1"`},
		"relative script":      {group, "health-check.script = \"check.sh\"\n", `f:4: vrrp.group.LAN.health-check.script: "check.sh": ` + rule},
		"quotes in a script":   {group, "transition-script.backup = \"/a 'b c'\"\n", `f:4: vrrp.group.LAN.transition-script.backup: "/a 'b c'": ` + rule},
		"ping of a group":      {group, "health-check.ping = \"224.0.0.1\"\n", `f:4: vrrp.group.LAN.health-check.ping: "224.0.0.1": must be a unicast address without prefix length, as "10.0.0.2"`},
		"interval":             {group, "health-check = { script = \"/a\", interval = \"10ms\" }\n", `f:4: vrrp.group.LAN.health-check.interval: "10ms": must be from 100ms to 1h`},
		"timeout":              {group, "health-check = { script = \"/a\", interval = \"1s\", timeout = \"2s\" }\n", `f:4: vrrp.group.LAN.health-check.timeout: "2s": must not be longer than the interval, 1s`},
		"failure-count":        {group, "health-check = { script = \"/a\", failure-count = 0 }\n", `f:4: vrrp.group.LAN.health-check.failure-count: 0: must be a whole number from 1 to 100`},
		"rise":                 {group, "health-check = { script = \"/a\", rise = 101 }\n", `f:4: vrrp.group.LAN.health-check.rise: 101: must be a whole number from 1 to 100`},
		"weight":               {group, "health-check = { script = \"/a\", weight = 254 }\n", `f:4: vrrp.group.LAN.health-check.weight: 254: ` + weight},
		"no weight":            {group, "health-check = { script = \"/a\", weight = 0 }\n", `f:4: vrrp.group.LAN.health-check.weight: 0: ` + weight},
		"unknown key":          {group, "health-check = { script = \"/a\", failures = 1 }\n", `f:4: vrrp.group.LAN.health-check.failures: unknown key: known here are failure-count, interval, ping, rise, script, timeout, weight`},
		"tracked name":         {group, "track.interface = [\"eth 3\"]\n", `f:4: vrrp.group.LAN.track.interface: "eth 3": ` + interfaces},
		"tracked twice":        {group, "track.interface = [\"eth3\", { name = \"eth3\", weight = 5 }]\n", `f:4: vrrp.group.LAN.track.interface: "eth3": stands there twice`},
		"tracked weight":       {group, "track.interface = { name = \"eth3\", weight = 300 }\n", `f:4: vrrp.group.LAN.track.interface: { name = "eth3", weight = 300 }: ` + interfaces},
		"tracked stray key":    {group, "track.interface = { name = \"eth3\", wait = 3 }\n", `f:4: vrrp.group.LAN.track.interface: { name = "eth3", wait = 3 }: ` + interfaces},
		"active and master":    {group, "transition-script = { active = \"/a\", master = \"/b\" }\n", `f:4: vrrp.group.LAN.transition-script.master: is the old name of active: keep one of the two lines`},
		"weight of the owner":  {group, "priority = 255\ntrack.interface = { name = \"eth3\", weight = -5 }\n", "f:4: vrrp.group.LAN.priority: 255: the owner of the addresses has one priority always, and this group tracks with a weight: take the weight out, then a failure is a fault\nf:7: vrrp.group.WAN.priority: 100: group LAN of the same sync group MAIN has 255: with 255 in one member all need it, since an owner never waits for the others"},
		"a check in a check":   {member, "health-check.script = \"/a\"\n[vrrp.group.WAN.health-check]\nping = \"192.0.2.1\"\n", "f:12: vrrp.group.WAN.health-check: sync group MAIN has a health-check of its own, which is one for all its members: keep one of the two"},
		"hooks' user":          {"name = \"r1\"\n", "[hooks]\nuser = \"a b\"\n", `f:18: hooks.user: "a b": must be the name of a user`},
		"hooks' timeout":       {"name = \"r1\"\n", "[hooks]\ntimeout = \"1ms\"\n", `f:18: hooks.timeout: "1ms": must be from 100ms to 10m`},
		"who starts the hooks": {"name = \"r1\"\n", "[hooks]\nstart = \"never\"\n", `f:18: hooks.start: "never": must be "run" or "unit"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse("f", edit(t, tt.after, tt.after+tt.lines))
			if err == nil {
				t.Fatal("accepted")
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Errorf("(-want +got):\n%s\ngot: %s", d, err)
			}
		})
	}
}

func TestTracking(t *testing.T) {
	c, err := parse("f", edit(t, "vrid = 10\n", `vrid = 10
track.interface = ["eth3", { name = "eth4", weight = -50 }]
track.exclude-vrrp-interface = true
transition-script = { master = "/a b  c", stop = "/d" }
health-check = { ping = "fe80::1%eth0", interval = "1s" }
`, "vrid = 20\n", `vrid = 20
health-check = { script = "/e", rise = 2, weight = 20 }
`, "name = \"r1\"\n", "name = \"r1\"\n[hooks]\nuser = \"nobody\"\nstart = \"unit\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	lan, wan := c.VRRP.Groups[0], c.VRRP.Groups[1]
	for _, tt := range []struct{ got, want any }{
		{lan.Track, Track{Interfaces: []TrackedInterface{{"eth3", 0}, {"eth4", -50}}, ExcludeOwn: true}},
		{lan.Scripts, Scripts{Active: []string{"/a", "b", "c"}, Stop: []string{"/d"}}},
		{lan.Check, &HealthCheck{Ping: netip.MustParseAddr("fe80::1%eth0"), Interval: time.Second, Timeout: time.Second, FailureCount: 3, Rise: 1}},
		{wan.Check, &HealthCheck{Script: []string{"/e"}, Interval: time.Minute, Timeout: 5 * time.Second, FailureCount: 3, Rise: 2, Weight: 20}},
		{c.Hooks, Hooks{User: "nobody", Timeout: 30 * time.Second, Unit: true}},
		{c.Runs(), true},
	} {
		if d := cmp.Diff(tt.want, tt.got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	if c, err = parse("f", good); err != nil || c.Runs() {
		t.Errorf("a file without scripts has something to run, or: %v", err)
	}
}

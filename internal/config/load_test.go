// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tandem-ha/tandem/conntrack"
)

// good is the smallest file with everything that is required.
const good = `[vrrp.group.LAN]
interface = "eth0"
vrid = 10
address = ["10.0.0.1/24"]
[vrrp.group.WAN]
interface = "eth1"
vrid = 20
address = "203.0.113.1/24"
[vrrp.sync-group.MAIN]
member = ["LAN", "WAN"]
[conntrack-sync]
failover-mechanism.vrrp.sync-group = "MAIN"
authentication = "none"
[conntrack-sync.interface.eth2]
[node]
name = "r1"
`

// edit replaces lines of good: old, new, old, new ...
func edit(t *testing.T, pairs ...string) string {
	t.Helper()
	s := good
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(s, pairs[i]) {
			t.Fatalf("the good file has no %q", pairs[i])
		}
		s = strings.Replace(s, pairs[i], pairs[i+1], 1)
	}
	return s
}

func TestRefused(t *testing.T) {
	const lanVRID, lanAddr, wanVRID = "vrid = 10\n", `address = ["10.0.0.1/24"]`, "vrid = 20\n"
	const auth, failover = "authentication = \"none\"\n", "failover-mechanism.vrrp.sync-group = \"MAIN\"\n"
	const link, member = "[conntrack-sync.interface.eth2]\n", `member = ["LAN", "WAN"]`
	for _, tt := range []struct {
		name  string
		edits []string
		want  string
	}{
		// Syntax and keys.
		{"syntax", []string{lanVRID, "vrid = \n"}, `f:3: not valid TOML: expected value but found '\n' instead`},
		{"key twice", []string{lanVRID, "vrid = 10\nvrid = 11\n"}, `f:4: not valid TOML: Key 'vrrp.group.LAN.vrid' has already been defined.`},
		{"unknown key, near", []string{lanVRID, "vrid = 10\nprioritty = 1\n"}, `f:4: vrrp.group.LAN.prioritty: unknown key: did you mean "priority"?`},
		{"unknown key, far", []string{"[node]\n", "[node]\ncolour = 1\n"}, `f:16: node.colour: unknown key: known here are name`},
		{"unknown table", []string{"[node]\n", "[hoax]\nx = 1\n[node]\n"}, `f:15: hoax: unknown key: known here are capture, conntrack-sync, control, hooks, log, metrics, node, vrrp`},
		{"unknown dotted key", []string{failover, failover + "failover-mechanism.carp = true\n"}, `f:13: conntrack-sync.failover-mechanism.carp: unknown key: known here are address, external, vrrp`},
		{"VyOS's old name", []string{lanVRID, "vrid = 10\npreempt = true\n"}, `f:4: vrrp.group.LAN.preempt: unknown key: preemption is the default; no-preempt = true turns it off`},
		{"table expected", []string{link, "[conntrack-sync.interface]\neth2 = 3\n"}, `f:15: conntrack-sync.interface.eth2: 3: must be a table, as [conntrack-sync.interface.eth2]`},
		{"two faults, in order", []string{lanVRID, "vrid = 0\n", wanVRID, "vrid = 256\n"},
			"f:3: vrrp.group.LAN.vrid: 0: must be a whole number from 1 to 255\n" +
				"f:7: vrrp.group.WAN.vrid: 256: must be a whole number from 1 to 255"},

		// Groups.
		{"no group", []string{good, "[node]\nname = \"r1\"\n"}, `f: vrrp.group: missing: at least one group is needed, as a table [vrrp.group.LAN]`},
		{"no vrid", []string{lanVRID, ""}, `f:1: vrrp.group.LAN.vrid: missing: write the virtual router's number, 1 to 255, the same on every router of the group`},
		{"no interface", []string{"interface = \"eth0\"\n", ""}, `f:1: vrrp.group.LAN.interface: missing: name the interface that carries the adverts, as interface = "eth0"`},
		{"no address", []string{lanAddr, ""}, `f:1: vrrp.group.LAN.address: missing: give at least one virtual address, as address = ["10.0.0.1/24"]`},
		{"empty address list", []string{lanAddr, "address = []"}, `f:4: vrrp.group.LAN.address: empty list: give at least one virtual address, as address = ["10.0.0.1/24"]`},
		{"vrid as text", []string{lanVRID, "vrid = \"10\"\n"}, `f:3: vrrp.group.LAN.vrid: "10": must be a whole number from 1 to 255`},
		{"priority 0", []string{lanVRID, "vrid = 10\npriority = 0\n"}, `f:4: vrrp.group.LAN.priority: 0: must be a whole number from 1 to 255`},
		{"interval too short", []string{lanVRID, "vrid = 10\nadvertise-interval = \"5ms\"\n"}, `f:4: vrrp.group.LAN.advertise-interval: "5ms": must be from 10ms to 40.95s`},
		{"interval too long", []string{lanVRID, "vrid = 10\nadvertise-interval = \"41s\"\n"}, `f:4: vrrp.group.LAN.advertise-interval: "41s": must be from 10ms to 40.95s`},
		{"interval between centiseconds", []string{lanVRID, "vrid = 10\nadvertise-interval = \"15ms\"\n"}, `f:4: vrrp.group.LAN.advertise-interval: "15ms": must be a multiple of 10ms`},
		{"interval without unit", []string{lanVRID, "vrid = 10\nadvertise-interval = 1\n"}, `f:4: vrrp.group.LAN.advertise-interval: 1: must be a duration with its unit, in quotes, as "1s" or "100ms"`},
		{"interval is no duration", []string{lanVRID, "vrid = 10\nadvertise-interval = \"1\"\n"}, `f:4: vrrp.group.LAN.advertise-interval: "1": must be a duration, as "1s" or "100ms"`},
		{"preempt delay too long", []string{lanVRID, "vrid = 10\npreempt-delay = \"20m\"\n"}, `f:4: vrrp.group.LAN.preempt-delay: "20m": must be from 0s to 16m40s`},
		{"flag in quotes", []string{lanVRID, "vrid = 10\nno-preempt = \"yes\"\n"}, `f:4: vrrp.group.LAN.no-preempt: "yes": must be true or false, without quotes`},
		{"interface name too long", []string{`"eth0"`, `"averylonginterface"`}, `f:2: vrrp.group.LAN.interface: "averylonginterface": must be the name of an interface, at most 15 characters`},
		{"group name", []string{"[vrrp.group.WAN]", `[vrrp.group."W N"]`, `"WAN"]`, `"W N"]`}, `f:5: vrrp.group."W N": the group must have a name of 1 to 63 letters, digits, dots, dashes and underscores`},
		{"address is none", []string{lanAddr, `address = ["10.0.0.1/24", "ten"]`}, `f:4: vrrp.group.LAN.address: "ten": must be an address with its prefix length, as "10.0.0.1/24", or { address = "10.0.0.1/24", interface = "eth0.9" }`},
		{"address with a stray key", []string{lanAddr, `address = [{ address = "10.0.0.1/24", dev = "eth9" }]`}, `f:4: vrrp.group.LAN.address: { address = "10.0.0.1/24", dev = "eth9" }: must be an address with its prefix length, as "10.0.0.1/24", or { address = "10.0.0.1/24", interface = "eth0.9" }`},
		{"address of the network", []string{lanAddr, `address = "10.0.0.0/24"`}, `f:4: vrrp.group.LAN.address: "10.0.0.0/24": is the address of the network, not of a host in it`},
		{"broadcast address", []string{lanAddr, `address = "10.0.3.255/22"`}, `f:4: vrrp.group.LAN.address: "10.0.3.255/22": is the broadcast address of its network, not a host's`},
		{"multicast address", []string{lanAddr, `address = "224.0.0.18"`}, `f:4: vrrp.group.LAN.address: "224.0.0.18": must be a unicast address that a host can have`},
		{"address twice", []string{`"203.0.113.1/24"`, `["203.0.113.1/24", "10.0.0.1/24"]`}, `f:8: vrrp.group.WAN.address: "10.0.0.1/24": stands in group LAN already: an address belongs to one group, once`},
		{"vrid twice on an interface", []string{`"eth1"`, `"eth0"`, wanVRID, "vrid = 10\n"}, `f:7: vrrp.group.WAN.vrid: 10: group LAN has the same vrid on eth0: each group of an interface needs its own`},
		{"source of another family", []string{lanVRID, "vrid = 10\nhello-source-address = \"fe80::1\"\n"}, `f:4: vrrp.group.LAN.hello-source-address: "fe80::1": must be of the family of the group's addresses, IPv4`},

		// Sync groups.
		{"no member", []string{member, "member = []"}, `f:10: vrrp.sync-group.MAIN.member: missing: name the groups that change state together, as member = ["LAN", "WAN"]`},
		{"unknown member", []string{member, `member = ["LAN", "VAN"]`}, `f:10: vrrp.sync-group.MAIN.member: "VAN": no such group: must be "LAN" or "WAN"`},
		{"member twice", []string{member, `member = ["LAN", "LAN"]`}, `f:10: vrrp.sync-group.MAIN.member: "LAN": stands there twice`},
		{"member in two groups", []string{member, member + "\n[vrrp.sync-group.B]\nmember = \"WAN\""}, `f:12: vrrp.sync-group.B.member: "WAN": is a member of sync group MAIN already: a group can be in one only`},
		{"disabled member", []string{wanVRID, "vrid = 20\ndisable = true\n"}, `f:11: vrrp.sync-group.MAIN.member: "WAN": this group is disabled: take it out of the sync group, or enable it`},
		{"members differ in preempt", []string{wanVRID, "vrid = 20\nno-preempt = true\n"}, `f:8: vrrp.group.WAN.no-preempt: true: group LAN of the same sync group MAIN has false: members preempt together or not at all`},
		{"one member is the owner", []string{wanVRID, "vrid = 20\npriority = 255\n"}, `f:8: vrrp.group.WAN.priority: 255: group LAN of the same sync group MAIN has 100: with 255 in one member all need it, since an owner never waits for the others`},
		{"a name for two sets", []string{"[vrrp.sync-group.MAIN]", "[vrrp.sync-group.LAN]", member, `member = "WAN"`, `"MAIN"`, `"LAN"`}, `f:1: vrrp.group.LAN: a sync group has the same name and this group is not in it: rename one of the two`},

		// conntrack-sync.
		{"no failover mechanism", []string{failover, ""}, `f:11: conntrack-sync.failover-mechanism: missing: write failover-mechanism.vrrp.sync-group = "MAIN", or failover-mechanism.vrrp.group = "LAN", or failover-mechanism.external = true if another program elects`},
		{"two failover mechanisms", []string{failover, failover + "failover-mechanism.vrrp.group = \"LAN\"\n"}, `f:12: conntrack-sync.failover-mechanism: names both a sync group and a group: keep one of the two lines
f:13: conntrack-sync.failover-mechanism.vrrp.group: "LAN": is a member of sync group MAIN, which decides: write failover-mechanism.vrrp.sync-group = "MAIN"`},
		{"unknown sync group", []string{failover, "failover-mechanism.vrrp.sync-group = \"MINE\"\n"}, `f:12: conntrack-sync.failover-mechanism.vrrp.sync-group: "MINE": no such sync group: must be "MAIN"`},
		{"unknown group", []string{failover, "failover-mechanism.vrrp.group = \"DMZ\"\n"}, `f:12: conntrack-sync.failover-mechanism.vrrp.group: "DMZ": no such group: must be "LAN" or "WAN"`},
		{"authentication not said", []string{auth, ""}, `f:11: conntrack-sync.authentication: missing: write key-file = "/etc/tandem/sync.key" (tandem sync key new draws a key), or authentication = "none" to say that nobody but the peer can reach the link`},
		{"authentication by hope", []string{auth, "authentication = \"psk\"\n"}, `f:13: conntrack-sync.authentication: "psk": must be "none"`},
		{"key file and none", []string{auth, auth + "key-file = \"/etc/tandem/sync.key\"\n"}, `f:13: conntrack-sync.authentication: "none" beside a key-file: keep one of the two lines`},
		{"key file somewhere", []string{auth, "key-file = \"sync.key\"\n"}, `f:13: conntrack-sync.key-file: "sync.key": must be an absolute path`},
		{"no link", []string{link, ""}, `f:11: conntrack-sync.interface: missing: name the link to the peer, as a table [conntrack-sync.interface.eth2]`},
		{"a table of no link", []string{link, "[conntrack-sync.interface]\n"}, `f:14: conntrack-sync.interface: missing: name the link to the peer, as a table [conntrack-sync.interface.eth2]`},
		{"a link twice", []string{link, link + link}, `f:15: not valid TOML: Key 'conntrack-sync.interface.eth2' has already been defined.`},
		{"two links, two ports", []string{link, link + "port = 3782\n[conntrack-sync.interface.eth3]\n"}, `f:16: conntrack-sync.interface.eth3.port: 3781: eth2 has 3782: the port is the same on all links`},
		{"two links, one listen-address", []string{link, link + "listen-address = \"10.9.0.1\"\n[conntrack-sync.interface.eth3]\nlisten-address = \"10.9.0.1\"\n"},
			`f:17: conntrack-sync.interface.eth3.listen-address: "10.9.0.1": is that of eth2 already: each link needs an address of its own`},
		{"two links, one peer's address", []string{link, link + "peer = \"10.9.0.2\"\n[conntrack-sync.interface.eth3]\npeer = \"10.9.0.2\"\n"},
			`f:17: conntrack-sync.interface.eth3.peer: "10.9.0.2": stands at eth2 already: name the address that the peer has on this link`},
		{"second link carries a group", []string{link, link + "[conntrack-sync.interface.eth1]\n"}, `f:15: conntrack-sync.interface.eth1: carries group WAN too: flows that leave by a sync link are not captured, so the link needs an interface of its own (a VLAN will do)`},
		{"mcast-group is none", []string{link, link + "mcast-group = \"10.0.0.50\"\n"}, `f:15: conntrack-sync.interface.eth2.mcast-group: "10.0.0.50": must be a multicast address, as "225.0.0.50" or "ff02::5450"`},
		{"mcast-group of another family", []string{link, link + "mcast-group = \"ff02::50\"\nlisten-address = \"192.168.255.1\"\n"}, `f:15: conntrack-sync.interface.eth2.mcast-group: "ff02::50": must be of the family of listen-address, 192.168.255.1`},
		{"mcast-group beside a peer", []string{link, link + "mcast-group = \"225.0.0.51\"\npeer = \"192.168.255.2\"\n"}, `f:15: conntrack-sync.interface.eth2.mcast-group: "225.0.0.51": is not used where peers are named: keep one of the two lines`},
		{"rate", []string{auth, auth + "rate = 50\n"}, `f:14: conntrack-sync.rate: 50: must be bytes per second from "100kB/s" to "10GB/s", as "50MB/s"`},
		{"rate in bits", []string{auth, auth + "rate = \"50Mbit/s\"\n"}, `f:14: conntrack-sync.rate: "50Mbit/s": must be bytes per second from "100kB/s" to "10GB/s", as "50MB/s"`},
		{"rate too low", []string{auth, auth + "rate = \"1kB/s\"\n"}, `f:14: conntrack-sync.rate: "1kB/s": must be bytes per second from "100kB/s" to "10GB/s", as "50MB/s"`},
		{"link carries a group", []string{"interface.eth2", "interface.eth0"}, `f:14: conntrack-sync.interface.eth0: carries group LAN too: flows that leave by a sync link are not captured, so the link needs an interface of its own (a VLAN will do)`},
		{"peer with prefix", []string{link, link + "peer = [\"192.168.255.2/24\"]\n"}, `f:15: conntrack-sync.interface.eth2.peer: "192.168.255.2/24": must be unicast addresses without prefix length, as ["192.168.255.2"]`},
		{"peer is myself", []string{link, link + "peer = \"192.168.255.2\"\nlisten-address = \"192.168.255.2\"\n"}, `f:15: conntrack-sync.interface.eth2.peer: "192.168.255.2": is this node's own listen-address: name the other node's`},
		{"peer of another family", []string{link, link + "peer = \"fd00::2\"\nlisten-address = \"192.168.255.2\"\n"}, `f:15: conntrack-sync.interface.eth2.peer: "fd00::2": must be of the family of listen-address, 192.168.255.2`},
		{"address of another zone", []string{link, link + "peer = \"fe80::2%eth3\"\n"}, `f:15: conntrack-sync.interface.eth2.peer: "fe80::2%eth3": must be unicast addresses without prefix length, as ["192.168.255.2"]`},
		{"own address of another zone", []string{link, link + "listen-address = \"fe80::1%eth3\"\n"}, `f:15: conntrack-sync.interface.eth2.listen-address: "fe80::1%eth3": is an address of another interface than eth2`},
		{"xdp", []string{link, link + "xdp = \"native\"\n"}, `f:15: conntrack-sync.interface.eth2.xdp: "native": must be "auto" or "off"`},
		{"port", []string{link, link + "port = 0\n"}, `f:15: conntrack-sync.interface.eth2.port: 0: must be a whole number from 1 to 65535`},
		{"protocol", []string{auth, auth + "accept-protocol = [\"tcp,udp\"]\n"}, `f:14: conntrack-sync.accept-protocol: "tcp,udp": must be some of "tcp", "udp", "icmp", "icmp6", "sctp", "dccp", "gre", "udplite", "esp" or "all"`},
		{"ignore-address", []string{auth, auth + "ignore-address = [\"10.0.0.0/33\"]\n"}, `f:14: conntrack-sync.ignore-address: "10.0.0.0/33": must be an address or a prefix, as "10.0.0.2" or "10.0.0.0/24"`},
		{"replicate-when", []string{auth, auth + "replicate-when.tcp = \"always\"\n"}, `f:14: conntrack-sync.replicate-when.tcp: "always": must be "new", "replied" or "assured"`},
		{"commit", []string{auth, auth + "commit = \"never\"\n"}, `f:14: conntrack-sync.commit: "never": must be "continuous" or "takeover"`},
		{"fence-limit", []string{auth, auth + "fence-limit = \"2m\"\n"}, `f:14: conntrack-sync.fence-limit: "2m": must be from 100ms to 1m`},

		// The rest.
		{"node name", []string{`"r1"`, `"r 1"`}, `f:16: node.name: "r 1": must be a name of 1 to 63 letters, digits, dots, dashes and underscores`},
		{"capture mode", []string{"[node]", "[capture]\nmode = \"ebpf\"\n[node]"}, `f:16: capture.mode: "ebpf": must be "auto", "tc", "tracing" or "netlink"`},
		{"capture nothing", []string{"[node]", "[capture]\ninterface = []\n[node]"}, `f:16: capture.interface: empty list: name at least one interface, or "*" for all`},
		{"capture pattern", []string{"[node]", "[capture]\nexclude = [\"eth[0-9]\"]\n[node]"}, `f:16: capture.exclude: "eth[0-9]": must be names of interfaces, * stands for any characters, as "eth*"`},
		{"socket", []string{"[node]", "[control]\nsocket = \"tandem.sock\"\n[node]"}, `f:16: control.socket: "tandem.sock": must be an absolute path of at most 107 bytes`},
		{"metrics", []string{"[node]", "[metrics]\nlisten = \"9817\"\n[node]"}, `f:16: metrics.listen: "9817": must be an address and a port, as "127.0.0.1:9817" or "[::1]:9817"`},
		{"log level", []string{"[node]", "[log]\nlevel = \"loud\"\n[node]"}, `f:16: log.level: "loud": must be "debug", "info", "warn" or "error"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parse("f", edit(t, tt.edits...))
			if err == nil {
				t.Fatalf("accepted: %+v", c)
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Errorf("(-want +got):\n%s\ngot: %s", d, err)
			}
		})
	}
}

// What the design has and this version has not is refused, never left out in
// silence.
func TestNotYet(t *testing.T) {
	const group, sync = "vrid = 10\n", "authentication = \"none\"\n"
	for _, tt := range []struct{ after, line string }{
		{sync, `expect-sync = ["ftp"]`},
		{"name = \"r1\"\n", "[capture]\nmode = \"tracing\""},
		{"name = \"r1\"\n", "[capture]\nmode = \"netlink\""},
	} {
		t.Run(tt.line, func(t *testing.T) {
			text := edit(t, tt.after, tt.after+tt.line+"\n")
			_, err := parse("f", text)
			if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "not in this version of tandem yet") {
				t.Errorf("got %v, want one sentence that says that it is not there yet", err)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	got, err := parse("f", good)
	if err != nil {
		t.Fatal(err)
	}
	policy := conntrack.DefaultPolicy()
	group := func(name, iface string, vrid uint8, addr string) Group {
		return Group{Name: name, Interface: iface, VRID: vrid, Priority: 100, AdvertInterval: time.Second, Version: 3,
			Addresses: []Address{{Prefix: netip.MustParsePrefix(addr), Interface: iface}}, GARP: defaultGARP}
	}
	want := &Config{
		Path: "f",
		Node: Node{Name: "r1"},
		VRRP: VRRP{
			Groups:     []Group{group("LAN", "eth0", 10, "10.0.0.1/24"), group("WAN", "eth1", 20, "203.0.113.1/24")},
			SyncGroups: []SyncGroup{{Name: "MAIN", Member: []string{"LAN", "WAN"}}},
		},
		Sync: &Sync{SyncGroup: "MAIN", Policy: policy, Commit: CommitContinuous, SecondPath: SecondPathAlarm, CommitAfter: 2 * time.Second,
			FenceLimit: 5 * time.Second, Rate: 50e6, Links: []Link{{Interface: "eth2", Port: 3781, XDP: "auto"}}},
		Hooks:   Hooks{User: "root", Timeout: 30 * time.Second},
		Capture: Capture{Mode: "auto", Advert: "auto", Interface: []string{"*"}},
		Control: Control{Socket: "/run/tandem/tandem.sock"},
		Log:     Log{Level: "info"},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreUnexported(Config{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Everything that can be said is heard.
func TestEverything(t *testing.T) {
	got, err := parse("f", `
[node]
name = "r2"
[vrrp.group.B]
interface = "eth1"
vrid = 255
address = [{ address = "10.0.9.1/24", interface = "eth1.9" }, "10.0.8.1"]
priority = 254
advertise-interval = "40.95s"
no-preempt = true
preempt-delay = "1000s"
version = 3
description = "uplink"
hello-source-address = "10.0.9.2"
virtual-mac = false
[vrrp.group.A]
interface = "eth1"
vrid = 1
address = { address = "10.0.7.1/31" }
advertise-interval = "10ms"
disable = true
[vrrp.global-parameters]
startup-delay = "600s"
version = 3
[conntrack-sync]
failover-mechanism.vrrp.group = "B"
authentication = "none"
accept-protocol = ["tcp", "icmp6"]
ignore-address = ["10.0.0.2", "10.1.2.3/16", "fe80::/10"]
replicate-when.tcp = "new"
replicate-when.other = "assured"
commit = "takeover"
second-path = "hold"
commit-after = "0s"
fence-limit = "100ms"
rate = "1.5 GB/s"
[conntrack-sync.interface.eth2]
peer = ["192.168.255.2", "192.168.255.3"]
listen-address = "192.168.255.1"
port = 1
xdp = "off"
[conntrack-sync.interface.eth3]
peer = "fe80::2%eth3"
listen-address = "fe80::1%eth3"
port = 1
[conntrack-sync.interface.eth4]
peer = "fe80::2"
listen-address = "fe80::1"
port = 1
[conntrack-sync.interface.eth5]
mcast-group = "ff02::50"
port = 1
[capture]
mode = "tc"
advert = "xdp"
interface = ["eth*", "wg0"]
exclude = ["eth9"]
[control]
socket = "/tmp/x"
[metrics]
listen = ["127.0.0.1:9817", ":1"]
[log]
level = "debug"
`)
	if err != nil {
		t.Fatal(err)
	}
	p := conntrack.Policy{TCP: conntrack.WhenNew, Other: conntrack.WhenAssured}
	p.Protocols[6], p.Protocols[58] = true, true
	p.Ignore = []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fe80::/10")}
	want := &Config{
		Path: "f",
		Node: Node{Name: "r2"},
		VRRP: VRRP{
			Groups: []Group{
				{Name: "B", Description: "uplink", Interface: "eth1", VRID: 255, Priority: 254, AdvertInterval: 40950 * time.Millisecond,
					NoPreempt: true, PreemptDelay: 1000 * time.Second, Version: 3, HelloSource: netip.MustParseAddr("10.0.9.2"),
					Addresses: []Address{{netip.MustParsePrefix("10.0.9.1/24"), "eth1.9"}, {netip.MustParsePrefix("10.0.8.1/32"), "eth1"}}, GARP: defaultGARP},
				{Name: "A", Disable: true, Interface: "eth1", VRID: 1, Priority: 100, AdvertInterval: 10 * time.Millisecond, Version: 3,
					Addresses: []Address{{netip.MustParsePrefix("10.0.7.1/31"), "eth1"}}, GARP: defaultGARP},
			},
			StartupDelay: 600 * time.Second,
		},
		Sync: &Sync{Group: "B", Policy: p, Commit: CommitTakeover, SecondPath: SecondPathHold, FenceLimit: 100 * time.Millisecond, Rate: 1500e6, Links: []Link{
			{Interface: "eth2", Peer: []netip.Addr{netip.MustParseAddr("192.168.255.2"), netip.MustParseAddr("192.168.255.3")},
				Listen: netip.MustParseAddr("192.168.255.1"), Port: 1, XDP: "off"},
			{Interface: "eth3", Peer: []netip.Addr{netip.MustParseAddr("fe80::2")}, Listen: netip.MustParseAddr("fe80::1"), Port: 1, XDP: "auto"},
			{Interface: "eth4", Peer: []netip.Addr{netip.MustParseAddr("fe80::2")}, Listen: netip.MustParseAddr("fe80::1"), Port: 1, XDP: "auto"},
			{Interface: "eth5", Group: netip.MustParseAddr("ff02::50"), Port: 1, XDP: "auto"}}},
		Hooks:   Hooks{User: "root", Timeout: 30 * time.Second},
		Capture: Capture{Mode: "tc", Advert: "xdp", Interface: []string{"eth*", "wg0"}, Exclude: []string{"eth9"}},
		Control: Control{Socket: "/tmp/x"},
		Metrics: Metrics{Listen: []string{"127.0.0.1:9817", ":1"}},
		Log:     Log{Level: "debug"},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreUnexported(Config{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestElectionWithoutCopy(t *testing.T) {
	c, err := parse("f", good[:strings.Index(good, "[conntrack-sync]")])
	if err != nil {
		t.Fatal(err)
	}
	if c.Sync != nil {
		t.Errorf("got %+v, want no copy", c.Sync)
	}
	if c.Node.Name == "" {
		t.Error("no node name: want the host's")
	}
}

const sample = "../../docs/tandem.toml"

// The sample is accepted, and so it is with every default spelled out.
func TestSample(t *testing.T) {
	c, err := Load(sample)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	var spelled []string
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") && rest != "\n" {
			line = rest
		}
		spelled = append(spelled, line)
	}
	all, err := parse(sample, strings.Join(spelled, ""))
	if err != nil {
		t.Fatal(err)
	}
	// These two have no default value of their own.
	all.Sync.Links[0].Peer, all.Sync.Links[0].Listen = nil, netip.Addr{}
	if d := cmp.Diff(c, all, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreUnexported(Config{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("a default in the sample is not the default (-is +shown):\n%s", d)
	}
}

func TestWhere(t *testing.T) {
	c, err := parse("f", good)
	if err != nil {
		t.Fatal(err)
	}
	for want, key := range map[string][]string{
		"f:6: vrrp.group.WAN.interface":           {"vrrp", "group", "WAN", "interface"},
		"f:5: vrrp.group.WAN.priority":            {"vrrp", "group", "WAN", "priority"},
		"f:14: conntrack-sync.interface.eth2":     {"conntrack-sync", "interface", "eth2"},
		"f: metrics.listen":                       {"metrics", "listen"},
		"f:12: conntrack-sync.failover-mechanism": {"conntrack-sync", "failover-mechanism"},
	} {
		if got := c.Where(key...); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Every key that is read is explained in configuration.md.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range []string{"load.go", "vrrp.go", "sync.go", "vip.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range getters.FindAllStringSubmatch(string(text), -1) {
			for _, key := range quoted.FindAllStringSubmatch(call[1]+call[2], -1) {
				found++
				if !strings.Contains(string(doc), key[1]) {
					t.Errorf("%s reads %q, which configuration.md does not explain", file, key[1])
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d keys were found in the source: the test no longer reads it", found)
	}
}

// The names in calls of table's getters: the first string, or all of later's.
var (
	getters = regexp.MustCompile(`\.(?:get|text|choice|flag|number|duration|list|table|globs|address|addresses|prefixes|script|scripts|check|weight)\(("[a-z-]+")|\.later\("[^"]*", ([^)]*)\)`)
	quoted  = regexp.MustCompile(`"([a-z0-9-]+)"`)
)

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ path, want string }{
		{filepath.Join(dir, "none"), "read configuration: stat " + dir + "/none: no such file or directory (docs/tandem.toml is a sample to start from)"},
		{dir, "read configuration: " + dir + ": not a regular file of at most 1 MiB"},
	} {
		if _, err := Load(tt.path); err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

// FuzzConfig: no input brings the reader down, and what is accepted keeps the
// promises of Config's comments.
func FuzzConfig(f *testing.F) {
	f.Add(good)
	text, err := os.ReadFile(sample)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("[vrrp.group.LAN]\naddress = [{ address = \"10.0.0.1/24\" }]\n[[vrrp.group.X]]\n")
	f.Add(alone)
	f.Add(strings.Replace(good, "vrid = 10\n", "vrid = 10\nversion = 2\nadvertise-interval = \"200s\"\n", 1))
	f.Add(good + "[conntrack-sync.interface.eth3]\n")
	f.Add(strings.Replace(good, "[conntrack-sync.interface.eth2]", "[conntrack-sync.interface]", 1))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parse("f", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("an error without its place: %v", err)
			}
			return
		}
		external := c.Sync != nil && c.Sync.External
		if (len(c.VRRP.Groups) == 0) != external {
			t.Errorf("accepted with %d groups, external %t", len(c.VRRP.Groups), external)
		}
		for _, g := range c.VRRP.Groups {
			least, most, step := minAdvert, maxAdvert, advertStep
			if g.Version == 2 {
				least, most, step = time.Second, maxAdvert2, time.Second
			}
			if g.VRID == 0 || g.Priority == 0 || g.Interface == "" || len(g.Addresses) == 0 ||
				g.AdvertInterval < least || g.AdvertInterval > most || g.AdvertInterval%step != 0 || g.Version != 2 && g.Version != 3 {
				t.Errorf("accepted %+v", g)
			}
		}
		if s := c.Sync; s != nil && (len(s.Links) == 0 || s.External != (s.SyncGroup+s.Group == "") || s.SyncGroup != "" && s.Group != "") {
			t.Errorf("accepted %+v", s)
		}
	})
}

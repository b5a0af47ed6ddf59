// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// six makes group LAN one of IPv6.
var six = []string{`["10.0.0.1/24"]`, `["fe80::1/64", "2001:db8::1/64"]`}

func TestWireRefused(t *testing.T) {
	const lan = "vrid = 10\n"
	after := func(lines string) []string { return []string{lan, lan + lines} }
	for _, tt := range []struct {
		name  string
		edits []string
		want  string
	}{
		{"version 1", after("version = 1\n"), `f:4: vrrp.group.LAN.version: 1: must be a whole number from 2 to 3`},
		{"version 2, fraction", after("version = 2\nadvertise-interval = \"500ms\"\n"), `f:5: vrrp.group.LAN.advertise-interval: "500ms": version 2 counts whole seconds, from 1s to 255s: write them, or version = 3 on every router of the group`},
		{"version 2, second and a half", after("version = 2\nadvertise-interval = \"1500ms\"\n"), `f:5: vrrp.group.LAN.advertise-interval: "1500ms": version 2 counts whole seconds, from 1s to 255s: write them, or version = 3 on every router of the group`},
		{"version 2 for all, fraction", []string{lan, lan + "advertise-interval = \"100ms\"\n", "[node]\n", "[vrrp.global-parameters]\nversion = 2\n[node]\n"}, `f:4: vrrp.group.LAN.advertise-interval: "100ms": version 2 counts whole seconds, from 1s to 255s: write them, or version = 3 on every router of the group`},
		{"version 2, IPv6", append(after("version = 2\n"), six...), `f:4: vrrp.group.LAN.version: 2: version 2 knows IPv4 only: write version = 3`},
		{"version 3, 255 s", after("advertise-interval = \"255s\"\n"), `f:4: vrrp.group.LAN.advertise-interval: "255s": must be from 10ms to 40.95s`},

		{"password with version 3", after("authentication = { type = \"plaintext-password\", password = \"1111\" }\n"), `f:4: vrrp.group.LAN.authentication: version 3 has no authentication: take the table out, or write version = 2`},
		{"password missing", after("version = 2\nauthentication.type = \"plaintext-password\"\n"), `f:5: vrrp.group.LAN.authentication.password: missing: write the password that all routers of the group have, at most 8 characters`},
		{"type missing", after("version = 2\nauthentication.password = \"1111\"\n"), `f:5: vrrp.group.LAN.authentication.type: missing beside a password: write type = "plaintext-password"`},
		{"password too long", after("version = 2\nauthentication = { type = \"plaintext-password\", password = \"123456789\" }\n"), `f:5: vrrp.group.LAN.authentication.password: must be 1 to 8 characters of ASCII, in quotes: version 2 has room for no more`},
		{"password empty", after("version = 2\nauthentication = { type = \"plaintext-password\", password = \"\" }\n"), `f:5: vrrp.group.LAN.authentication.password: must be 1 to 8 characters of ASCII, in quotes: version 2 has room for no more`},
		{"ah", after("version = 2\nauthentication = { type = \"ah\", password = \"1\" }\n"), `f:5: vrrp.group.LAN.authentication.type: "ah": is not offered: it never protected the addresses themselves: write "plaintext-password", or take the table out`},
		{"type unknown", after("version = 2\nauthentication = { type = \"md5\", password = \"1\" }\n"), `f:5: vrrp.group.LAN.authentication.type: "md5": must be "plaintext-password"`},
		{"authentication, unknown key", after("version = 2\nauthentication = { type = \"plaintext-password\", password = \"1\", key = \"x\" }\n"), `f:5: vrrp.group.LAN.authentication.key: unknown key: known here are password, type`},

		{"mixed families", []string{`["10.0.0.1/24"]`, `["10.0.0.1/24", "2001:db8::1/64"]`}, `f:4: vrrp.group.LAN.address: "2001:db8::1/64": is IPv6, and the first is IPv4: a group advertises one family, so make a group of each`},
		{"first not link-local", []string{`["10.0.0.1/24"]`, `["2001:db8::1/64", "fe80::1/64"]`}, `f:4: vrrp.group.LAN.address: "2001:db8::1/64": the first address of an IPv6 group must be link-local, as "fe80::10/64", the same on every router: hosts have it as their router`},
		{"anycast", []string{`["10.0.0.1/24"]`, `["fe80::1/64", "2001:db8::/64"]`}, `f:4: vrrp.group.LAN.address: "2001:db8::/64": is the subnet-router anycast address of its network, not a host's`},
		{"mapped", []string{`["10.0.0.1/24"]`, `["::ffff:10.0.0.1/128"]`}, `f:4: vrrp.group.LAN.address: "::ffff:10.0.0.1/128": must be a unicast address that a host can have`},
		{"the same address twice on a link", append([]string{`"203.0.113.1/24"`, `["fe80::1/64"]`, `"eth1"`, `"eth0"`}, six...), `f:8: vrrp.group.WAN.address: "fe80::1/64": stands in group LAN already: an address belongs to one group, once`},

		{"checksum", after("checksum = \"none\"\n"), `f:4: vrrp.group.LAN.checksum: "none": must be "auto", "pseudo-header" or "message"`},
		{"checksum of version 2", after("version = 2\nchecksum = \"message\"\n"), `f:5: vrrp.group.LAN.checksum: "message": only version 3 over IPv4 has a choice: take the line out`},
		{"checksum of IPv6", append(after("checksum = \"pseudo-header\"\n"), six...), `f:4: vrrp.group.LAN.checksum: "pseudo-header": only version 3 over IPv4 has a choice: take the line out`},

		{"source of another family", after("hello-source-address = \"fe80::1\"\n"), `f:4: vrrp.group.LAN.hello-source-address: "fe80::1": must be of the family of the group's addresses, IPv4`},
		{"source not link-local", append(after("hello-source-address = \"2001:db8::5\"\n"), six...), `f:4: vrrp.group.LAN.hello-source-address: "2001:db8::5": must be link-local: by multicast IPv6 adverts are sent from such an address only`},
		{"source is virtual", after("hello-source-address = \"10.0.0.1\"\n"), `f:4: vrrp.group.LAN.hello-source-address: "10.0.0.1": is a virtual address of this group: name one that stays on this router`},
		{"source with a zone", append(after("hello-source-address = \"fe80::5%eth0\"\n"), six...), `f:4: vrrp.group.LAN.hello-source-address: "fe80::5%eth0": must be without a zone: it is an address of eth0`},

		{"no peer", after("peer-address = []\n"), `f:4: vrrp.group.LAN.peer-address: empty list: name the other routers of the group, or take the line out for multicast`},
		{"peer with prefix", after("peer-address = [\"10.0.0.3/24\"]\n"), `f:4: vrrp.group.LAN.peer-address: "10.0.0.3/24": ` + peerRule},
		{"peer is a group", after("peer-address = \"224.0.0.18\"\n"), `f:4: vrrp.group.LAN.peer-address: "224.0.0.18": ` + peerRule},
		{"peer twice", after("peer-address = [\"10.0.0.3\", \"10.0.0.3\"]\n"), `f:4: vrrp.group.LAN.peer-address: "10.0.0.3": stands there twice`},
		{"peer twice, once with a floor", after("peer-address = [\"10.0.0.3\", { address = \"10.0.0.3\", ttl-minimum = 253 }]\n"), `f:4: vrrp.group.LAN.peer-address: "10.0.0.3": stands there twice`},
		{"peer is a number", after("peer-address = [3]\n"), `f:4: vrrp.group.LAN.peer-address: 3: ` + peerRule},
		{"floor of nobody", after("peer-address = { ttl-minimum = 253 }\n"), `f:4: vrrp.group.LAN.peer-address: { ttl-minimum = 253 }: ` + peerRule},
		{"floor 0", after("peer-address = { address = \"10.0.0.3\", ttl-minimum = 0 }\n"), `f:4: vrrp.group.LAN.peer-address: { address = "10.0.0.3", ttl-minimum = 0 }: ` + peerRule},
		{"floor 256", after("peer-address = { address = \"10.0.0.3\", ttl-minimum = 256 }\n"), `f:4: vrrp.group.LAN.peer-address: { address = "10.0.0.3", ttl-minimum = 256 }: ` + peerRule},
		{"floor in quotes", after("peer-address = { address = \"10.0.0.3\", ttl-minimum = \"253\" }\n"), `f:4: vrrp.group.LAN.peer-address: { address = "10.0.0.3", ttl-minimum = "253" }: ` + peerRule},
		{"peer with an interface", after("peer-address = { address = \"10.0.0.3\", interface = \"eth1\" }\n"), `f:4: vrrp.group.LAN.peer-address: { address = "10.0.0.3", interface = "eth1" }: ` + peerRule},
		{"peer of another family", after("peer-address = \"2001:db8::3\"\n"), `f:4: vrrp.group.LAN.peer-address: "2001:db8::3": must be of the family of the group's addresses, IPv4`},
		{"peer is virtual", after("peer-address = \"10.0.0.1\"\n"), `f:4: vrrp.group.LAN.peer-address: "10.0.0.1": is a virtual address of this group: name the peer's own`},
		{"peer is myself", after("peer-address = \"10.0.0.3\"\nhello-source-address = \"10.0.0.3\"\n"), `f:4: vrrp.group.LAN.peer-address: "10.0.0.3": is this router's own hello-source-address: name the other router's`},
		{"global peer, no source", append(after("peer-address = \"2001:db8::3\"\n"), six...), `f:4: vrrp.group.LAN.peer-address: "2001:db8::3": is not link-local, so write hello-source-address too: the address of this router that the peers know`},
		{"TTL of nobody", after("peer-ttl-minimum = 254\n"), `f:4: vrrp.group.LAN.peer-ttl-minimum: 254: is about peers by unicast, and there is no peer-address: by multicast it is always 255`},
		{"accept-mode of the owner", after("priority = 255\naccept-mode = false\n"), `f:5: vrrp.group.LAN.accept-mode: false: with priority 255 the addresses are this router's own, which accepts what is sent to them: take the line out
f:7: vrrp.group.WAN.priority: 100: group LAN of the same sync group MAIN has 255: with 255 in one member all need it, since an owner never waits for the others`},
		{"accept-mode", after("accept-mode = \"no\"\n"), `f:4: vrrp.group.LAN.accept-mode: "no": must be true or false, without quotes`},
		{"TTL 0", after("peer-address = \"10.0.0.3\"\npeer-ttl-minimum = 0\n"), `f:5: vrrp.group.LAN.peer-ttl-minimum: 0: must be a whole number from 1 to 255`},
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

func TestWire(t *testing.T) {
	const lan = "vrid = 10\n"
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		name  string
		edits []string
		want  func(*Group)
	}{
		{"version 2", []string{lan, lan + "version = 2\nadvertise-interval = \"255s\"\nauthentication = { type = \"plaintext-password\", password = \"12345678\" }\n"},
			func(g *Group) { g.Version, g.AdvertInterval, g.Password = 2, 255*time.Second, "12345678" }},
		{"version of all", []string{lan, lan + "advertise-interval = \"100ms\"\nversion = 3\n", "[node]\n", "[vrrp.global-parameters]\nversion = 2\n[node]\n"},
			func(g *Group) { g.AdvertInterval = 100 * time.Millisecond }},
		{"IPv6", six, func(g *Group) {
			g.Addresses = []Address{{netip.MustParsePrefix("fe80::1/64"), "eth0"}, {netip.MustParsePrefix("2001:db8::1/64"), "eth0"}}
		}},
		{"checksum", []string{lan, lan + "checksum = \"message\"\n"}, func(g *Group) { g.Checksum = ChecksumPlain }},
		{"checksum auto", []string{lan, lan + "checksum = \"auto\"\n"}, func(*Group) {}},
		{"accept nothing", []string{lan, lan + "accept-mode = false\n"}, func(g *Group) { g.NoAccept = true }},
		{"accept", []string{lan, lan + "accept-mode = true\n"}, func(*Group) {}},
		{"unicast", []string{lan, lan + "peer-address = [\"10.0.0.3\", \"10.9.0.3\"]\npeer-ttl-minimum = 254\n"},
			func(g *Group) { g.Peers = []Peer{{addr("10.0.0.3"), 254}, {addr("10.9.0.3"), 254}} }},
		{"a floor of its own", []string{lan, lan + "peer-address = [\"10.0.0.3\", { address = \"10.9.0.3\", ttl-minimum = 253 }]\n"},
			func(g *Group) { g.Peers = []Peer{{addr("10.0.0.3"), 255}, {addr("10.9.0.3"), 253}} }},
		{"above the floor of the others", []string{lan, lan + "peer-ttl-minimum = 64\npeer-address = [{ address = \"10.0.0.3\", ttl-minimum = 255 }, { address = \"10.9.0.3\" }]\n"},
			func(g *Group) { g.Peers = []Peer{{addr("10.0.0.3"), 255}, {addr("10.9.0.3"), 64}} }},
		{"one peer as a table", []string{lan, lan + "peer-address = { address = \"10.9.0.3\", ttl-minimum = 1 }\n"},
			func(g *Group) { g.Peers = []Peer{{addr("10.9.0.3"), 1}} }},
		{"unicast IPv6", append([]string{lan, lan + "hello-source-address = \"2001:db8::2\"\npeer-address = \"2001:db8::3\"\n"}, six...), func(g *Group) {
			g.Addresses = []Address{{netip.MustParsePrefix("fe80::1/64"), "eth0"}, {netip.MustParsePrefix("2001:db8::1/64"), "eth0"}}
			g.HelloSource, g.Peers = addr("2001:db8::2"), []Peer{{addr("2001:db8::3"), 255}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, err := parse("f", good)
			if err != nil {
				t.Fatal(err)
			}
			tt.want(&want.VRRP.Groups[0])
			got, err := parse("f", edit(t, tt.edits...))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want.VRRP.Groups[0], got.VRRP.Groups[0], cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// An advert counts its addresses in a byte and fits a packet.
func TestTooManyAddresses(t *testing.T) {
	list := func(first, format string, n int) string {
		out := []string{first}
		for i := 1; i < n; i++ {
			out = append(out, fmt.Sprintf(format, i/250, 1+i%250))
		}
		return `["` + strings.Join(out, `", "`) + `"]`
	}
	for _, c := range []struct {
		first, format string
		most          int
		family        string
	}{{"10.9.9.9/32", "10.1.%d.%d/32", 255, "IPv4"}, {"fe80::1/64", "2001:db8:%d::%d/64", 88, "IPv6"}} {
		if _, err := parse("f", edit(t, `["10.0.0.1/24"]`, list(c.first, c.format, c.most))); err != nil {
			t.Errorf("%d of %s: %v", c.most, c.family, err)
		}
		want := fmt.Sprintf("f:4: vrrp.group.LAN.address: %d addresses: an advert has room for %d of %s: write the others into excluded-address", c.most+1, c.most, c.family)
		if _, err := parse("f", edit(t, `["10.0.0.1/24"]`, list(c.first, c.format, c.most+1))); err == nil || err.Error() != want {
			t.Errorf("%d of %s: %v, want %s", c.most+1, c.family, err, want)
		}
	}
}

// Both families may have one VRID on an interface, and each link the same
// link-local address.
func TestDualStack(t *testing.T) {
	edits := append([]string{"[vrrp.sync-group", "[vrrp.group.LAN6]\ninterface = \"eth1\"\nvrid = 20\naddress = \"fe80::1/64\"\n[vrrp.sync-group"}, six...)
	if _, err := parse("f", edit(t, edits...)); err != nil {
		t.Error(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

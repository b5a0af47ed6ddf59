// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// keepalived is Debian's.
type keepalived struct {
	l       *lab
	version int
	lines   string // of its instance
	vip     string // as ip shows it
	proc    *process
}

func (k *keepalived) start(priority int) {
	k.l.t.Helper()
	conf := k.l.file("keepalived.conf", `global_defs {
    vrrp_version %d
    script_user root
}
vrrp_instance G {
    state BACKUP
    interface eth0
    virtual_router_id 10
    priority %d
    %s
}
`, k.version, priority, k.lines)
	pid := filepath.Join(k.l.dir, "keepalived")
	k.proc = k.l.start(k.l.r2, "keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file", conf,
		"--pid", pid+".pid", "--vrrp_pid", pid+"-vrrp.pid")
}

func (k *keepalived) stop() { k.proc.stop() }

func (k *keepalived) active() bool {
	return strings.Contains(run(k.l.t, "ip", "-n", k.l.r2, "addr", "show", "dev", "eth0"), " "+k.vip+"/")
}

const (
	tenth  = 100 * time.Millisecond
	ip4    = "virtual_ipaddress {\n 10.0.0.100/24\n }"
	ip6    = "virtual_ipaddress {\n fe80::100/64\n 2001:db8::100/64\n }"
	group4 = "address = \"10.0.0.100/24\"\n"
	group6 = "address = [\"fe80::100/64\", \"2001:db8::100/64\"]\n"
	fast   = "advertise-interval = \"100ms\"\n"
)

func with(fields []string, more ...string) []string { return slices.Concat(fields, more) }

// Each way that the two programs have in common.
func TestKeepalived(t *testing.T) {
	t.Parallel()
	v3 := with(header4, "eth.dst", "vrrp.short_adver_int", "vrrp.ip_addr")
	v2 := with(header4, "eth.dst", "vrrp.adver_int", "vrrp.ip_addr", "vrrp.auth_type", "vrrp.auth_string")
	v6 := with(header6, "vrrp.short_adver_int", "vrrp.ipv6_addr")
	const mac4 = "01:00:5e:00:00:12"
	type together struct {
		wire
		version int
		lines   string
		vip     string
	}
	cases := []together{
		{wire{name: "version 2", interval: time.Second, group: "version = 2\n" + group4, source: "10.0.0.1", peer: "10.0.0.2", short: !proof,
			judge: advert{fields: v2, want: "10.0.0.1 224.0.0.18 255 48 1 2 1 10 1 " + mac4 + " 1 10.0.0.100 0 "}},
			2, "advert_int 1\n" + ip4, "10.0.0.100"},
		{wire{name: "version 2, password", interval: time.Second, source: "10.0.0.1", peer: "10.0.0.2", short: !proof,
			group: "version = 2\nauthentication = { type = \"plaintext-password\", password = \"secret12\" }\n" + group4,
			judge: advert{fields: v2, want: "10.0.0.1 224.0.0.18 255 48 1 2 1 10 1 " + mac4 + " 1 10.0.0.100 1 secret12"}},
			2, "advert_int 1\nauthentication {\n auth_type PASS\n auth_pass secret12\n}\n" + ip4, "10.0.0.100"},
		{wire{name: "version 3, IPv4", interval: tenth, group: fast + group4, source: "10.0.0.1", peer: "10.0.0.2",
			judge: advert{fields: v3, want: "10.0.0.1 224.0.0.18 255 48 1 3 1 10 1 " + mac4 + " 10 10.0.0.100"}},
			3, "advert_int 0.1\n" + ip4, "10.0.0.100"},
		{wire{name: "version 3, IPv4, message alone", interval: tenth, group: fast + group4 + "checksum = \"message\"\n", source: "10.0.0.1", peer: "10.0.0.2", short: true,
			judge: advert{fields: v3, message: true, want: "10.0.0.1 224.0.0.18 255 48 1 3 1 10 1 " + mac4 + " 10 10.0.0.100"}},
			3, "advert_int 0.1\n" + ip4, "10.0.0.100"},
		{wire{name: "version 3, IPv6", interval: tenth, group: fast + group6, source: "fe80::1", peer: "fe80::2",
			judge: advert{fields: with(v6, "eth.dst"), want: "fe80::1 ff02::12 255 48 3 1 10 1 10 fe80::100,2001:db8::100 33:33:00:00:00:12"}},
			3, "advert_int 0.1\n" + ip6, "2001:db8::100"},
		{wire{name: "unicast, IPv4", interval: tenth, group: fast + group4 + "peer-address = \"10.0.0.2\"\n", source: "10.0.0.1", peer: "10.0.0.2",
			judge: advert{fields: v3[:len(header4)], want: "10.0.0.1 10.0.0.2 255 48 1 3 1 10 1"}},
			3, "advert_int 0.1\nunicast_src_ip 10.0.0.2\nunicast_peer {\n 10.0.0.1\n}\n" + ip4, "10.0.0.100"},
		{wire{name: "unicast, IPv6", interval: tenth, source: "2001:db8::1", peer: "2001:db8::2",
			group: fast + group6 + "hello-source-address = \"2001:db8::1\"\npeer-address = \"2001:db8::2\"\npeer-ttl-minimum = 64\n", // keepalived leaves the hop limit at the kernel's default
			judge: advert{fields: v6, want: "2001:db8::1 2001:db8::2 255 48 3 1 10 1 10 fe80::100,2001:db8::100"}},
			3, "advert_int 0.1\nunicast_src_ip 2001:db8::2\nunicast_peer {\n 2001:db8::1\n}\n" + ip6, "2001:db8::100"},
	}
	if proof {
		cases = append(cases, together{wire{name: "unicast, version 2", interval: time.Second, group: "version = 2\n" + group4 + "peer-address = \"10.0.0.2\"\n", source: "10.0.0.1", peer: "10.0.0.2",
			judge: advert{fields: v3[:len(header4)], want: "10.0.0.1 10.0.0.2 255 48 1 2 1 10 1"}},
			2, "advert_int 1\nunicast_src_ip 10.0.0.2\nunicast_peer {\n 10.0.0.1\n}\n" + ip4, "10.0.0.100"})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			elect(t, l, &c.wire, &keepalived{l: l, version: c.version, lines: c.lines, vip: c.vip})
		})
	}
}

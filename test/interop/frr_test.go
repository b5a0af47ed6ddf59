// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"testing"
)

// frr is FRR's vrrpd with its zebra. It wants the virtual MAC's macvlan and
// the addresses on it made beforehand, and holds the macvlan down (protodown)
// while it is no Active.
type frr struct {
	l     *lab
	name  string // of the macvlan
	lines string // of its interface
	dir   string
	zebra *process
	vrrpd *process
}

func newFRR(l *lab, v6 bool) *frr {
	l.t.Helper()
	f := &frr{l: l, name: "vrrp4", lines: " vrrp 10 ip 10.0.0.100\n"}
	mac, addrs := "00:00:5e:00:01:0a", []string{"10.0.0.100/24"}
	if v6 {
		f.name, f.lines = "vrrp6", " vrrp 10 ipv6 fe80::100\n vrrp 10 ipv6 2001:db8::100\n"
		mac, addrs = "00:00:5e:00:02:0a", []string{"fe80::100/64", "2001:db8::100/64"}
	}
	run(l.t, "ip", "-n", l.r2, "link", "add", f.name, "link", "eth0", "address", mac, "type", "macvlan", "mode", "bridge")
	run(l.t, "ip", "-n", l.r2, "link", "set", f.name, "addrgenmode", "none")
	for _, a := range addrs {
		run(l.t, "ip", "-n", l.r2, "addr", "add", a, "dev", f.name)
	}
	run(l.t, "ip", "-n", l.r2, "link", "set", f.name, "up")
	f.dir = ownedBy(l.t, "frr")
	f.zebra = f.daemon("zebra", "hostname z\n")
	return f
}

// ownedBy makes a directory for a daemon that gives its privileges up.
func ownedBy(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem-interop-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	if err := os.Chown(dir, uid, -1); err != nil {
		t.Fatal(err)
	}
	return dir
}

// daemon starts one of FRR's with everything that it writes in one directory.
func (f *frr) daemon(name, text string) *process {
	f.l.t.Helper()
	d, conf := f.dir, f.dir+"/"+name+".conf"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		f.l.t.Fatal(err)
	}
	p := f.l.start(f.l.r2, "/usr/lib/frr/"+name, "-f", conf, "-i", d+"/"+name+".pid", "-z", d+"/zserv.api", "--vty_socket", d,
		"-P", "0", "--log", "stdout", "--log-level", "debug")
	vty := d + "/" + name + ".vty"
	eventually(f.l.t, 2*late, name+" is there", func() bool {
		_, err := os.Stat(vty)
		return err == nil
	})
	return p
}

func (f *frr) start(priority int) {
	f.l.t.Helper()
	_ = os.Remove(f.dir + "/vrrpd.vty")
	f.vrrpd = f.daemon("vrrpd", fmt.Sprintf("hostname v\ninterface eth0\n vrrp 10 version 3\n vrrp 10 priority %d\n vrrp 10 advertisement-interval 100\n%s", priority, f.lines))
}

func (f *frr) stop() { f.vrrpd.stop() }

func (f *frr) active() bool {
	return !strings.Contains(run(f.l.t, "ip", "-n", f.l.r2, "-d", "link", "show", "dev", f.name), "protodown on")
}

// FRR's vrrpd, of both families.
func TestFRR(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wire
		v6 bool
	}{
		{wire{name: "IPv4", interval: tenth, group: fast + group4, source: "10.0.0.1", peer: "10.0.0.2",
			judge: advert{fields: header4, want: "10.0.0.1 224.0.0.18 255 48 1 3 1 10 1"}}, false},
		{wire{name: "IPv6", interval: tenth, group: fast + group6, source: "fe80::1", peer: "fe80::100", // the macvlan's only link-local address
			judge: advert{fields: header6, want: "fe80::1 ff02::12 255 48 3 1 10 1"}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			elect(t, l, &c.wire, newFRR(l, c.v6))
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host puts peer, and with it the other end of eth0, into a namespace of its
// own: 10.0.0.9 and 2001:db8::9.
func host(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("vip%d", os.Getpid())
	ip(t, "netns add "+name)
	ip(t, "link set peer netns "+name)
	ip(t, "-n "+name+" addr add 10.0.0.9/24 dev peer")
	ip(t, "-n "+name+" addr add 2001:db8::9/64 dev peer nodad")
	ip(t, "-n "+name+" link set peer up")
	ip(t, "addr add 10.0.0.2/24 dev eth0")
	ip(t, "addr add 2001:db8::2/64 dev eth0 nodad")
	// Without a link-local address the router cannot ask for the host.
	await(t, "a link-local address", func() bool { return !strings.Contains(ip(t, "-6 addr show dev eth0"), "tentative") })
	return name
}

// capture counts the frames that come to peer from a MAC.
type capture struct {
	fd  int
	mac [6]byte
}

func listen(t *testing.T, name string, mac [6]byte) *capture {
	t.Helper()
	c := &capture{mac: mac}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // ends with the goroutine
		h, err := netns.GetFromName(name)
		if err == nil {
			defer h.Close()
			err = netns.Set(h)
		}
		if err == nil {
			c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return c
}

// frames empties the capture.
func (c *capture) frames() (out []string) {
	b := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(c.fd, b, 0)
		if err != nil {
			return out
		}
		sa, ok := from.(*unix.SockaddrLinklayer)
		if ok && sa.Pkttype != unix.PACKET_OUTGOING && n >= 14 && bytes.Equal(b[6:12], c.mac[:]) {
			out = append(out, fmt.Sprintf("%x", b[:min(n, 60)]))
		}
	}
}

// answers: whether an address answers the host, and by which MAC.
func answers(t *testing.T, name, addr, wait string) (bool, string) {
	t.Helper()
	ip(t, "-n "+name+" neigh flush dev peer")
	err := exec.Command("ip", "netns", "exec", name, "ping", "-c1", "-W"+wait, addr).Run()
	return err == nil, ip(t, "-n "+name+" neigh show "+addr)
}

func makeMAC(t *testing.T, m *MAC) int32 {
	t.Helper()
	dev, err := m.Create()
	if err != nil {
		t.Error(err)
	}
	return dev
}

// ARP and ND resolve to the virtual MAC while it is up, at once and from the
// first moment on; nothing leaves by it else; and the parent's own MAC is
// never taught for the address. A strict reverse path filter of conf.all does
// no harm.
func TestMAC(t *testing.T) {
	inNamespace(t, func(index int32) {
		os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0o644)
		other := host(t)
		defer ip(t, "netns del "+other)
		m := &MAC{Parent: "eth0", VRID: 10, Hosts6: true}
		heard := listen(t, other, m.Addr())
		defer unix.Close(heard.fd)
		began := time.Now()
		dev := makeMAC(t, m)
		t.Logf("made in %v", time.Since(began))
		c := open(t)
		defer c.Close()
		addrs := []Address{addr("10.0.0.100/32", dev), addr("2001:db8::100/128", dev)}
		for _, a := range []string{"10.0.0.100", "2001:db8::100"} {
			if ok, _ := answers(t, other, a, "0.3"); ok {
				t.Errorf("%s answers before it is in", a)
			}
		}
		ip(t, "link set "+m.Name()+" up") // by somebody else
		time.Sleep(100 * time.Millisecond)
		if got := heard.frames(); len(got) > 0 {
			t.Errorf("a Backup sent from its virtual MAC: %v", got)
		}
		for round := range 2 {
			began := time.Now()
			if err := m.Up(dev); err != nil {
				t.Error(err)
			}
			t.Logf("up in %v", time.Since(began))
			put(t, c, addrs...)
			for _, a := range []string{"2001:db8::100", "10.0.0.100"} {
				began := time.Now()
				if ok, neigh := answers(t, other, a, "1"); !ok || !strings.Contains(neigh, "00:00:5e:00:01:0a") {
					t.Errorf("%s: answers %v, by %q\n%s", a, ok, neigh, ip(t, "-d addr"))
				}
				t.Logf("%s answered after %v", a, time.Since(began))
			}
			// The router asks for the host while it answers from the address.
			ip(t, "neigh flush dev eth0")
			if out, err := exec.Command("ping", "-c1", "-W1", "-I", "10.0.0.100", "10.0.0.9").CombinedOutput(); err != nil {
				t.Errorf("ping from the address: %v\n%s", err, out)
			}
			if neigh := ip(t, "-n "+other+" neigh show 10.0.0.100"); !strings.Contains(neigh, "00:00:5e:00:01:0a") {
				t.Errorf("the host has learnt %s", neigh)
			}
			if len(heard.frames()) == 0 {
				t.Error("nothing was sent from the virtual MAC")
			}
			if err := m.Mute(dev); err != nil {
				t.Error(err)
			}
			heard.frames()
			if ok, _ := answers(t, other, "10.0.0.100", "0.3"); ok {
				t.Error("a mute device answers")
			}
			if err := m.Down(dev); err != nil {
				t.Error(err)
			}
			c.Remove(addrs, make([]unix.Errno, 2))
			time.Sleep(time.Duration(round) * 1100 * time.Millisecond) // MLD would repeat what it has to say within a second
			if got := heard.frames(); len(got) > 0 {
				t.Errorf("sent after it was muted: %v", got)
			}
		}
	})
}

// What a killed process left goes, and the parent is as it was; what was there
// before, and what the operator changed meanwhile, stays.
func TestMACCleanup(t *testing.T) {
	inNamespace(t, func(index int32) {
		read := func() string {
			all, _ := exec.Command("sh", "-c", "cd /proc/sys/net && grep -r . ipv4/conf/eth0 ipv4/conf/all ipv6/conf/all").Output()
			return string(all)
		}
		ip(t, "link add keepalived link eth0 address 00:00:5e:00:01:0b type macvlan mode private")
		os.WriteFile("/proc/sys/net/ipv4/conf/eth0/arp_announce", []byte("1"), 0o644)
		was, links := read(), strings.Count(ip(t, "-o link"), "\n")
		for _, m := range []*MAC{{Parent: "eth0", VRID: 10}, {Parent: "eth0", VRID: 12, V6: true}} {
			if dev := makeMAC(t, m); m.Up(dev) != nil {
				t.Errorf("%s does not go up", m.Name())
			}
		}
		if read() == was {
			t.Error("the parent has no settings")
		}
		again := &MAC{Parent: "eth0", VRID: 10} // the next start, without Cleanup
		makeMAC(t, again)
		if n, err := Cleanup(); n != 2 || err != nil {
			t.Errorf("Cleanup: %d, %v; want 2", n, err)
		}
		if now := read(); now != was || strings.Count(ip(t, "-o link"), "\n") != links {
			t.Errorf("after Cleanup:\n%s\n%s\nbefore:\n%s", ip(t, "-d link"), now, was)
		}
		makeMAC(t, again)
		os.WriteFile("/proc/sys/net/ipv4/conf/eth0/arp_ignore", []byte("2"), 0o644)
		Cleanup()
		if now := read(); !strings.Contains(now, "eth0/arp_ignore:2") {
			t.Error("what the operator set meanwhile is gone")
		}
	})
}

// On a bridge too (VLAN and bond: vm_test.go), and what is refused.
func TestMACParents(t *testing.T) {
	inNamespace(t, func(index int32) {
		for _, c := range []string{"add br0 type bridge", "set br0 up", "add port type veth peer name takenv1v4", "set port master br0", "set port up", "set takenv1v4 up"} {
			ip(t, "link "+c)
		}
		m := &MAC{Parent: "br0", VRID: 1}
		dev := makeMAC(t, m)
		if err := m.Up(dev); err != nil {
			t.Errorf("on a bridge: %v", err)
		}
		// The bridge notices its port's carrier in its own time.
		await(t, "a carrier on a bridge", func() bool { return strings.Contains(ip(t, "link show dev "+m.Name()), "LOWER_UP") })
		known := func() bool {
			out, err := exec.Command("bridge", "fdb", "show", "br", "br0").CombinedOutput()
			if err != nil {
				t.Errorf("bridge fdb: %v %s", err, out)
			}
			return strings.Contains(string(out), "00:00:5e:00:01:01 dev br0")
		}
		if !known() {
			t.Error("the bridge does not know an Active's virtual MAC")
		}
		if err := m.Down(dev); err != nil || known() {
			t.Errorf("the bridge knows a Backup's virtual MAC (%v)", err)
		}
		m.Up(dev)
		if Cleanup(); known() {
			t.Error("the bridge knows the virtual MAC after Cleanup")
		}
		ip(t, "link set peer name taken")
		for what, m := range map[string]*MAC{
			"is it a port of a bridge or bond": {Parent: "port", VRID: 1},
			"which is not tandem's":            {Parent: "taken", VRID: 1},
			"find parent":                      {Parent: "nowhere", VRID: 1},
		} {
			if _, err := m.Create(); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: %v, want %q", m.Parent, err, what)
			}
		}
	})
}

func TestMACName(t *testing.T) {
	for _, c := range []struct {
		m    MAC
		want string
	}{
		{MAC{Parent: "eth0", VRID: 10}, "eth0v10v4"},
		{MAC{Parent: "eth0.100", VRID: 255, V6: true}, "eth0.100v255v6"},
		{MAC{Parent: "bond0.4094", VRID: 9}, "bond0.4094v9v4"},
		{MAC{Parent: "enp129s0f0np0", VRID: 255, V6: true}, "t5ab9d7edv255v6"},
	} {
		if got := c.m.Name(); got != c.want || len(got) >= unix.IFNAMSIZ {
			t.Errorf("%+v: %s, want %s", c.m, got, c.want)
		}
	}
}

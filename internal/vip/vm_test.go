// SPDX-License-Identifier: Apache-2.0

//go:build vm

package vip

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// These run under Linux 6.1 (test/vm), which has VLANs and bonds, and no ip
// tool.

func add61(t *testing.T, l netlink.Link) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(l); err != nil {
		t.Fatalf("add %s: %v", l.Attrs().Name, err)
	}
	up, err := netlink.LinkByName(l.Attrs().Name)
	if err != nil {
		t.Fatal(err)
	}
	return up
}

func up61(t *testing.T, l netlink.Link) {
	t.Helper()
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatalf("set %s up: %v", l.Attrs().Name, err)
	}
}

// bond61 is a bond of two ports with a VLAN on it; the ports' other ends are
// a0, a1.
func bond61(t *testing.T) (ports [2]netlink.Link) {
	t.Helper()
	bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: "bond0"})
	bond.Mode, bond.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, 10
	b := add61(t, bond)
	for i, name := range []string{"p0", "p1"} {
		ports[i] = add61(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "a" + name[1:]})
		if err := netlink.LinkSetMaster(ports[i], b); err != nil {
			t.Fatal(err)
		}
		far, err := netlink.LinkByName("a" + name[1:])
		if err != nil {
			t.Fatal(err)
		}
		up61(t, far)
		up61(t, ports[i])
	}
	up61(t, b)
	up61(t, add61(t, &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "bond0.9", ParentIndex: b.Attrs().Index}, VlanId: 9}))
	return ports
}

// Virtual MACs on a bond and on a VLAN of it: they go up, carry addresses of
// both families at once, speak by the port that the bond uses, and are told
// of its failover.
func TestVMBondAndVLAN(t *testing.T) {
	runtime.LockOSThread() // not unlocked: thread and namespace end together
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	ports := bond61(t)
	w, err := OpenWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c, g := open(t), announcer(t)
	devices := map[string]int32{}
	for i, parent := range []string{"bond0", "bond0.9"} {
		m := &MAC{Parent: parent, VRID: uint8(i + 1), Hosts6: true}
		dev := makeMAC(t, m)
		devices[parent] = dev
		if err := m.Up(dev); err != nil {
			t.Error(err)
		}
		ip := netip.AddrFrom4([4]byte{10, byte(i), 0, 1})
		put(t, c, Address{netip.PrefixFrom(ip, 24), dev}, addr("2001:db8::1/128", dev))
	}
	list, err := netlink.AddrList(byIndex(devices["bond0.9"]), netlink.FAMILY_V6)
	if err != nil || len(list) != 1 || list[0].Flags&unix.IFA_F_TENTATIVE != 0 {
		t.Errorf("addresses on the VLAN's device: %v, %v", list, err)
	}
	if err := netlink.LinkSetDown(ports[0]); err != nil {
		t.Fatal(err)
	}
	moved := map[string]bool{}
	await(t, "a failover is noticed on bond0 and bond0.9", func() bool {
		w.Read(func(l Link) {
			if l.Moved && (l.Name == "bond0" || l.Name == "bond0.9") {
				moved[l.Name] = true
			}
		}, func(AddressNote) {})
		return len(moved) == 2
	})
	if !speaks61(t, g, devices["bond0"]) {
		t.Error("an announcement did not leave by the bond's other port")
	}
	if n, err := Cleanup(); n < 2 || err != nil {
		t.Errorf("Cleanup: %d, %v", n, err)
	}
}

func announcer(t *testing.T) *Announcer {
	g, err := OpenAnnouncer()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// speaks61 announces by a device, and says whether a1 got it.
func speaks61(t *testing.T, g *Announcer, dev int32) bool {
	t.Helper()
	mac := [6]byte{0, 0, 0x5e, 0, 1, 1}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	heard := &capture{fd: fd, mac: mac}
	defer unix.Close(fd)
	far, err := netlink.LinkByName("a1")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: far.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	msg, err := GARP(netip.AddrFrom4([4]byte{10, 0, 0, 1}), mac, false)
	if err != nil || g.Send(dev, msg) != nil {
		t.Errorf("announce: %v", err)
	}
	got := 0
	await(t, "a frame", func() bool { got += len(heard.frames()); return got > 0 })
	return got > 0
}

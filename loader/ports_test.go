// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"net"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestSelection(t *testing.T) {
	attrs := func(index int, name string, master int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Index: index, Name: name, MasterIndex: master}
	}
	lo := attrs(1, "lo", 0)
	lo.Flags = net.FlagLoopback
	links := []netlink.Link{
		&netlink.Device{LinkAttrs: lo},
		&netlink.Device{LinkAttrs: attrs(2, "eth0", 10)}, &netlink.Device{LinkAttrs: attrs(3, "eth1", 10)},
		&netlink.Device{LinkAttrs: attrs(4, "eth2", 0)}, &netlink.Device{LinkAttrs: attrs(5, "tap0", 11)},
		&netlink.Device{LinkAttrs: attrs(6, "eth3", 12)},
		&netlink.Bond{LinkAttrs: attrs(10, "bond0", 0)}, &netlink.Bridge{LinkAttrs: attrs(11, "br0", 0)},
		&netlink.Vrf{LinkAttrs: attrs(12, "vrf0", 0)}, &netlink.Vlan{LinkAttrs: attrs(13, "bond0.7", 0)},
	}
	for _, c := range []struct {
		name string
		sel  selection
		want []string
	}{
		{"all", selection{include: []string{"*"}}, []string{"eth2", "eth3", "bond0", "br0", "vrf0", "bond0.7"}},
		{"without the sync link", selection{include: []string{"*"}, exclude: []string{"eth2"}}, []string{"eth3", "bond0", "br0", "vrf0", "bond0.7"}},
		{"pattern", selection{include: []string{"bond*"}}, []string{"bond0", "bond0.7"}},
		{"a member by its own name", selection{include: []string{"eth0"}}, []string{"eth0"}},
		{"a pattern takes no member", selection{include: []string{"eth*"}}, []string{"eth2", "eth3"}},
		{"exclude wins", selection{include: []string{"eth2"}, exclude: []string{"eth*"}}, nil},
		{"exact", selection{include: []string{"lo", "eth1"}, exact: true}, []string{"lo", "eth1"}},
		{"exactly nothing", selection{exact: true}, nil},
	} {
		var got []string
		for _, l := range c.sel.pick(links) {
			got = append(got, l.Attrs().Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestCellSets(t *testing.T) {
	for limit, want := range map[uint32]uint32{0: minSets, 262144: 131072, 1_000_000: 1 << 19, 1 << 31: maxSets} {
		if got := cellSets(limit); got != want {
			t.Errorf("cellSets(%d) = %d, want %d", limit, got, want)
		}
	}
}

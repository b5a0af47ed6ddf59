// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// These need no tool: they serve the tests that run under Linux 6.1, too.

func up61(t testing.TB, name string, prefixes ...string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Errorf("find %s: %v", name, err)
		return nil
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Errorf("set %s up: %v", name, err)
	}
	for _, p := range prefixes {
		a, err := netlink.ParseAddr(p)
		if err == nil {
			err = netlink.AddrAdd(l, a)
		}
		if err != nil {
			t.Errorf("add %s to %s: %v", p, name, err)
		}
	}
	return l
}

func newNS61(t testing.TB) (ns netns.NsHandle) {
	t.Helper()
	onThread(t, func() {
		var err error
		if ns, err = netns.New(); err != nil {
			t.Error(err)
			return
		}
		up61(t, "lo")
	})
	t.Cleanup(func() { ns.Close() })
	return ns
}

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"os"
	"testing"
	"time"

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

// awaitUp waits until packets pass interfaces of this namespace: the kernel
// notices a carrier in a work of its own, and drops what is sent before.
func awaitUp(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		for end := time.Now().Add(patience); device(t, name).Attrs().OperState != netlink.OperUp; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%s is not up after %v", name, patience)
				return
			}
		}
	}
}

// newNS61 makes a network namespace with lo up, in which no link-local address
// is tentative: a router asks for neighbours from it.
func newNS61(t testing.TB) (ns netns.NsHandle) {
	t.Helper()
	onThread(t, func() {
		var err error
		if ns, err = netns.New(); err != nil {
			t.Error(err)
			return
		}
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0); err != nil {
			t.Error(err)
		}
		up61(t, "lo")
	})
	t.Cleanup(func() { ns.Close() })
	return ns
}

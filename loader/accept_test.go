// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"net/netip"
	"os/exec"
	"testing"
)

// An address that accepts nothing: no ping, no connection to the router itself;
// but the service that is translated from it, flows that leave from it, and
// neighbour discovery go on.
func TestAccept(t *testing.T) {
	l := newLab(t)
	l.serve(80)
	ip := netip.MustParseAddr
	var a *Accept
	l.in(l.router, func() {
		var err error
		if a, err = OpenAccept([]netip.Addr{ip("10.1.0.1"), ip("10.2.0.100"), ip("fd01::1")}); err != nil {
			t.Error(err)
		}
	})
	if a == nil {
		t.FailNow()
	}
	if !l.silent("10.1.0.1") || !l.silent("-6", "fd01::1") || !l.silent("-6", "-t", "255", "fd01::1") {
		t.Error("a ping was answered")
	}
	if !l.answers("10.2.0.1") || !l.answers("-6", "fd02::1") {
		t.Error("an address that accepts does not answer")
	}
	// DNAT from 10.1.0.1, SNAT to 10.2.0.100: neither packet is for the router.
	exchange(t, l.dial("tcp", "10.1.0.1:80"))
	exchange(t, l.dial("udp", "10.1.0.1:80"))
	// The client's way leads over fd01::1, whose neighbour entry it loses.
	l.in(l.client, func() { run(t, "ip", "-6", "neigh", "flush", "dev", "eth0") })
	exchange(t, l.dial("tcp", "[fd02::2]:80"))
	if n, m, o := a.Dropped(ip("10.1.0.1")), a.Dropped(ip("fd01::1")), a.Dropped(ip("10.2.0.100")); n != 1 || m != 2 || o != 0 {
		t.Errorf("dropped %d, %d, %d packets, want 1, 2, 0", n, m, o)
	}
	if n := a.Dropped(ip("10.2.0.1")); n != 0 {
		t.Errorf("dropped %d packets to an address that accepts", n)
	}
	l.in(l.router, func() { // what the machine sends to itself
		if exec.Command("ping", "-c1", "-W10", "10.1.0.1").Run() != nil {
			t.Error("the router does not reach its own address")
		}
	})
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if !l.answers("10.1.0.1") || !l.answers("-6", "fd01::1") {
		t.Error("closed, and the address still accepts nothing")
	}
}

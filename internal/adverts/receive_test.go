// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/vrrp"
)

// The receiver takes whatever a socket holds, in order and without allocating;
// what has no header of the family's is handed over as such.
func TestDrain(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	a := vrrp.Advert{Version: 3, VRID: 10, Priority: 200, Interval: int64(100 * ms), Addresses: []byte{10, 1, 0, 100}}
	packet := appendPacket(nil, &a, vrrp.ChecksumAuto, netip.MustParseAddr("10.1.0.1"), vrrp.Group4, 1)
	c := newClock()
	r := newReceiver(&c)
	var good, bad int
	take := func(a arrival) {
		if a.ok && a.meta.TTL == vrrp.TTL && len(a.pdu) == 12 && a.at > 0 {
			good++
		} else {
			bad++
		}
	}
	fill := func(n int) {
		for range n {
			if _, err := unix.Write(fds[1], packet); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(5)
	if !r.drain(fds[0], false, 0, drainLimit, take) || good != 5 || bad != 0 {
		t.Errorf("%d good, %d bad of 5", good, bad)
	}
	fill(3)
	if r.drain(fds[0], true, 0, drainLimit, take); bad != 3 { // no address and no control message of IPv6
		t.Errorf("as IPv6: %d bad of 3", bad)
	}
	fill(1)
	if n := testing.AllocsPerRun(50, func() {
		r.drain(fds[0], false, 0, drainLimit, take)
		unix.Write(fds[1], packet)
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// through sends n datagrams to the other router's address on the sync link
// and counts those that arrive.
func through(t *testing.T, from, to *Router, n int) (got int) {
	t.Helper()
	var rx, tx int
	dst := &unix.SockaddrInet4{Port: 3781, Addr: to.Addr(2).Addr().As4()}
	open := func(fd *int, bind bool) func() error {
		return func() (err error) {
			if *fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil && bind {
				err = unix.Bind(*fd, &unix.SockaddrInet4{Port: 3781, Addr: netip.IPv4Unspecified().As4()})
			}
			return err
		}
	}
	if err := to.NS.Run(open(&rx, true)); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(rx)
	if err := from.NS.Run(open(&tx, false)); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tx)
	tv := unix.NsecToTimeval(int64(300 * time.Millisecond))
	if err := unix.SetsockoptTimeval(rx, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	for range n {
		if err := unix.Sendto(tx, []byte("x"), 0, dst); err != nil {
			t.Fatal(err)
		}
		for {
			if _, _, err := unix.Recvfrom(rx, buf, unix.MSG_DONTWAIT); err != nil {
				break
			}
			got++
		}
	}
	for got < n {
		if _, _, err := unix.Recvfrom(rx, buf, 0); err != nil {
			break
		}
		got++
	}
	return got
}

func TestLose(t *testing.T) {
	l := ForTest(t, Options{})
	for _, c := range []struct{ percent, min, max int }{{0, 1000, 1000}, {20, 720, 880}, {0, 1000, 1000}} {
		if err := l.R1.Lose(Sync, c.percent); err != nil {
			t.Fatal(err)
		}
		through(t, l.R1, l.R2, 1) // ARP
		if got := through(t, l.R1, l.R2, 1000); got < c.min || got > c.max {
			t.Errorf("%d %% loss: %d of 1000 arrived", c.percent, got)
		}
	}
	if err := l.R1.Lose(Sync, 101); err == nil {
		t.Error("101 % was accepted")
	}
}

func TestRefuseUDP(t *testing.T) {
	l := ForTest(t, Options{})
	if got := through(t, l.R1, l.R2, 10); got != 10 {
		t.Fatalf("%d of 10 arrived", got)
	}
	if err := l.R2.RefuseUDP(3781); err != nil {
		t.Fatal(err)
	}
	if got := through(t, l.R1, l.R2, 10); got != 0 {
		t.Errorf("%d of 10 arrived though refused", got)
	}
}

// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// numbered sends n datagrams that carry their number, 1 to n, four times over,
// and gives those that arrive as they are, in order, and how many are damaged.
func numbered(t *testing.T, from, to *Router, n int) (got []int, damaged int) {
	t.Helper()
	var rx, tx int
	open := func(fd *int, at *Namespace, addr [4]byte) {
		err := at.Run(func() (err error) {
			if *fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
				err = unix.Bind(*fd, &unix.SockaddrInet4{Port: 3781, Addr: addr})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	open(&rx, to.NS, to.Addr(2).Addr().As4())
	defer unix.Close(rx)
	open(&tx, from.NS, from.Addr(2).Addr().As4())
	defer unix.Close(tx)
	if err := unix.SetsockoptInt(rx, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
		t.Fatal(err)
	}
	tv := unix.NsecToTimeval(int64(300 * time.Millisecond))
	if err := unix.SetsockoptTimeval(rx, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= n; i++ {
		var b [16]byte
		for at := 0; at < len(b); at += 4 {
			binary.BigEndian.PutUint32(b[at:], uint32(i))
		}
		if err := unix.Sendto(tx, b[:], 0, &unix.SockaddrInet4{Port: 3781, Addr: to.Addr(2).Addr().As4()}); err != nil {
			t.Fatal(err)
		}
	}
	for buf := make([]byte, 64); ; {
		size, _, err := unix.Recvfrom(rx, buf, 0)
		if err != nil {
			return got, damaged
		}
		same := size == 16
		for at := 4; same && at < 16; at += 4 {
			same = binary.BigEndian.Uint32(buf[at:]) == binary.BigEndian.Uint32(buf)
		}
		if !same {
			damaged++
			continue
		}
		got = append(got, int(binary.BigEndian.Uint32(buf)))
	}
}

func TestRelay(t *testing.T) {
	l := ForTest(t, Options{})
	r, err := l.Relay(1)
	if err != nil {
		t.Fatal(err)
	}
	numbered(t, l.R1, l.R2, 1) // ARP
	const n = 1000
	for _, c := range []struct {
		name         string
		harm         Harm
		least, most  int // that arrive whole
		damaged, odd bool
	}{
		{"none", Harm{}, n, n, false, false},
		{"loss", Harm{Lose: 0.2}, 720, 880, false, false},
		{"delay", Harm{Delay: 10 * time.Millisecond}, n, n, false, false},
		{"order", Harm{Jitter: 10 * time.Millisecond}, n, n, false, true},
		{"twice", Harm{Duplicate: 0.3}, 1220, 1380, false, false},
		{"damage", Harm{Corrupt: 0.4}, 500, 700, true, false},
		{"none again", Harm{}, n, n, false, false},
	} {
		r.Harm(c.harm)
		// Where a processor is taken away in the middle, the kernel itself puts some in
		// another order, or hands them on too late: that does not happen each time.
		for try := 1; ; try++ {
			got, damaged := numbered(t, l.R1, l.R2, n)
			if len(got) >= c.least && len(got) <= c.most && (damaged > 0) == c.damaged && slices.IsSorted(got) != c.odd {
				break
			}
			t.Logf("%s: %d of %d arrived whole, %d damaged, in order: %t", c.name, len(got), n, damaged, slices.IsSorted(got))
			if try == 3 {
				t.Errorf("%s: not as it should be, three times", c.name)
				break
			}
		}
	}
	r.Part()
	if got, _ := numbered(t, l.R2, l.R1, 10); len(got) != 0 {
		t.Errorf("%d of 10 passed a parted link", len(got))
	}
	r.Heal()
	if got, _ := numbered(t, l.R2, l.R1, 10); len(got) != 10 {
		t.Errorf("%d of 10 passed a healed link", len(got))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := numbered(t, l.R1, l.R2, 10); len(got) != 10 {
		t.Errorf("%d of 10 passed without the relay", len(got))
	}
	t.Logf("%+v", r.Stats())
}

// Whatever is damaged, half of it has a checksum that says nothing is wrong.
func TestCorrupt(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	frame := make([]byte, 14+20+8+100)
	frame[12], frame[14], frame[23], frame[39] = 8, 0x45, unix.IPPROTO_UDP, 108
	fixChecksum(frame)
	right := 0
	for range 1000 {
		b := slices.Clone(frame)
		corrupt(b, rng)
		if slices.Equal(b[42:], frame[42:]) || !slices.Equal(b[:40], frame[:40]) {
			t.Fatalf("damaged into %x", b)
		}
		sum := slices.Clone(b)
		if fixChecksum(sum); slices.Equal(sum, b) {
			right++
		}
	}
	if right < 450 || right > 550 {
		t.Errorf("the checksum is right in %d of 1000", right)
	}
}

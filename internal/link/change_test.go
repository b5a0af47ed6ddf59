// SPDX-License-Identifier: Apache-2.0

package link

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/syncproto"
)

// changing tells changes of a's 5,000 flows, 4,000 a second, and watches them
// arrive at b.
type changing struct {
	quit chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	mark uint32
	gap  time.Duration
	last time.Time
}

func change(a, b *side) *changing {
	c := &changing{quit: make(chan struct{}), last: time.Now()}
	c.wg.Go(func() {
		for c.pause(time.Millisecond) {
			c.mu.Lock()
			for range 4 {
				c.mark++
				f := flow(int(c.mark % 5000))
				f.Mark = c.mark
				a.node.Lock()
				a.node.Tell(f, monotonic())
				a.node.Unlock()
			}
			c.mu.Unlock()
			a.node.Wake()
		}
	})
	c.wg.Go(func() {
		for before := uint32(0); c.pause(time.Millisecond); {
			if n := b.received(); n != before {
				before = n
				c.mu.Lock()
				c.gap, c.last = max(c.gap, time.Since(c.last)), time.Now()
				c.mu.Unlock()
			}
		}
	})
	return c
}

func (c *changing) pause(d time.Duration) bool {
	select {
	case <-c.quit:
		return false
	case <-time.After(d):
		return true
	}
}

// reset gives the longest time for which nothing arrived since the last reset.
func (c *changing) reset() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	gap := max(c.gap, time.Since(c.last))
	c.gap = 0
	return gap
}

// stop ends the changes and gives the last mark.
func (c *changing) stop() uint32 {
	select {
	case <-c.quit:
	default:
		close(c.quit)
	}
	c.wg.Wait()
	return c.mark
}

// received is how many records of changes came from the peer.
func (s *side) received() uint32 {
	s.node.Lock()
	defer s.node.Unlock()
	return uint32(s.node.Peers()[0].Stats().ReceivedShort)
}

// marks says whether the view has the latest content of every flow.
func (s *side) marks(last uint32) bool {
	s.node.Lock()
	defer s.node.Unlock()
	good := 0
	s.node.Peers()[0].View().Each(func(f *conntrack.Flow) bool {
		i := uint32(f.Orig.Src[1])<<16 | uint32(f.Orig.Src[2])<<8 | uint32(f.Orig.Src[3])
		if want := last - (last-i)%5000; f.Mark == want {
			good++
		}
		return true
	})
	return good == 5000
}

func newNamed(name string) *syncproto.Node {
	return syncproto.New(syncproto.Config{Policy: conntrack.DefaultPolicy(), Rand: rand.Reader, Name: name})
}

// sendAs sends a datagram as a node at src would.
func (s *side) sendAs(src, to netip.Addr, payload []byte) {
	s.t.Helper()
	s.must(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, hops); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: DefaultPort, Addr: src.As4()}); err != nil {
			return err
		}
		return unix.Sendto(fd, payload, 0, &unix.SockaddrInet4{Port: DefaultPort, Addr: to.As4()})
	})
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// prober is one UDP flow of 10,000 packets per second through SNAT; the far end
// sends each packet back. Every packet is accounted, in either direction.
type prober struct {
	lab         *netlab.Lab
	before      kernelDrops // when it began
	near, far   *net.UDPConn
	sent        []int64        // when, by number
	there, back []atomic.Int64 // when it came, by number; 0: it did not
	n           atomic.Int64   // numbers given
	stop        chan struct{}
	wg          sync.WaitGroup
}

const (
	probeRate  = 10_000                // packets per second
	probeBurst = 10                    // sent at a time: the sender sleeps in between
	probeLate  = 10 * time.Millisecond // of the sender, that is made up for: a longer burst overflows queues by itself
	probeMost  = 60 * probeRate
	probeRoom  = 32 << 20 // of the receive buffers: what the endpoints drop must not look like a loss
)

func startProbe(t *testing.T, l *netlab.Lab) *prober {
	t.Helper()
	p := &prober{lab: l, before: readDrops(t, l), sent: make([]int64, probeMost), there: make([]atomic.Int64, probeMost), back: make([]atomic.Int64, probeMost), stop: make(chan struct{})}
	at := netip.AddrPortFrom(netlab.ServerAddr.Addr(), netlab.DNATHostFirst+98)
	p.far = probeSocket(t, l.Server, at, netip.AddrPort{})
	p.near = probeSocket(t, l.Client, netip.AddrPort{}, at)
	p.wg.Go(func() {
		p.hear(p.far, p.there, func(b []byte, from netip.AddrPort) { _, _ = p.far.WriteToUDPAddrPort(b, from) })
	})
	p.wg.Go(func() { p.hear(p.near, p.back, nil) })
	p.wg.Go(p.speak)
	t.Cleanup(func() {
		close(p.stop)
		p.near.Close()
		p.far.Close()
		p.wg.Wait()
	})
	return p
}

func probeSocket(t *testing.T, at *netlab.Namespace, listen, to netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	err := at.Run(func() (err error) {
		if to.IsValid() {
			c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		} else {
			c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(listen))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, probeRoom) })
		err = errors.Join(err, cerr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (p *prober) speak() {
	var b [8]byte
	start := time.Now()
	for i := 0; i < probeMost; i++ {
		if i%probeBurst == 0 {
			due := start.Add(time.Duration(i) * time.Second / probeRate)
			if late := time.Since(due); late > probeLate {
				start = start.Add(late)
			}
			time.Sleep(time.Until(due))
		}
		select {
		case <-p.stop:
			return
		default:
		}
		binary.BigEndian.PutUint64(b[:], uint64(i))
		p.sent[i] = netlab.Now()
		p.n.Store(int64(i + 1))
		_, _ = p.near.Write(b[:])
	}
}

func (p *prober) hear(c *net.UDPConn, seen []atomic.Int64, answer func([]byte, netip.AddrPort)) {
	b := make([]byte, 64)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n != 8 {
			continue
		}
		if i := binary.BigEndian.Uint64(b); i < probeMost {
			seen[i].Store(netlab.Now())
		}
		if answer != nil {
			answer(b[:n], from)
		}
	}
}

// none fails when a packet that left after a moment did not arrive, or its echo
// did not.
func (p *prober) none(t *testing.T, what string, at int64) {
	t.Helper()
	for began := time.Now(); p.after(at) < probeRate/2 && time.Since(began) < underWay; {
		time.Sleep(50 * time.Millisecond)
	}
	end := int(p.n.Load())
	for began := time.Now(); p.missing(end, at) && time.Since(began) < underWay; {
		time.Sleep(50 * time.Millisecond)
	}
	counted, lost, oneWay := 0, 0, 0
	var first, last int64
	var slowest, slowAt time.Duration
	for i := range end {
		if p.sent[i] < at {
			continue
		}
		counted++
		if came := p.back[i].Load(); came != 0 {
			if d := time.Duration(came - p.sent[i]); d > slowest {
				slowest, slowAt = d, time.Duration(p.sent[i]-at)
			}
			continue
		}
		if lost++; p.there[i].Load() != 0 {
			oneWay++
		}
		if last = p.sent[i] - at; first == 0 {
			first = last
		}
	}
	t.Logf("%s: %d packets counted, %d lost; the slowest took %v and left %v after the order", what, counted, lost, slowest, slowAt)
	if lost > 0 {
		t.Errorf("%s: %d of %d packets were lost, %d of them on the way back; they left from %v to %v after the order",
			what, lost, counted, oneWay, time.Duration(first), time.Duration(last))
		t.Logf("%s: dropped since the probe began: %s", what, readDrops(t, p.lab).since(p.before))
	}
	if counted < probeRate/2 {
		t.Errorf("%s: only %d packets were sent: this proves nothing", what, counted)
	}
}

// after is how many packets left after a moment.
func (p *prober) after(at int64) int {
	n := int(p.n.Load())
	return n - sort.Search(n, func(i int) bool { return p.sent[i] >= at })
}

// missing says whether an echo is not back of what left after a moment.
func (p *prober) missing(end int, at int64) bool {
	for i := range end {
		if p.sent[i] >= at && p.back[i].Load() == 0 {
			return true
		}
	}
	return false
}

// The probe notices: with a router that drops one packet in a hundred it counts
// about that.
func TestProbeNotices(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	pr := startProbe(t, p.Lab)
	time.Sleep(500 * time.Millisecond)
	at := netlab.Now()
	time.Sleep(time.Second)
	pr.none(t, "nothing happens", at)
	if _, err := p.Lab.R1.NS.Output(t.Context(), "nft", "insert rule ip lab forward meta l4proto udp numgen random mod 100 == 0 drop"); err != nil {
		t.Fatal(err)
	}
	at = netlab.Now()
	time.Sleep(time.Second)
	end, sent, lost := int(pr.n.Load()), pr.after(at), 0
	eventually(t, underWay, "19 of 20 packets back", func() bool {
		lost = 0
		for i := end - sent; i < end; i++ {
			if pr.back[i].Load() == 0 {
				lost++
			}
		}
		return lost <= sent/20
	})
	if lost < sent/200 || sent < probeRate/2 {
		t.Errorf("1 %% of the packets is dropped in either direction, and %d of %d are missing", lost, sent)
	}
}

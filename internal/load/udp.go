// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// flow is one UDP flow. In a spoken flow the client sends and the server
// answers each packet; in a pushed one the client sent one packet, ever, and
// the server sends to the address that it saw. Either way the client counts.
type flow struct {
	meter
	id     int
	path   *Path
	pushed bool
	client *net.UDPConn

	mu     sync.Mutex
	peer   netip.AddrPort // the client as the server sees it
	moved  int            // times the server saw it elsewhere
	sent   [256]int64     // when number n left, at n%256
	next   uint64         // number to send
	expect uint64         // number to arrive
}

func (f *flow) String() string {
	kind := "spoken"
	if f.pushed {
		kind = "pushed"
	}
	return fmt.Sprintf("udp %d (%s) over %s", f.id, kind, f.path.Name)
}

// datagram: number of flow, number of packet, payload.
func (f *flow) put(b []byte, dir int, n uint64) {
	binary.BigEndian.PutUint64(b, uint64(f.id))
	binary.BigEndian.PutUint64(b[8:], n)
	fill(b[16:], stream(kindUDP, f.id, dir), n*uint64(len(b)-16))
}

func (f *flow) check(b []byte, dir int) (n uint64, err error) {
	n = binary.BigEndian.Uint64(b[8:])
	return n, verifyFast(b[16:], stream(kindUDP, f.id, dir), n*uint64(len(b)-16))
}

// udpServer is one server socket of a path.
type udpServer struct{ *net.UDPConn }

// udpSet is all UDP flows.
type udpSet struct {
	flows   []*flow
	servers map[*Path]udpServer
	size    int
	period  time.Duration
	offset  int64
	seen    *arrivals
	closing *atomic.Bool
	wg      sync.WaitGroup
}

// helloNumber marks the one packet of a pushed flow's client.
const helloNumber = 1 << 62

func openUDP(paths []Path, n, size int, period time.Duration, seen *arrivals, closing *atomic.Bool) (*udpSet, error) {
	u := &udpSet{servers: map[*Path]udpServer{}, size: size, period: period, offset: realOffset(), seen: seen, closing: closing}
	for i := range n {
		p := &paths[i%len(paths)]
		port := p.Port + portUDP
		if _, ok := u.servers[p]; !ok {
			s, err := udp(p.Server, netip.AddrPortFrom(p.Listen, port), netip.AddrPort{})
			if err != nil {
				return u, err
			}
			u.servers[p] = udpServer{s}
		}
		c, err := udp(p.Client, netip.AddrPort{}, netip.AddrPortFrom(p.Dial, port))
		if err != nil {
			return u, err
		}
		u.flows = append(u.flows, &flow{id: i, path: p, pushed: i/len(paths)%2 == 1, client: c})
	}
	return u, nil
}

func (u *udpSet) start() {
	for _, s := range u.servers {
		u.wg.Go(func() { u.serve(s) })
	}
	for _, f := range u.flows {
		u.wg.Go(func() { u.listen(f) })
	}
	u.wg.Go(u.pace)
}

// close ends all: the sockets' readers first.
func (u *udpSet) close() {
	for _, f := range u.flows {
		f.client.Close()
	}
	for _, s := range u.servers {
		s.Close()
	}
	u.wg.Wait()
}

// serve learns and checks the clients' addresses, and answers spoken flows.
func (u *udpSet) serve(s udpServer) {
	b, oob := make([]byte, 64<<10), make([]byte, 128)
	for {
		n, from, at, err := receive(s.UDPConn, b, oob, u.offset)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error of the past: the flow shows it by silence
		}
		id := binary.BigEndian.Uint64(b)
		if n != u.size || id >= uint64(len(u.flows)) {
			continue
		}
		f := u.flows[id]
		number, err := f.check(b[:n], toServer)
		if err != nil {
			f.fail(fmt.Errorf("%s: server: %w", f, err))
			continue
		}
		u.seen.add(at)
		f.met(from)
		if !f.pushed {
			f.put(b[:n], toClient, number)
			_, _ = s.WriteToUDPAddrPort(b[:n], from)
		}
	}
}

// met notes where the server sees the client: elsewhere means that the
// translation was lost and made anew.
func (f *flow) met(from netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peer.IsValid() && f.peer != from {
		f.moved++
		f.fail(fmt.Errorf("%s: its address at the server went from %s to %s", f, f.peer, from))
	}
	f.peer = from
}

// listen is the client's end: every packet is due in order.
func (u *udpSet) listen(f *flow) {
	b, oob := make([]byte, 64<<10), make([]byte, 128)
	for {
		n, _, at, err := receive(f.client, b, oob, u.offset)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if n != u.size {
			continue
		}
		number, err := f.check(b[:n], toClient)
		if err != nil {
			f.fail(fmt.Errorf("%s: client: %w", f, err))
			continue
		}
		f.arrived(number, at)
		u.seen.add(at)
	}
}

// arrived counts a packet. When some before it are missing the flow stood
// still from when the first of them was sent until now.
func (f *flow) arrived(number uint64, at int64) {
	last, _, _ := f.read()
	f.mu.Lock()
	due := int64(0)
	if number > f.expect {
		due = f.sent[f.expect%256]
		if number-f.expect > 255 {
			due = last // longer than we remember: since the last that came
		}
	}
	f.expect = max(f.expect, number+1)
	f.mu.Unlock()
	f.hit(at, due)
}

// pace sends for all flows, evenly spread over the period.
func (u *udpSet) pace() {
	b := make([]byte, u.size)
	start := time.Now()
	for turn := 0; ; turn++ {
		for i, f := range u.flows {
			due := start.Add(time.Duration(turn)*u.period + u.period*time.Duration(i)/time.Duration(len(u.flows)))
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
			}
			if u.closing.Load() {
				return
			}
			u.send(f, b)
		}
	}
}

func (u *udpSet) send(f *flow, b []byte) {
	f.mu.Lock()
	peer := f.peer
	if f.pushed && !peer.IsValid() {
		f.mu.Unlock()
		f.put(b, toServer, helloNumber)
		_, _ = f.client.Write(b)
		return
	}
	number := f.next
	f.next++
	f.sent[number%256] = clock()
	f.mu.Unlock()
	// Errors are not counted here: what was not sent does not arrive.
	if f.pushed {
		f.put(b, toClient, number)
		_, _ = u.servers[f.path].WriteToUDPAddrPort(b, peer)
		return
	}
	f.put(b, toServer, number)
	_, _ = f.client.Write(b)
}

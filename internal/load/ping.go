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

// ping is one ICMP echo flow: an identifier of its own. The server's kernel
// answers.
type ping struct {
	meter
	id     uint16
	mu     sync.Mutex
	sent   [256]int64
	next   uint64
	expect uint64
}

func (p *ping) String() string { return fmt.Sprintf("ping %d", p.id) }

// pingSet sends all echo requests through one raw socket of a path's client.
type pingSet struct {
	flows   []*ping
	conn    *net.IPConn
	to      netip.Addr
	period  time.Duration
	seen    *arrivals
	closing *atomic.Bool
	wg      sync.WaitGroup
}

const (
	icmpEchoReply   = 0
	icmpEchoRequest = 8
	pingFirst       = 4000
	pingLen         = 8 + 32
)

func openPings(p *Path, n int, period time.Duration, seen *arrivals, closing *atomic.Bool) (*pingSet, error) {
	s := &pingSet{to: p.Dial, period: period, seen: seen, closing: closing}
	for i := range n {
		s.flows = append(s.flows, &ping{id: uint16(pingFirst + i)})
	}
	if n == 0 {
		return s, nil
	}
	err := p.Client.Run(func() (err error) {
		s.conn, err = net.ListenIP("ip4:icmp", nil)
		return err
	})
	if err != nil {
		return s, fmt.Errorf("open ICMP socket: %w", err)
	}
	return s, nil
}

func (s *pingSet) start() {
	if s.conn != nil {
		s.wg.Go(s.listen)
		s.wg.Go(s.pace)
	}
}

func (s *pingSet) close() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.wg.Wait()
}

func (s *pingSet) pace() {
	b := make([]byte, pingLen)
	start := time.Now()
	for turn := 0; ; turn++ {
		for i, p := range s.flows {
			time.Sleep(time.Until(start.Add(time.Duration(turn)*s.period + s.period*time.Duration(i)/time.Duration(len(s.flows)))))
			if s.closing.Load() {
				return
			}
			p.mu.Lock()
			n := p.next
			p.next++
			p.sent[n%256] = clock()
			p.mu.Unlock()
			p.put(b, n)
			_, _ = s.conn.WriteToIP(b, &net.IPAddr{IP: s.to.AsSlice()}) // what is not sent does not come back
		}
	}
}

// put writes an echo request (RFC 792): type, code, checksum, identifier,
// sequence, then our number and payload.
func (p *ping) put(b []byte, n uint64) {
	clear(b)
	b[0] = icmpEchoRequest
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], uint16(n))
	binary.BigEndian.PutUint64(b[8:], n)
	fill(b[16:], stream(kindPing, int(p.id), toServer), n*(pingLen-16))
	binary.BigEndian.PutUint16(b[2:], ^fold(sum(0, b)))
}

func (s *pingSet) listen() {
	b := make([]byte, 2048)
	for {
		n, err := s.conn.Read(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		at := clock()
		m := b[:n]
		if n == 20+pingLen { // with the IP header
			m = m[20:]
		}
		i := int(binary.BigEndian.Uint16(m[4:])) - pingFirst
		if len(m) != pingLen || m[0] != icmpEchoReply || i < 0 || i >= len(s.flows) {
			continue
		}
		s.flows[i].arrived(m, at)
		s.seen.add(at)
	}
}

func (p *ping) arrived(m []byte, at int64) {
	n := binary.BigEndian.Uint64(m[8:])
	if err := verifyFast(m[16:], stream(kindPing, int(p.id), toServer), n*(pingLen-16)); err != nil {
		p.fail(fmt.Errorf("%s: %w", p, err))
		return
	}
	p.mu.Lock()
	due := int64(0)
	if n > p.expect {
		due = p.sent[p.expect%256]
	}
	p.expect = max(p.expect, n+1)
	p.mu.Unlock()
	p.hit(at, due)
}

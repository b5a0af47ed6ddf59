// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Mix is how many connections of each kind there are, spread evenly over the
// paths, and their pace. Zero periods, sizes and rates mean the default.
type Mix struct {
	Steady, Idle, Bulk, UDP int
	Ping                    int // ICMP echo flows over the first path, each with an identifier of its own

	SteadyPeriod time.Duration // between requests, default 50 ms
	UDPPeriod    time.Duration // between packets of a flow, default 100 ms
	UDPSize      int           // payload in bytes, a multiple of 8, from 24; above 1472 it fragments; default 64
	BulkRate     int           // bytes per second and transfer, default 250,000
}

func (m Mix) withDefaults() Mix {
	if m.SteadyPeriod == 0 {
		m.SteadyPeriod = 50 * time.Millisecond
	}
	if m.UDPPeriod == 0 {
		m.UDPPeriod = 100 * time.Millisecond
	}
	if m.UDPSize == 0 {
		m.UDPSize = 64
	}
	if m.BulkRate == 0 {
		m.BulkRate = 250_000
	}
	return m
}

// Ports of a path, counted from Path.Port; one more is free.
const (
	portSteady = iota
	portIdle
	portBulk
	portUDP
)

// Load is a running set of connections.
type Load struct {
	mix     Mix
	conns   []*conn
	udp     *udpSet
	pings   *pingSet
	seen    arrivals
	mark    atomic.Int64
	closing atomic.Bool
	wg      sync.WaitGroup
}

// Start makes all connections, one after the other, and lets them talk.
func Start(paths []Path, mix Mix) (*Load, error) {
	l := &Load{mix: mix.withDefaults()}
	err := l.connect(paths)
	if err == nil {
		l.udp, err = openUDP(paths, mix.UDP, l.mix.UDPSize, l.mix.UDPPeriod, &l.seen, &l.closing)
	}
	if err == nil {
		l.pings, err = openPings(&paths[0], mix.Ping, l.mix.UDPPeriod, &l.seen, &l.closing)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	for _, c := range l.conns {
		l.run(c)
	}
	l.udp.start()
	l.pings.start()
	return l, nil
}

func (l *Load) connect(paths []Path) error {
	for _, k := range []struct{ kind, n, port int }{
		{kindSteady, l.mix.Steady, portSteady}, {kindIdle, l.mix.Idle, portIdle}, {kindBulk, l.mix.Bulk, portBulk},
	} {
		for i := range paths {
			if err := l.connectPath(&paths[i], i, len(paths), k.kind, k.n, k.port); err != nil {
				return err
			}
		}
	}
	return nil
}

// connectPath makes those of n connections that fall to one of several paths.
func (l *Load) connectPath(p *Path, first, step, kind, n, port int) error {
	if first >= n {
		return nil
	}
	at := p.Port + uint16(port)
	ln, err := p.listen(at)
	if err != nil {
		return err
	}
	defer ln.Close()
	for id := first; id < n; id += step {
		c, s, err := p.pair(ln, at, 5*time.Second)
		if err != nil {
			return err
		}
		l.conns = append(l.conns, &conn{kind: kind, id: id, back: id/step%2 == 1, path: p.Name, client: c, server: s, closing: &l.closing})
	}
	return nil
}

func (l *Load) run(c *conn) {
	switch c.kind {
	case kindSteady:
		l.wg.Go(func() { c.converse(l.mix.SteadyPeriod, &l.seen) })
		l.wg.Go(c.answer)
	case kindIdle:
		l.wg.Go(c.answer)
	case kindBulk:
		from, to := c.client, c.server
		if c.back { // half of each path's transfers
			from, to = to, from
		}
		l.wg.Go(func() { c.pour(from, l.mix.BulkRate) })
		l.wg.Go(func() { c.drink(to, &l.seen) })
	}
}

// Mark begins a new window: standstills and silences are counted from here.
// at is when the change was made.
func (l *Load) Mark(at int64) {
	l.mark.Store(at)
	l.seen.reset(at)
	for _, c := range l.conns {
		c.reset(at)
	}
	for _, f := range l.udp.flows {
		f.reset(at)
	}
	for _, p := range l.pings.flows {
		p.reset(at)
	}
}

// fresh is how long ago a flow that lives may have progressed.
const fresh = 1500 * time.Millisecond

// alive says that nothing broke a flow and that it progressed just now.
func (m *meter) alive(now, mark int64) bool {
	last, _, err := m.read()
	return err == nil && last > mark && now-last < int64(fresh)
}

// AwaitHealthy waits until every connection and flow that talks has progressed
// since the mark and within the last 1.5 s, or for the time given. Idle
// connections stay idle.
func (l *Load) AwaitHealthy(ctx context.Context, limit time.Duration) bool {
	for end := time.Now().Add(limit); ; {
		if l.laggards() == 0 {
			return true
		}
		if ctx.Err() != nil || time.Now().After(end) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (l *Load) laggards() (n int) {
	now, mark := clock(), l.mark.Load()
	for _, c := range l.conns {
		if c.kind != kindIdle && !c.alive(now, mark) {
			n++
		}
	}
	for _, f := range l.udp.flows {
		if !f.alive(now, mark) {
			n++
		}
	}
	for _, p := range l.pings.flows {
		if !p.alive(now, mark) {
			n++
		}
	}
	return n
}

// SpeakIdle has every idle connection exchange one payload, all at once.
func (l *Load) SpeakIdle(limit time.Duration) {
	var wg sync.WaitGroup
	for _, c := range l.conns {
		if c.kind == kindIdle {
			wg.Go(func() { c.exchange(limit) })
		}
	}
	wg.Wait()
}

// Close ends everything in good order: no connection is counted as broken.
func (l *Load) Close() error {
	if l.closing.Swap(true) {
		return nil
	}
	if l.udp != nil {
		l.udp.close()
	}
	if l.pings != nil {
		l.pings.close()
	}
	time.Sleep(2 * l.mix.SteadyPeriod)
	for _, c := range l.conns {
		c.client.Close()
		c.server.Close()
	}
	l.wg.Wait()
	return nil
}

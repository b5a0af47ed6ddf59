// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/syncproto"
)

const (
	watchEvery = 250 * time.Millisecond // MTU, carrier, another interface of that name
	callEvery  = time.Second            // to everybody, while peers are being looked for
	maxFound   = 8                      // peers found on one link
)

// receive hands datagrams to the Node, a batch under one lock.
func (l *Link) receive(ctx context.Context, s *socket) error {
	b := newBatch(maxDatagram)
	for {
		if err := s.recv(b); err != nil {
			if errors.Is(err, os.ErrClosed) || ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, unix.ENETDOWN) { // said once when the interface goes down
				continue
			}
			return err
		}
		l.accept(s, b)
		l.cfg.Notify()
	}
}

// maxDatagram is the largest that jumbo frames carry.
const maxDatagram = 9216

func (l *Link) accept(s *socket, b *batch) {
	var seen Stats // what this batch adds to the counters
	heard := false
	peers := l.stations()
	l.node.Lock()
	now := l.cfg.Now()
	for i := range b.n {
		r := b.at(i)
		seen.ReceivedDatagrams++
		seen.ReceivedBytes += uint64(len(r.payload))
		switch {
		case r.hops != hops:
			seen.DroppedHops++
		case r.index != s.index:
			seen.DroppedInterface++
		case r.truncated:
			seen.DroppedTruncated++
		default:
			known, valid := l.deliver(peers, &r, now)
			if !known {
				seen.DroppedStranger++
			}
			heard = heard || valid
		}
	}
	due := l.node.NextDeadline()
	l.node.Unlock()
	if due < l.armed.Load() {
		l.Wake()
	}
	l.count(func(st *Stats) {
		if heard {
			st.LastHeard = time.Now()
		}
		st.ReceivedDatagrams += seen.ReceivedDatagrams
		st.ReceivedBytes += seen.ReceivedBytes
		st.DroppedHops += seen.DroppedHops
		st.DroppedInterface += seen.DroppedInterface
		st.DroppedTruncated += seen.DroppedTruncated
		st.DroppedStranger += seen.DroppedStranger
	})
}

// deliver gives a datagram to its peer, the lock being held; known: it has
// one. What the Node refuses, and is not valid, it counts itself.
func (l *Link) deliver(peers []*station, r *received, now int64) (known, valid bool) {
	if r.src.Port() != l.cfg.Port {
		return false, false
	}
	call := syncproto.Called(r.payload)
	for _, st := range peers {
		if st.addr == r.src.Addr() {
			return true, call || st.peer.Receive(r.payload, now) == nil
		}
	}
	if !call || len(l.cfg.Peers) > 0 || len(peers) >= maxFound {
		return false, false
	}
	go l.found(r.src.Addr())
	return true, true
}

// found adds a peer that called. It takes the lock by itself.
func (l *Link) found(a netip.Addr) {
	if l.addPeer(a) {
		l.cfg.Log.Info("found a peer", "interface", l.cfg.Interface, "address", a)
		l.Wake()
	}
}

// send fills and sends datagrams whenever the Node has something to say.
func (l *Link) send(ctx context.Context, s *socket) error {
	b := newBatch(maxDatagram)
	timer := time.NewTimer(0)
	defer timer.Stop()
	nextCall := int64(0)
	for {
		more, due := l.fill(s, b, &nextCall)
		if err := l.flush(s, b); err != nil {
			if errors.Is(err, os.ErrClosed) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		if more {
			continue
		}
		l.cfg.Notify()
		timer.Reset(time.Duration(max(0, due-l.cfg.Now())))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-l.wake:
		}
	}
}

// fill takes from the Node at most one batch. more: there may be another.
func (l *Link) fill(s *socket, b *batch, nextCall *int64) (more bool, due int64) {
	b.n = 0
	size := max(syncproto.MinPayload, min(maxDatagram, int(s.payload.Load())))
	peers := l.stations()
	l.node.Lock()
	defer l.node.Unlock()
	now := l.cfg.Now()
	if len(l.cfg.Peers) == 0 && now >= *nextCall {
		*nextCall = now + int64(callEvery)
		b.put(s, s.group(), l.node.FillCall(b.bufs[0][:size]))
	}
	l.node.Tick(now)
	for _, st := range peers {
		for b.n < batchSize {
			n := st.peer.Fill(b.bufs[b.n][:size], now)
			if n == 0 {
				break
			}
			b.put(s, st.addr, n)
		}
	}
	due = l.node.NextDeadline()
	if len(l.cfg.Peers) == 0 {
		due = min(due, *nextCall)
	}
	l.armed.Store(due)
	return b.n == batchSize, due
}

// flush sends a batch. What the kernel refuses is counted and gone: the
// protocol takes it for lost.
func (l *Link) flush(s *socket, b *batch) error {
	sent, bytes, failed := uint64(0), uint64(0), uint64(0)
	var last error
	for i := 0; i < b.n; {
		n, err := s.mmsg(unix.SYS_SENDMMSG, b, i, b.n-i)
		if errors.Is(err, os.ErrClosed) {
			return err
		}
		if err != nil {
			failed, last, n = failed+1, err, 1
		} else {
			for j := range n {
				sent++
				bytes += uint64(b.msgs[i+j].len)
			}
		}
		i += n
	}
	if b.n == 0 {
		return nil
	}
	l.count(func(st *Stats) {
		st.SentDatagrams += sent
		st.SentBytes += bytes
		st.SendErrors += failed
		if last != nil {
			st.LastSendError = last.Error()
		}
	})
	return nil
}

// watch looks after the interface until ctx ends.
func (l *Link) watch(ctx context.Context, s *socket) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, err := l.refresh(s)
		if err != nil {
			l.count(func(st *Stats) { st.Carrier = false })
			return err
		}
		if changed {
			l.Wake()
		}
	}
}

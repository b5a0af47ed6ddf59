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
	var seal *sealer
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
		seal = l.sealer(seal)
		l.accept(s, b, seal)
		l.cfg.Notify()
	}
}

// maxDatagram is the largest that jumbo frames carry.
const maxDatagram = 9216

func (l *Link) accept(s *socket, b *batch, seal *sealer) {
	var seen Stats // what this batch adds to the counters
	heard := false
	var batch [batchSize]received
	passed := batch[:0]
	for i := range b.n { // before the lock: seals cost the most
		if r := b.at(i); seen.admit(&r, s, seal) {
			passed = append(passed, r)
		}
	}
	peers := l.stations()
	l.node.Lock()
	now := l.cfg.Now()
	for i := range passed {
		known, valid := l.deliver(peers, &passed[i], now)
		if !known {
			seen.DroppedStranger++
		}
		heard = heard || valid
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
		st.DroppedUnsealed += seen.DroppedUnsealed
		st.DroppedUnknownKey += seen.DroppedUnknownKey
		st.DroppedForged += seen.DroppedForged
		st.DroppedStranger += seen.DroppedStranger
	})
}

// admit says whether a datagram is from this link and by somebody who has the
// key, opens it, and counts it.
func (st *Stats) admit(r *received, s *socket, seal *sealer) bool {
	st.ReceivedDatagrams++
	st.ReceivedBytes += uint64(len(r.payload))
	switch {
	case r.hops != hops:
		st.DroppedHops++
	case r.index != s.index:
		st.DroppedInterface++
	case r.truncated:
		st.DroppedTruncated++
	case seal != nil:
		var err error
		r.payload, err = seal.open(r.payload)
		switch err {
		case nil:
			return true
		case errUnsealed:
			st.DroppedUnsealed++
		case errUnknown:
			st.DroppedUnknownKey++
		default:
			st.DroppedForged++
		}
	default:
		return true
	}
	return false
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
	var seal *sealer
	for {
		seal = l.sealer(seal)
		more, due := l.fill(s, b, &nextCall, seal)
		if err := b.seal(seal); err != nil {
			return err
		}
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
func (l *Link) fill(s *socket, b *batch, nextCall *int64, seal *sealer) (more bool, due int64) {
	b.n = 0
	size := min(maxDatagram, int(s.payload.Load()))
	if seal != nil {
		size -= sealRoom
	}
	size = max(syncproto.MinPayload, size)
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
		if err := l.loadKeys(); err != nil {
			l.cfg.Log.Warn("the keys in force stay", "error", err)
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

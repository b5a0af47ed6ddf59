// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/syncproto"
)

// watchEvery is how often MTU, carrier and another interface of that name are
// looked for.
const watchEvery = 250 * time.Millisecond

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
	l.node.Lock()
	now := l.cfg.Now()
	for i := range passed {
		heard = l.deliver(&passed[i], &seen, now) || heard
	}
	l.tellGate()
	l.node.kick(nil, now)
	l.node.Unlock()
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
		st.DroppedOwn += seen.DroppedOwn
		st.DroppedNamesake += seen.DroppedNamesake
		if seen.DroppedNamesake > 0 {
			st.Namesake, st.NamesakeName, st.NamesakeHeard = seen.Namesake, seen.NamesakeName, time.Now()
		}
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

// deliver gives a datagram to its peer, the lock being held, and says whether it
// is valid. What the Node refuses it counts itself.
func (l *Link) deliver(r *received, seen *Stats, now int64) (valid bool) {
	src := r.src.Addr()
	if r.src.Port() != l.cfg.Port {
		seen.DroppedStranger++
		return false
	}
	st := at(l.stations(), src)
	who, said := l.node.Who(r.payload)
	switch {
	case said && who.Namesake:
		seen.DroppedNamesake++
		seen.Namesake, seen.NamesakeName = src, who.Name
		return false
	case said && who.Self && who.Call:
		seen.DroppedOwn++
		return false
	case said && !who.Self:
		st = l.introduced(src, &who, now)
	}
	if st == nil || st.path == nil {
		seen.DroppedStranger++
		return false
	}
	return said && who.Call || st.path.Receive(r.payload, now) == nil
}

// send fills and sends datagrams whenever the Node has something to say.
func (l *Link) send(ctx context.Context, s *socket) error {
	b := newBatch(maxDatagram)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var seal *sealer
	for {
		seal = l.sealer(seal)
		more, due := l.fill(s, b, seal)
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
func (l *Link) fill(s *socket, b *batch, seal *sealer) (more bool, due int64) {
	b.n = 0
	size := min(maxDatagram, int(s.payload.Load()))
	if seal != nil {
		size -= sealRoom
	}
	size = max(syncproto.MinPayload, size)
	l.node.Lock()
	defer l.node.Unlock()
	now := l.cfg.Now()
	l.node.Tick(now)
	l.callAll(s, b, size, now)
	used := false
	for _, st := range l.stations() {
		if b.n < batchSize && st.nextCall(now) <= now {
			st.called, st.owes = now, false
			b.put(s, st.addr, l.node.FillCall(b.bufs[b.n][:size], !st.hearing()))
		}
		for b.n < batchSize && st.path != nil {
			n := st.path.Fill(b.bufs[b.n][:size], now)
			if n == 0 {
				break
			}
			b.put(s, st.addr, n)
		}
		used = used || st.path != nil && st.path.InUse()
	}
	l.tellGate()
	l.used.Store(used)
	due = min(l.node.NextDeadline(), l.due(now))
	l.armed.Store(due)
	l.node.kick(l, now)
	return b.n == batchSize, due
}

// callAll calls everybody where no peer is configured: often at first, unless
// somebody is there.
func (l *Link) callAll(s *socket, b *batch, size int, now int64) {
	if len(l.cfg.Peers) > 0 || now < l.nextCall {
		return
	}
	if l.eager == 0 {
		l.eager = now + int64(eagerFor)
	}
	l.nextCall = now + int64(callSlow)
	if now < l.eager && len(l.stations()) == 0 {
		l.nextCall = now + int64(callEvery)
	}
	heard := slices.ContainsFunc(l.stations(), (*station).hearing)
	b.put(s, s.group, l.node.FillCall(b.bufs[b.n][:size], !heard))
}

// due is when this link has something to send, if nothing happens before. The
// lock is held.
func (l *Link) due(now int64) int64 {
	d := never
	if len(l.cfg.Peers) == 0 {
		d = l.nextCall
	}
	for _, st := range l.stations() {
		d = min(d, st.due(now))
	}
	return d
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

// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// watchEvery is how often MTU, carrier and another interface of that name are
// looked for.
const watchEvery = 250 * time.Millisecond

// carry sends what is due, sleeps until something comes or is due, and hands
// what came to the Node, a batch under one lock. One thread does both, in system
// calls that block: a window of changes then costs this node's peer one wake-up,
// where a goroutine woken by the runtime's poller costs five.
func (l *Link) carry(ctx context.Context, s *socket) error {
	in := newBatch(maxDatagram)
	var seal *sealer
	for ctx.Err() == nil {
		more, due, err := l.out.transmit(l, true)
		if err != nil {
			return err
		}
		l.cfg.Notify()
		if !more {
			if err := s.waiter.Wait(time.Duration(due - l.cfg.Now())); err != nil {
				return err
			}
		}
		switch err := s.recv(in); {
		case errors.Is(err, unix.ENETDOWN): // said once when the interface goes down
		case err != nil:
			return err
		case in.n > 0:
			seal = l.sealer(seal)
			l.accept(s, in, seal)
		}
	}
	return nil
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
	l.node.kick(l, now) // this one sends next
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

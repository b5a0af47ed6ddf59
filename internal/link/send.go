// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/syncproto"
)

// sender fills, seals and sends. Whoever has something to send may use it: the
// link's own goroutine, and those that call Flush.
type sender struct {
	mu    sync.Mutex // taken before the Node's
	to    *socket    // nil: none is open
	batch *batch
	seal  *sealer
}

// begin makes s the socket to send by; nil: there is none from now on.
func (o *sender) begin(s *socket) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to = s; o.batch == nil {
		o.batch = newBatch(maxDatagram)
	}
}

// flush sends at most one batch. Where the link's goroutine is at it, or would
// have to go on, it is left to that.
func (l *Link) flush() {
	if !l.out.mu.TryLock() {
		l.Wake()
		return
	}
	more, _, err := l.out.transmitLocked(l, false)
	l.out.mu.Unlock()
	if more || err != nil {
		l.Wake()
	}
}

func (o *sender) transmit(l *Link, own bool) (more bool, due int64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.transmitLocked(l, own)
}

// transmitLocked sends at most one batch. more: there may be another. own: by
// the link's goroutine, which sleeps until due after this.
func (o *sender) transmitLocked(l *Link, own bool) (more bool, due int64, err error) {
	if o.to == nil {
		return false, never, nil
	}
	o.seal = l.sealer(o.seal)
	more, due = l.fill(o.to, o.batch, o.seal, own)
	if err := o.batch.seal(o.seal); err != nil {
		return false, never, err
	}
	l.post(o.to, o.batch)
	return more, due, nil
}

// fill takes from the Node at most one batch. more: there may be another.
func (l *Link) fill(s *socket, b *batch, seal *sealer, own bool) (more bool, due int64) {
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
	if own {
		l.armed.Store(due)
		l.node.kick(l, now)
	} else {
		l.node.kick(nil, now)
	}
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

// post sends a batch. What the kernel refuses is counted and gone: the protocol
// takes it for lost.
func (l *Link) post(s *socket, b *batch) {
	sent, bytes, failed := uint64(0), uint64(0), uint64(0)
	var last error
	for i := 0; i < b.n; {
		n, err := s.mmsg(unix.SYS_SENDMMSG, b, i, b.n-i)
		if errors.Is(err, unix.EAGAIN) && s.writable() {
			continue
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
		return
	}
	l.count(func(st *Stats) {
		st.SentDatagrams += sent
		st.SentBytes += bytes
		st.SendErrors += failed
		if last != nil {
			st.LastSendError = last.Error()
		}
	})
}

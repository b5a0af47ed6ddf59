// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Kind groups events. The latest event of each (Kind, Subject) is what a new
// subscriber's snapshot shows.
type Kind string

// Kinds.
const (
	Role     Kind = "role"     // a set became Active, Backup, Initialize
	Takeover Kind = "takeover" // a takeover or yield ended, with its timeline
	Peer     Kind = "peer"     // a peer was heard, or fell silent
	View     Kind = "view"     // a view became complete, or was dropped
	Fence    Kind = "fence"    // the fence went up or down
	Capture  Kind = "capture"  // a program was attached, lost, attached again
	Address  Kind = "address"  // virtual addresses went in or out, or were repaired
	Alarm    Kind = "alarm"    // a condition that somebody should act upon began or ended
	Daemon   Kind = "daemon"   // start, stop, configuration
	Tracked  Kind = "tracked"  // an interface or a health check came up or went down
)

// Event is one thing that happened.
type Event struct {
	Seq     uint64    `json:"seq"` // from 1, no gaps; given by Publish
	At      time.Time `json:"at"`
	Kind    Kind      `json:"kind"`
	Subject string    `json:"subject"` // set, peer, interface; may be empty
	Text    string    `json:"text"`    // one sentence
	Data    any       `json:"data,omitempty"`
	// Snapshot: not new, but the latest of its kind and subject when the
	// subscription began.
	Snapshot bool `json:"snapshot,omitempty"`
}

type key struct {
	kind    Kind
	subject string
}

// Stream is safe for concurrent use.
type Stream struct {
	mu     sync.Mutex
	last   uint64        // number of the newest event
	ring   []Event       // event n is at ring[n%len]
	latest map[key]Event // for snapshots
	more   chan struct{} // closed and replaced by Publish
}

// New makes a stream that remembers the last history events (at least 1).
func New(history int) *Stream {
	return &Stream{
		ring:   make([]Event, max(history, 1)),
		latest: make(map[key]Event),
		more:   make(chan struct{}),
	}
}

// Publish numbers e and hands it to every subscriber. A zero At becomes the
// wall clock's now. It returns the number.
func (s *Stream) Publish(e Event) uint64 {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	e.Seq, e.Snapshot = s.last, false
	s.ring[e.Seq%uint64(len(s.ring))] = e
	s.latest[key{e.Kind, e.Subject}] = e
	close(s.more)
	s.more = make(chan struct{})
	return e.Seq
}

// History gives the remembered events after number since, oldest first.
func (s *Stream) History(since uint64) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Event
	for n := max(since+1, s.oldest()); n <= s.last; n++ {
		out = append(out, s.ring[n%uint64(len(s.ring))])
	}
	return out
}

// oldest is the number of the oldest remembered event. Callers hold mu.
func (s *Stream) oldest() uint64 {
	if n := uint64(len(s.ring)); s.last > n {
		return s.last - n + 1
	}
	return 1
}

// Subscribe starts with a snapshot (the latest event of each kind and
// subject, in their order, marked as such) and goes on with what is published
// after it, without a gap between the two.
func (s *Stream) Subscribe() *Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := &Subscription{s: s, next: s.last + 1}
	for _, e := range s.latest {
		e.Snapshot = true
		sub.snapshot = append(sub.snapshot, e)
	}
	slices.SortFunc(sub.snapshot, func(a, b Event) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return sub
}

// SubscribeAfter starts after event number since, from history, so that a
// subscriber that was cut off goes on where it was.
func (s *Stream) SubscribeAfter(since uint64) *Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Subscription{s: s, next: min(since, s.last) + 1}
}

// Subscription is one reader's place in the stream. It is not safe for
// concurrent use and needs no closing.
type Subscription struct {
	s        *Stream
	snapshot []Event
	next     uint64
}

// Next waits for the next event. lost counts the events that were overwritten
// before this reader came to them; they lie directly before e. The error is
// the context's.
func (u *Subscription) Next(ctx context.Context) (e Event, lost uint64, err error) {
	if len(u.snapshot) > 0 {
		e, u.snapshot = u.snapshot[0], u.snapshot[1:]
		return e, 0, nil
	}
	for {
		e, lost, more := u.take()
		if more == nil {
			return e, lost, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return Event{}, 0, ctx.Err()
		}
	}
}

// take returns the next event, or the channel that closes when there is one.
func (u *Subscription) take() (e Event, lost uint64, more <-chan struct{}) {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	if u.next > u.s.last {
		return Event{}, 0, u.s.more
	}
	if old := u.s.oldest(); u.next < old {
		lost, u.next = old-u.next, old
	}
	e = u.s.ring[u.next%uint64(len(u.s.ring))]
	u.next++
	return e, lost, nil
}

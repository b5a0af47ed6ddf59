// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"fmt"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

const (
	auditSlice  = 256             // entries read at once
	auditMinGap = 2 * time.Second // between audits, however much was lost
	auditDefer  = time.Minute     // at most, while much is under way
)

// audit compares the kernel table with what was told. Packets and events leave
// gaps: entries older than the first listener die silently, a full ring or
// socket loses. What the table holds is seeded; own flows that it does not hold
// are dead.
type audit struct {
	reader *reader
	table  *conntrack.Table
	soon   time.Duration // the first pause
	every  time.Duration // the longest
	rate   int
	log    *slog.Logger

	hurry chan struct{} // something was lost
	flows []conntrack.Flow
	keys  []conntrack.Key
	seen  keySet
	runs  atomic.Uint64
}

func newAudit(o *Options, r *reader, table *conntrack.Table) *audit {
	return &audit{
		reader: r, table: table, soon: min(o.AuditSoon, o.AuditEvery), every: o.AuditEvery, rate: o.AuditRate, log: o.Log,
		hurry: make(chan struct{}, 1),
		flows: make([]conntrack.Flow, 0, 2*auditSlice),
	}
}

// hasten asks for an audit soon.
func (a *audit) hasten() {
	select {
	case a.hurry <- struct{}{}:
	default:
	}
}

// run audits at once, calls ready, then goes on at its pace until ctx ends. What
// began before anybody listened dies in silence, and the short-lived of it die
// soon: if there is such, the pauses begin short and double.
func (a *audit) run(ctx context.Context, ready func()) error {
	wait := a.every
	for first := true; ; first = false {
		if err := a.once(ctx, first); err != nil && ctx.Err() == nil {
			if first {
				return err
			}
			a.log.Warn("audit failed; it is tried again", "error", err)
			a.hasten()
		}
		if first && ctx.Err() == nil {
			ready()
			if a.reader.seeded.Load() > 0 {
				wait = a.soon
			}
		}
		if !a.pause(ctx, wait) {
			return nil
		}
		wait = min(2*wait, a.every)
	}
}

// pause waits for the next audit, and until a join, a role that changed or a
// commit of much is over: those are slowed by an audit, and what is written while
// it walks looks absent to it. It is false when ctx ended.
func (a *audit) pause(ctx context.Context, wait time.Duration) bool {
	ok := a.sleep(ctx, wait)
	for until := time.Now().Add(auditDefer); ok && a.reader.sink.Unsettled() && time.Now().Before(until); {
		ok = a.sleep(ctx, time.Second)
	}
	return ok
}

// sleep waits for that long, or until something was lost.
func (a *audit) sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	gap := time.After(auditMinGap)
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-a.hurry:
	}
	select {
	case <-ctx.Done():
		return false
	case <-gap:
		return true
	}
}

func (a *audit) once(ctx context.Context, full bool) error {
	n, _, err := a.reader.count()
	if err != nil {
		return fmt.Errorf("audit kernel table: %w", err)
	}
	a.seen.reset(n)
	a.reader.setAuditing(true)
	defer a.reader.setAuditing(false)
	if err := a.walk(ctx, full); err != nil {
		return fmt.Errorf("audit kernel table: %w", err)
	}
	a.runs.Add(1)
	if full {
		return nil
	}
	return a.compare(ctx)
}

// walk seeds what the table holds, slice by slice; the first one unpaced.
func (a *audit) walk(ctx context.Context, unpaced bool) error {
	for done := false; !done; {
		a.flows = a.flows[:0]
		begin := time.Now()
		var err error
		done, err = a.table.DumpSlice(auditSlice, a.take)
		if err != nil {
			return err
		}
		a.reader.seed(a.flows)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !unpaced {
			time.Sleep(time.Duration(len(a.flows))*time.Second/time.Duration(a.rate) - time.Since(begin))
		}
	}
	return nil
}

func (a *audit) take(f *conntrack.Flow) error {
	key := f.Key()
	a.seen.add(&key)
	if a.reader.policy.Match(f) == conntrack.Replicate {
		a.flows = append(a.flows, *f)
	}
	return nil
}

// compare settles the own flows that the walk did not show.
func (a *audit) compare(ctx context.Context) error {
	for from := uint32(0); ; {
		a.keys = a.keys[:0]
		from = a.reader.sink.OwnKeys(from, 4*auditSlice, func(k *conntrack.Key) {
			if !a.seen.has(k) {
				a.keys = append(a.keys, *k)
			}
		})
		if err := a.reader.absent(a.keys); err != nil {
			return err
		}
		if from == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(time.Duration(len(a.keys)+1) * time.Second / time.Duration(a.rate))
	}
}

// keySet is a Bloom filter of two bits in sixteen per key: 2 bytes an entry. A
// key that it takes for another is found by the next audit, which draws another
// seed.
type keySet struct {
	bits []uint64
	seed uint64
}

func (s *keySet) reset(n uint32) {
	size := 1 << bits.Len32(max(n/4, 1<<10)) // words
	if len(s.bits) == size {
		clear(s.bits)
	} else {
		s.bits = make([]uint64, size)
	}
	s.seed = rand.Uint64()
}

func (s *keySet) places(k *conntrack.Key) (a, b uint64) {
	h := k.Hash(s.seed)
	mask := uint64(len(s.bits))*64 - 1
	return h & mask, h >> 32 & mask
}

func (s *keySet) add(k *conntrack.Key) {
	a, b := s.places(k)
	s.bits[a/64] |= 1 << (a % 64)
	s.bits[b/64] |= 1 << (b % 64)
}

func (s *keySet) has(k *conntrack.Key) bool {
	a, b := s.places(k)
	return s.bits[a/64]>>(a%64)&1 == 1 && s.bits[b/64]>>(b%64)&1 == 1
}

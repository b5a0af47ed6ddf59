// SPDX-License-Identifier: Apache-2.0

package flowdiff

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// Kernel is the kernel table (conntrack.Table).
type Kernel interface {
	DumpSlice(max int, fn func(*conntrack.Flow) error) (done bool, err error)
	Get(k *conntrack.Key, f *conntrack.Flow) (bool, error)
}

// Copies is what the node holds. Each call takes the node's lock once.
type Copies interface {
	// Look fills in what the node holds of each key.
	Look(keys []conntrack.Key, held []Held)
	// Keys calls fn for names of own flows (source 0) and of each view, and
	// gives the next position, 0 after the last. ok is false beyond the last
	// source.
	Keys(source int, from uint32, max int, fn func(k *conntrack.Key)) (next uint32, ok bool)
}

const (
	slice     = 512
	maxSecond = 20000 // names that are looked at again; more are only counted
	looks     = 2     // so often a difference must be seen again
)

// again is how long a difference has to set itself right before each further
// look: longer than a change takes from the packet to the peer's kernel table.
var again = [looks]time.Duration{time.Second, 500 * time.Millisecond}

// Result is what a comparison found.
type Result struct {
	Kernel, Copies int // names looked at
	Differences    []Difference
	More           int // names that differed at first and were not looked at again
}

// Run compares. It pauses as long as it works, and, if something differs, for a
// second and a half before the further looks.
func Run(ctx context.Context, kernel Kernel, copies Copies, rules func() Rules) (Result, error) {
	c := comparison{kernel: kernel, copies: copies, rules: rules, seed: rand.Uint64(), held: make([]Held, 4*slice)}
	if err := c.walkKernel(ctx); err != nil {
		return c.result, err
	}
	slices.Sort(c.seen)
	for source := 0; ; source++ {
		more, err := c.walkCopy(ctx, source)
		if err != nil {
			return c.result, err
		}
		if !more {
			break
		}
	}
	c.seen = nil
	return c.result, c.lookAgain(ctx)
}

// comparison is one run.
type comparison struct {
	kernel Kernel
	copies Copies
	rules  func() Rules
	seed   uint64
	seen   []uint64 // hashes of the names that the kernel table had
	held   []Held
	first  []conntrack.Key // names that differed
	result Result
}

// suspect notes a name for another look.
func (c *comparison) suspect(k *conntrack.Key) {
	if len(c.first) < maxSecond {
		c.first = append(c.first, *k)
	} else {
		c.result.More++
	}
}

// rest pauses for as long as the work took.
func rest(ctx context.Context, since time.Time) error {
	return sleep(ctx, time.Since(since))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (c *comparison) walkKernel(ctx context.Context) error {
	var flows []conntrack.Flow
	var keys []conntrack.Key
	for done := false; !done; {
		begun := time.Now()
		flows, keys = flows[:0], keys[:0]
		var err error
		done, err = c.kernel.DumpSlice(slice, func(f *conntrack.Flow) error {
			flows, keys = append(flows, *f), append(keys, f.Key())
			return nil
		})
		if err != nil {
			return fmt.Errorf("compare flows: %w", err)
		}
		rules := c.rules()
		c.look(keys)
		for i := range flows {
			c.seen = append(c.seen, keys[i].Hash(c.seed))
			if len(rules.judge(&flows[i], &c.held[i])) > 0 {
				c.suspect(&keys[i])
			}
		}
		c.result.Kernel += len(flows)
		if err := rest(ctx, begun); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) look(keys []conntrack.Key) {
	for len(c.held) < len(keys) {
		c.held = append(c.held, Held{})
	}
	c.copies.Look(keys, c.held[:len(keys)])
}

// walkCopy looks for names that the kernel table did not have.
func (c *comparison) walkCopy(ctx context.Context, source int) (more bool, err error) {
	var keys []conntrack.Key
	for from := uint32(0); ; {
		begun := time.Now()
		keys = keys[:0]
		from, more = c.copies.Keys(source, from, 4*slice, func(k *conntrack.Key) { keys = append(keys, *k) })
		c.result.Copies += len(keys)
		keys = slices.DeleteFunc(keys, func(k conntrack.Key) bool { // the node's lock is free
			_, had := slices.BinarySearch(c.seen, k.Hash(c.seed))
			return had
		})
		rules := c.rules()
		c.look(keys)
		for i := range keys {
			if len(rules.judge(nil, &c.held[i])) > 0 {
				c.suspect(&keys[i])
			}
		}
		if err := rest(ctx, begun); err != nil || from == 0 {
			return more, err
		}
	}
}

// lookAgain keeps what still differs.
func (c *comparison) lookAgain(ctx context.Context) error {
	for _, pause := range again {
		if len(c.first) == 0 {
			return nil
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		c.result.Differences = c.result.Differences[:0]
		kept := c.first[:0]
		for part := range slices.Chunk(c.first, slice) {
			begun := time.Now()
			still, err := c.lookAt(part)
			if err != nil {
				return err
			}
			kept = append(kept, still...)
			if err := rest(ctx, begun); err != nil {
				return err
			}
		}
		c.first = kept
	}
	return nil
}

// lookAt judges names anew and gives those that still differ, in place.
func (c *comparison) lookAt(keys []conntrack.Key) ([]conntrack.Key, error) {
	rules := c.rules()
	c.look(keys)
	still := keys[:0]
	var f conntrack.Flow
	for i, k := range keys {
		found, err := c.kernel.Get(&k, &f)
		if err != nil {
			return nil, fmt.Errorf("compare flows: %w", err)
		}
		entry := &f
		if !found {
			entry = nil
		}
		if d := rules.judge(entry, &c.held[i]); len(d) > 0 {
			c.result.Differences = append(c.result.Differences, d...)
			still = append(still, k)
		}
	}
	return still, nil
}

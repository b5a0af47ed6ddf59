// SPDX-License-Identifier: Apache-2.0

package takeover

import "context"

// rushThrough writes all there is, the first of the two lots taken already.
// While the kernel works on one lot, which is one long system call, the feeder
// settles the one before and takes the one after, so that the calling goroutine
// does nothing but write:
//
//	feeder    take 2 | settle 1, take 1 | settle 2, take 2 | ...
//	           full |  ^ done     full |  ^ done
//	caller   write 1 ------ | write 2 ------ | write 1 ------ ...
//
// Each channel holds both lots: nobody waits to give one away.
func (c *Committer) rushThrough(ctx context.Context) (err error) {
	full, done := make(chan *lot, len(c.lots)), make(chan *lot, len(c.lots))
	full <- &c.lots[0]
	go c.feed(ctx, full, done)
	for l := range full {
		if err == nil {
			c.write(l)
			err = l.err
		}
		done <- l
	}
	return err
}

// feed ends, and closes full, when there is nothing left and nothing out. Lots
// come back in the order in which they were taken.
func (c *Committer) feed(ctx context.Context, full chan<- *lot, done <-chan *lot) {
	defer close(full)
	free, out := &c.lots[1], 1
	for {
		if free != nil && c.rush.Load() && ctx.Err() == nil {
			if c.take(free, 0, true); len(free.ops) > 0 {
				full <- free
				free = nil
				out++
			}
		}
		if out == 0 {
			return
		}
		l := <-done
		if out--; l.err != nil {
			return
		}
		c.settle(l)
		free = l
	}
}

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"

	"github.com/tandem-ha/tandem/conntrack"
)

// deaf is a sink that does nothing.
type deaf struct{ Sink }

func (deaf) Begin()                      {}
func (deaf) End()                        {}
func (deaf) Told(*conntrack.Flow, int64) {}
func (deaf) Gone(*conntrack.Flow, int64) {}

// BenchmarkBatch is what user space takes per told flow, from the parsed record
// to the sink: births alone, with the death socket read after every 100 of
// them, and that after a burst of a million flows (a join's table, a flood).
//
//	go test ./loader -run '^$' -bench Batch
func BenchmarkBatch(b *testing.B) {
	flow := change{flow: udpFlow(1), verdict: conntrack.Replicate}
	tell := func(r *reader, i int) {
		c := r.batch.next()
		*c = flow
		c.flow.Orig.SrcPort, c.flow.Orig.DstPort = uint16(i), uint16(i>>16)
		r.batch.take()
		if r.batch.full() {
			r.flush()
		}
	}
	for _, c := range []struct {
		name  string
		every int
		burst int
	}{{"births", 20000, 0}, {"births and deaths", 100, 0}, {"after a burst", 100, 1_000_000}} {
		b.Run(c.name, func(b *testing.B) {
			r := &reader{sink: deaf{}, batch: newBatch()}
			for i := range c.burst {
				tell(r, i)
			}
			r.flush()
			r.batch.emptied()
			r.batch.emptied()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				tell(r, i)
				if i++; i%c.every == 0 {
					r.flush()
					r.batch.emptied()
				}
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/maps"
)

// reader brings what the ring, the death socket and audits say into one order
// and hands it to the sink. All goroutines of a Capture meet at its lock.
type reader struct {
	policy conntrack.Policy
	sink   Sink
	ring   *maps.Ring
	table  *conntrack.Table
	hz     uint32

	mu       sync.Mutex
	batch    *batch
	auditing bool
	ended    [2]map[conntrack.Key]struct{} // died since an audit's last slices were read
	got      conntrack.Flow

	told, gone, malformed, deaths, settled, raced, seeded, missed atomic.Uint64
}

func newReader(o *Options, ring *maps.Ring, table *conntrack.Table) *reader {
	return &reader{
		policy: o.Policy, sink: o.Sink, ring: ring, table: table,
		hz:    maps.TicksPerSecond(),
		batch: newBatch(),
		ended: [2]map[conntrack.Key]struct{}{{}, {}},
	}
}

// drainLocked takes what the ring holds to the sink and gives the number of
// records.
func (r *reader) drainLocked() int {
	n := r.ring.Drain(r.record)
	r.flush()
	return n
}

func (r *reader) record(rec []byte) {
	c := r.batch.next()
	var err error
	if c.at, c.verdict, err = maps.ParseFlow(rec, r.hz, &c.flow); err != nil {
		r.batch.refuse()
		r.malformed.Add(1)
		return
	}
	r.batch.take()
	if r.batch.full() {
		r.flush()
		r.sink.Flush()
	}
}

// flush gives the batch to the sink.
func (r *reader) flush() {
	if len(r.batch.changes) == 0 {
		return
	}
	r.sink.Begin()
	for i := range r.batch.changes {
		c := &r.batch.changes[i]
		if c.verdict == conntrack.Gone {
			r.sink.Gone(&c.flow, c.at)
			r.gone.Add(1)
		} else {
			r.sink.Told(&c.flow, c.at)
			r.told.Add(1)
		}
	}
	r.sink.End()
	r.batch.done()
}

// window takes what the ring holds and settles deaths, in the order of their
// socket; emptied says that it was empty after them. Whatever was told before
// them is drained first: a record written before its flow's death never comes
// after it. n counts records and deaths.
func (r *reader) window(deaths []conntrack.Death, emptied bool) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = r.drainLocked() + len(deaths)
	ended, err := r.settle(deaths)
	if len(ended) > 0 {
		r.sink.Begin()
		for i := range ended {
			r.sink.Died(&ended[i])
		}
		r.sink.End()
	}
	if emptied {
		r.batch.emptied()
	}
	if n > 0 {
		r.sink.Flush()
	}
	return n, err
}

// settle keeps, in place, the deaths that are the sink's business.
func (r *reader) settle(deaths []conntrack.Death) (kept []conntrack.Death, err error) {
	kept = deaths[:0]
	for i := range deaths {
		d := &deaths[i]
		dead, e := r.isDeath(d)
		if e != nil && err == nil {
			err = fmt.Errorf("settle death: %w", e)
		}
		if !dead {
			continue
		}
		if r.auditing {
			r.ended[0][d.Flow.Key()] = struct{}{}
		}
		kept = append(kept, *d)
	}
	return kept, err
}

// isDeath: of a flow that was replicated, and not of an older life of the tuple.
func (r *reader) isDeath(d *conntrack.Death) (bool, error) {
	r.deaths.Add(1)
	// The event shows the entry as dying; the question is whether it was
	// replicated before.
	d.Flow.Status &^= conntrack.Dying
	if r.policy.Match(&d.Flow) == conntrack.Ignore {
		return false, nil
	}
	key := d.Flow.Key()
	if !r.batch.isRecent(&key) {
		return true, nil
	}
	alive, err := r.aliveNow(&key)
	if alive {
		r.raced.Add(1)
	}
	return err == nil && !alive, err
}

// aliveNow asks the kernel table whether it holds the tuple, as something that
// is replicated.
func (r *reader) aliveNow(k *conntrack.Key) (bool, error) {
	r.settled.Add(1)
	found, err := r.table.Get(k, &r.got)
	return err == nil && found && r.policy.Match(&r.got) == conntrack.Replicate, err
}

// seed hands flows of a dump to the sink, except those that died since they
// were read.
func (r *reader) seed(flows []conntrack.Flow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drainLocked()
	r.sink.Begin()
	for i := range flows {
		if r.isEnded(flows[i].Key()) {
			continue
		}
		r.sink.Seed(&flows[i])
		r.seeded.Add(1)
	}
	r.sink.End()
	r.sink.Flush()
	r.ended[0], r.ended[1] = r.ended[1], r.ended[0]
	clear(r.ended[0])
}

// setAuditing begins or ends the time in which deaths are remembered for seed.
func (r *reader) setAuditing(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auditing = on
	clear(r.ended[0])
	clear(r.ended[1])
}

// count gives the kernel table's entries and limit.
func (r *reader) count() (n, max uint32, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Count()
}

func (r *reader) isEnded(k conntrack.Key) bool {
	if _, ok := r.ended[0][k]; ok {
		return true
	}
	_, ok := r.ended[1][k]
	return ok
}

// absentSlice is how many questions to the kernel table, of some 3 us each, are
// asked while packets and deaths wait to be read.
const absentSlice = 128

// absent settles own flows that a dump did not show: those which a GET does
// not find either are dead, though nobody said so. It overwrites keys.
func (r *reader) absent(keys []conntrack.Key) error {
	for len(keys) > 0 {
		n := min(absentSlice, len(keys))
		if err := r.settleAbsent(keys[:n]); err != nil {
			return fmt.Errorf("audit own flow: %w", err)
		}
		keys = keys[n:]
	}
	return nil
}

// settleAbsent asks before it holds up the sink: nothing is told meanwhile.
func (r *reader) settleAbsent(keys []conntrack.Key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drainLocked()
	dead := keys[:0]
	for i := range keys {
		alive, err := r.aliveNow(&keys[i])
		if err != nil {
			return err
		}
		if !alive {
			dead = append(dead, keys[i])
		}
	}
	if len(dead) == 0 {
		return nil
	}
	r.missed.Add(uint64(len(dead)))
	r.sink.Begin()
	for i := range dead {
		k := &dead[i]
		r.sink.Died(&conntrack.Death{Flow: conntrack.Flow{Orig: k.Tuple, Zone: k.Zone, Family: k.Family, Proto: k.Proto}})
	}
	r.sink.End()
	r.sink.Flush()
	return nil
}

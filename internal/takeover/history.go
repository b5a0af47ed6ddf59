// SPDX-License-Identifier: Apache-2.0

package takeover

// Yield is the timeline of one loss of the role; times as in Record.
type Yield struct {
	Cause        string
	Decided      int64 // the adverts have stopped
	Released     int64 // the RELEASE is out
	AddressesOut int64
}

// testify adds what was known when a takeover was decided. It is asked for
// beside the takeover, which does not wait for it.
func (r *Runner) testify(decided int64) {
	if r.cfg.Evidence == nil {
		return
	}
	found := r.cfg.Evidence()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.records {
		if r.records[i].Decided == decided {
			r.records[i].Evidence = found
		}
	}
}

// observeYield keeps the timeline of leaving the role. was: this node was Active
// before ev. The lock is held.
func (r *Runner) observeYield(was bool, ev Event, now int64) {
	m := r.machine
	if was && !m.Active() {
		r.yields = append(r.yields, Yield{Cause: ev.Cause, Decided: now})
		if len(r.yields) > history {
			r.yields = r.yields[1:]
		}
	}
	if len(r.yields) == 0 || m.Active() {
		return
	}
	y := &r.yields[len(r.yields)-1]
	if y.Released == 0 && m.released {
		y.Released = now
	}
	if y.AddressesOut == 0 && m.stage == stageBackup {
		y.AddressesOut = now
	}
}

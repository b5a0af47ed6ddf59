// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/mutant"
	"github.com/tandem-ha/tandem/loader"
)

// seeding tells the replication when the kernel table that existed at start
// was read: until then peers keep what they have of a former life of this node.
type seeding struct {
	capture *loader.Capture
	replica *replica
}

func (s seeding) String() string { return "seeding" }

func (s seeding) Run(ctx context.Context) error {
	select {
	case <-s.capture.Ready():
		s.replica.locked(func(now int64) { s.replica.node.Seeded(now) })
	case <-ctx.Done():
	}
	return nil
}

// sink takes what the capture drained. Begin and End bracket a batch, so that
// a batch costs one lock.
type sink struct{ *replica }

func (s sink) Begin() { s.node.Lock() }

func (s sink) End() { s.node.Unlock() }

func (s sink) Flush() { s.node.Flush() }

// Unsettled: an eighth of what is kept, and a batch at least.
func (s sink) Unsettled() bool {
	s.node.Lock()
	defer s.node.Unlock()
	backlog, _ := s.node.Backlog(s.now())
	kept := s.node.OwnLen()
	for _, p := range s.node.Peers() {
		backlog += p.View().Uncommitted()
		kept += p.View().Len()
	}
	return backlog > max(4096, kept/8)
}

func (s sink) Told(f *conntrack.Flow, at int64) { s.node.Tell(f, at) }

func (s sink) Gone(f *conntrack.Flow, at int64) { s.node.Gone(f, at) }

// Seed leaves out the router's own flows, the sync link's among them: packets
// never tell of those, but a dump shows them.
func (s sink) Seed(f *conntrack.Flow) {
	if !s.ours(f) {
		s.node.Seed(f, s.now())
	}
}

// sourceShift parts a position of OwnKeys: which view, 0 for own flows, and
// where in it.
const sourceShift = 28

// OwnKeys lets the audit find own flows that died in silence, and at a Backup
// flows of views that the kernel table lost in silence: else they would be
// missing at the takeover.
func (s sink) OwnKeys(from uint32, max int, fn func(k *conntrack.Key)) uint32 {
	s.node.Lock()
	defer s.node.Unlock()
	source, pos, peers := from>>sourceShift, from&(1<<sourceShift-1), s.node.Peers()
	if source == 0 {
		pos = s.node.OwnKeys(pos, max, fn)
	} else {
		pos = peers[source-1].View().KernelKeys(pos, max, fn)
	}
	switch {
	case pos != 0:
		return source<<sourceShift | pos
	case s.active || int(source) == min(len(peers), 1<<(32-sourceShift)-1):
		return 0
	}
	return (source + 1) << sourceShift
}

// Died ends an own flow. At a Backup an entry that a view still holds is
// committed again; at the Active its death is the truth.
func (s sink) Died(d *conntrack.Death) {
	s.node.Died(d, s.now())
	if s.active || mutant.NoRefresh {
		return
	}
	k := d.Flow.Key()
	for _, p := range s.node.Peers() {
		p.View().Lost(&k)
	}
}

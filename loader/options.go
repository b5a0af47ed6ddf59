// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"log/slog"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// Options says what Capture takes and where it gives it.
type Options struct {
	Policy    conntrack.Policy
	Mode      string   // auto, tc, tracing, netlink; "" is auto
	Interface []string // names or patterns as of path.Match; empty or "*": all
	Exclude   []string // likewise
	SyncLinks []string // never captured
	Sink      Sink
	Log       *slog.Logger

	// OwnPortIDs are the netlink ports of Tables through which this node
	// deletes: deaths caused by them are not shown.
	OwnPortIDs []uint32

	Refresh    time.Duration // the same is told again after; default 60 s
	AuditSoon  time.Duration // pause after the first audit, then doubled; default 5 s
	AuditEvery time.Duration // longest pause, default 5 min
	AuditRate  int           // entries/s that an audit reads; default 50,000: a tenth of a processor
}

// Sink takes what Capture finds. Calls between Begin and End are one batch;
// they come from one goroutine at a time. Flows are reused after the call.
type Sink interface {
	Begin()
	End()
	// Told: a packet showed the flow's content; at is CLOCK_MONOTONIC, ns.
	Told(f *conntrack.Flow, at int64)
	// Gone: a packet took it to TIME_WAIT or CLOSE.
	Gone(f *conntrack.Flow, at int64)
	// Seed: the kernel table holds it (dump at start, audit). Never
	// overwrites what was told.
	Seed(f *conntrack.Flow)
	// Died: the entry is no more, and no younger one of its tuple was told.
	Died(d *conntrack.Death)

	// Flush: nothing more is told before the next window, so what was told may
	// go on its way. It is called outside of a batch.
	Flush()

	// OwnKeys calls fn for about max own flows from position from on (first
	// 0) and gives the next position, 0 after the last. Audits find by it the
	// flows whose death nobody reported. It is called outside of a batch.
	OwnKeys(from uint32, max int, fn func(k *conntrack.Key)) (next uint32)

	// Unsettled says that much is on its way to a peer or into the kernel table:
	// an audit should wait. It is called outside of a batch.
	Unsettled() bool
}

func (o Options) withDefaults() Options {
	if o.Mode == "" {
		o.Mode = "auto"
	}
	if len(o.Interface) == 0 {
		o.Interface = []string{"*"}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Refresh <= 0 {
		o.Refresh = time.Minute
	}
	if o.AuditSoon <= 0 {
		o.AuditSoon = 5 * time.Second
	}
	if o.AuditEvery <= 0 {
		o.AuditEvery = 5 * time.Minute
	}
	if o.AuditRate <= 0 {
		o.AuditRate = 50_000
	}
	return o
}

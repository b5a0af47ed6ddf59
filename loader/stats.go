// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"sync/atomic"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/maps"
)

type counter = atomic.Uint64

// Stats counts since Open. A packet that passes two captured interfaces (a
// VLAN and its bond) counts twice in Packets, and is told once.
type Stats struct {
	Packets    Packets  `json:"packets"`
	Interfaces []string `json:"interfaces"` // that are captured
	Restored   uint64   `json:"restored"`   // times that a removed program was attached again

	Told      uint64 `json:"told"`      // given to the sink, what happened within one batch merged
	Gone      uint64 `json:"gone"`      // likewise
	Malformed uint64 `json:"malformed"` // records that no program of ours writes

	Deaths     uint64 `json:"deaths"`      // events
	Settled    uint64 `json:"settled"`     // questions to the kernel table whether a flow lives
	Raced      uint64 `json:"raced"`       // deaths of an older life of a living flow
	LostDeaths uint64 `json:"lost_deaths"` // times that the death socket overflowed

	Audits uint64 `json:"audits"` // walks of the whole kernel table, the one at start included
	Seeded uint64 `json:"seeded"` // flows that they showed
	Missed uint64 `json:"missed"` // own flows that they found dead
}

// Packets counts packets at the captured interfaces by what became of them.
type Packets struct {
	Own         uint64 `json:"own"`         // of a socket of this host
	Untracked   uint64 `json:"untracked"`   // without an entry
	Unconfirmed uint64 `json:"unconfirmed"` // entry not, or no longer, in the kernel table
	Protocol    uint64 `json:"protocol"`    // not a replicated protocol
	Matched     uint64 `json:"matched"`     // nothing new
	Young       uint64 `json:"young"`       // below the age of replicate-when
	Ignored     uint64 `json:"ignored"`     // to or from an ignored address
	Told        uint64 `json:"told"`        // put into the ring
	Full        uint64 `json:"full"`        // lost, the ring was full; the next packet tries again
	Refreshed   uint64 `json:"refreshed"`   // of Told: nothing new, but told long ago
	Crowded     uint64 `json:"crowded"`     // of Young and Ignored: found no cell
}

func (c *Capture) packets() (bpf.FlowCounters, error) {
	return maps.Counters[bpf.FlowCounters](c.coll.Maps["tandem_packets"])
}

// Stats may be called while Run does, not after Close.
func (c *Capture) Stats() Stats {
	p, _ := c.packets() // fails after Close only
	r := c.reader
	c.ports.mu.Lock()
	restored := c.ports.restored
	c.ports.mu.Unlock()
	return Stats{
		Packets: Packets{
			Own: p.Own, Untracked: p.Untracked, Unconfirmed: p.Unconfirmed, Protocol: p.Protocol,
			Matched: p.Matched, Young: p.Young, Ignored: p.Ignored, Told: p.Told, Full: p.Full,
			Refreshed: p.Refreshed, Crowded: p.Crowded,
		},
		Interfaces: c.ports.names(), Restored: restored,
		Told: r.told.Load(), Gone: r.gone.Load(), Malformed: r.malformed.Load(),
		Deaths: r.deaths.Load(), Settled: r.settled.Load(), Raced: r.raced.Load(),
		LostDeaths: c.lostDeaths.Load(),
		Audits:     c.audit.runs.Load(), Seeded: r.seeded.Load(), Missed: r.missed.Load(),
	}
}

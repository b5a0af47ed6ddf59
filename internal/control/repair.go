// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/http"
)

// Repairer is what the daemon does about copies that differ.
type Repairer interface {
	// Resync sends everything to a peer again ("": to each) and asks it for the
	// same. It names the peers that were asked.
	Resync(peer string) ([]string, error)
	// FlowDiff compares own flows and views with the kernel table, and own
	// flows with the peers' copies of them. It takes seconds.
	FlowDiff(ctx context.Context) (FlowDiff, error)
}

// SyncRepair counts how copies are compared and healed, in ranges of slots.
type SyncRepair struct {
	Compared     uint64 `json:"compared"`         // of the peer's flows with the copy here
	Differing    uint64 `json:"differing"`        // found to differ
	Healed       uint64 `json:"healed"`           // of them found to be well again
	Incomparable uint64 `json:"incomparable"`     // flows in them were refused here
	Asked        uint64 `json:"asked"`            // asked of the peer again
	Given        uint64 `json:"given"`            // sent to the peer again because it asked
	Refused      uint64 `json:"refused"`          // not sent: it asked too often
	All          uint64 `json:"everything_again"` // times that everything was sent again
}

// FlowDiff is the answer to `tandem flow diff`.
type FlowDiff struct {
	Kernel      int              `json:"kernel_entries"` // that were looked at
	Copies      int              `json:"copies"`         // own flows and views' flows that were looked at
	TookMS      float64          `json:"took_ms"`
	Differences []FlowDifference `json:"differences"`
	More        int              `json:"more"` // further flows that differed and were not looked at again
	Peers       []PeerDiff       `json:"peers"`
}

// Empty says whether nothing differs. A peer that could not be asked leaves
// that open: then it says no.
func (d *FlowDiff) Empty() bool {
	for i := range d.Peers {
		if d.Peers[i].Differing > 0 || d.Peers[i].Why != "" {
			return false
		}
	}
	return len(d.Differences) == 0 && d.More == 0
}

// FlowDifference is one flow that two places have otherwise.
type FlowDifference struct {
	Flow Flow     `json:"flow"` // Source and Peer say which copy is meant
	What []string `json:"what"` // each a phrase: "missing in the kernel table", "missing, the kernel table has it", "mark 7, in the kernel table 0"
}

// PeerDiff is what a peer said of its copy of our own flows, in ranges of slots.
type PeerDiff struct {
	Peer       string      `json:"peer"`
	Why        string      `json:"why,omitempty"` // it was not asked, or did not answer: a sentence
	Ranges     int         `json:"ranges"`
	Same       int         `json:"same"`
	Differing  int         `json:"differing"`
	Refused    int         `json:"refused"`    // the peer does not take flows in them: not comparable
	Busy       int         `json:"busy"`       // changed all the time
	Unanswered int         `json:"unanswered"` // no answer
	Flows      int         `json:"flows"`      // own flows that were compared
	Where      []RangeDiff `json:"where"`      // the first that differ
}

// RangeDiff is a range of slots that the peer has otherwise.
type RangeDiff struct {
	Family string `json:"family"`
	First  uint32 `json:"first"`
	Last   uint32 `json:"last"`
	Here   int    `json:"flows_here"`
	There  int    `json:"flows_there"`
}

const (
	pathResync = "/v1/sync/resync"
	pathDiff   = "/v1/flows/diff"
)

// repairs adds what a Repairer answers.
func (s *Server) repairs(mux *http.ServeMux) {
	mux.Handle("POST "+pathResync, change(s, func(_ context.Context, peer string) ([]string, error) { return s.backend.Resync(peer) }))
	mux.HandleFunc("GET "+pathDiff, func(w http.ResponseWriter, r *http.Request) {
		d, err := s.backend.FlowDiff(r.Context())
		if err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
		s.reply(w, d)
	})
}

// Resync has everything exchanged with a peer again; "" means each.
func (c *Client) Resync(ctx context.Context, peer string) (asked []string, err error) {
	return asked, c.post(ctx, pathResync, peer, &asked)
}

// FlowDiff compares; it takes seconds.
func (c *Client) FlowDiff(ctx context.Context) (d FlowDiff, err error) {
	return d, c.get(ctx, pathDiff, nil, &d)
}

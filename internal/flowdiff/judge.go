// SPDX-License-Identifier: Apache-2.0

package flowdiff

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// Held is what this node holds under one name.
type Held struct {
	Own      conntrack.Flow
	HasOwn   bool
	OwnWaits bool // its kernel entry died, and whether that counts is not known yet
	Views    []ViewFlow
}

// ViewFlow is a flow of a peer's view.
type ViewFlow struct {
	Peer   string
	Flow   conntrack.Flow
	Age    time.Duration // since its record came
	Former bool          // of a session before this one
}

// Rules say which differences are none.
type Rules struct {
	Policy  conntrack.Policy
	Passes  func(f *conntrack.Flow) bool // not to or from this router itself
	Written bool                         // views are written into the kernel table (commit = "continuous", or Active)
	After   time.Duration                // from this age on, with some time to do it
}

// Copies of flows that a Difference is about.
const (
	Own  = "own"
	View = "view"
)

// Difference is one flow that a copy and the kernel table have otherwise.
type Difference struct {
	Flow conntrack.Flow // the kernel table's, if it has it
	Copy string         // Own or View
	Peer string         // with View
	// What says it: that the kernel table lacks it, or the copy, or each field
	// that differs, the copy's first.
	What []string
}

const (
	missingKernel = "missing in the kernel table"
	missingOwn    = "missing, the kernel table has it"
)

// judge compares what is held of one name with the kernel table's entry, nil
// for none.
func (r *Rules) judge(kernel *conntrack.Flow, h *Held) (out []Difference) {
	if kernel == nil {
		return r.absent(h)
	}
	if h.HasOwn {
		if what := differ(&h.Own, kernel); len(what) > 0 {
			out = append(out, Difference{Flow: *kernel, Copy: Own, What: what})
		}
		return out // views give way to own flows
	}
	if len(h.Views) == 0 {
		if r.Passes(kernel) && r.Policy.Match(kernel) == conntrack.Replicate {
			out = append(out, Difference{Flow: *kernel, Copy: Own, What: []string{missingOwn}})
		}
		return out
	}
	for i := range h.Views {
		v := &h.Views[i]
		if what := differ(&v.Flow, kernel); len(what) > 0 && r.written(v) {
			out = append(out, Difference{Flow: *kernel, Copy: View, Peer: v.Peer, What: what})
		}
	}
	return out
}

// absent is judge for a name that the kernel table does not have.
func (r *Rules) absent(h *Held) (out []Difference) {
	if h.HasOwn {
		if !h.OwnWaits {
			out = append(out, Difference{Flow: h.Own, Copy: Own, What: []string{missingKernel}})
		}
		return out
	}
	for i := range h.Views {
		if v := &h.Views[i]; r.written(v) {
			out = append(out, Difference{Flow: v.Flow, Copy: View, Peer: v.Peer, What: []string{missingKernel}})
		}
	}
	return out
}

// written says whether a flow of a view must be in the kernel table by now.
func (r *Rules) written(v *ViewFlow) bool {
	return r.Written && !v.Former && v.Age > r.After && r.Policy.Match(&v.Flow) == conntrack.Replicate
}

// differ compares what two nodes must have alike, and what a commit writes:
// not timeouts, and not the way of a TCP connection to its end, which its next
// packet sets right.
func differ(f, kernel *conntrack.Flow) (what []string) {
	say := func(name string, a, b any) {
		if a != b {
			what = append(what, fmt.Sprintf("%s %v, in the kernel table %v", name, a, b))
		}
	}
	say("reply", tuple(f), tuple(kernel))
	say("mark", f.Mark, kernel.Mark)
	say("zone", f.Zone, kernel.Zone)
	for _, s := range [...]struct {
		name string
		bit  conntrack.Status
	}{{"replied", conntrack.SeenReply}, {"assured", conntrack.Assured}, {"snat", conntrack.SrcNAT}, {"dnat", conntrack.DstNAT}} {
		say(s.name, f.Status&s.bit != 0, kernel.Status&s.bit != 0)
	}
	if f.Proto == unix.IPPROTO_TCP {
		say("state", phase(f.TCP.State), phase(kernel.TCP.State))
	}
	return what
}

func tuple(f *conntrack.Flow) string {
	return fmt.Sprintf("%s:%d > %s:%d", f.Reply.Src.IP(f.Family), f.Reply.SrcPort, f.Reply.Dst.IP(f.Family), f.Reply.DstPort)
}

func phase(s conntrack.TCPState) string {
	switch s {
	case conntrack.TCPSynSent, conntrack.TCPSynRecv, conntrack.TCPSynSent2:
		return "opening"
	case conntrack.TCPEstablished, conntrack.TCPFinWait, conntrack.TCPCloseWait, conntrack.TCPLastAck:
		return "open"
	case conntrack.TCPTimeWait, conntrack.TCPClose:
		return "over"
	}
	return "none"
}

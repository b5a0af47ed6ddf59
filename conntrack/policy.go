// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// When is the age from which a flow is replicated.
type When uint8

// Ages, youngest first.
const (
	WhenNew     When = iota // from its first packet
	WhenReplied             // from SEEN_REPLY
	WhenAssured             // from ASSURED
)

// Policy says which flows are replicated. It has two executors: Match here
// (dump, deaths, audit, the receiver) and bpf/flow.bpf.c through loader's
// settings. policytest/testdata/policy.txt is run through both.
type Policy struct {
	Protocols [256]bool      // by IP protocol number
	Ignore    []netip.Prefix // a flow with any of its four addresses in one is not replicated
	TCP       When
	Other     When
}

// DefaultPolicy replicates every protocol: TCP once ASSURED, the rest once
// replied.
func DefaultPolicy() Policy {
	p := Policy{TCP: WhenAssured, Other: WhenReplied}
	for i := range p.Protocols {
		p.Protocols[i] = true
	}
	return p
}

// Verdict is what a policy says of a flow.
type Verdict uint8

// Verdicts.
const (
	Ignore    Verdict = iota // not replicated
	Replicate                // replicated as it is
	Gone                     // TIME_WAIT or CLOSE: a deletion for the peer
)

// Match is the policy's executor in Go. The age comes before Gone: a flow that
// never was old enough was never replicated, and SEEN_REPLY and ASSURED do not
// go back, so that a refused connection is nobody's deletion.
func (p *Policy) Match(f *Flow) Verdict {
	if !p.Protocols[f.Proto] || f.Status&(Template|Dying) != 0 || !p.ofAge(f) || p.ignored(f) {
		return Ignore
	}
	if f.Proto == unix.IPPROTO_TCP && (f.TCP.State == TCPTimeWait || f.TCP.State == TCPClose) {
		return Gone
	}
	return Replicate
}

func (p *Policy) ofAge(f *Flow) bool {
	when := p.Other
	if f.Proto == unix.IPPROTO_TCP {
		when = p.TCP
	}
	switch when {
	case WhenReplied:
		return f.Status&SeenReply != 0
	case WhenAssured:
		return f.Status&Assured != 0
	}
	return true
}

func (p *Policy) ignored(f *Flow) bool {
	for _, prefix := range p.Ignore {
		for _, a := range [...]Addr{f.Orig.Src, f.Orig.Dst, f.Reply.Src, f.Reply.Dst} {
			if prefix.Contains(a.IP(f.Family)) {
				return true
			}
		}
	}
	return false
}

// SPDX-License-Identifier: Apache-2.0

package conntrack

import "golang.org/x/sys/unix"

// What of a flow has to be written to make an entry that works, as against
// what a dump shows. Used by the encoder only.

// plainInverse is the reply tuple before any translation. The ICMP type of
// the answer is taken from the reply, where NAT does not touch it.
func (f *Flow) plainInverse() Tuple {
	t := Tuple{Src: f.Orig.Dst, Dst: f.Orig.Src}
	if f.isICMP() {
		t.SrcPort, t.DstPort = f.Orig.SrcPort, f.Reply.DstPort
		return t
	}
	t.SrcPort, t.DstPort = f.Orig.DstPort, f.Orig.SrcPort
	return t
}

// createStatus is the status to create with. CONFIRMED must be there (EBUSY
// without). GRE has no timeouts in an entry made by ctnetlink, and the first
// packet would end it at once unless its timeout is fixed.
func (f *Flow) createStatus() Status {
	s := f.Status&statusRestored | Confirmed
	if f.Proto == unix.IPPROTO_GRE {
		s |= FixedTimeout
	}
	return s
}

// hasNATPort says whether a translation names a port or an ICMP id.
func (f *Flow) hasNATPort() bool { return f.isICMP() || f.hasPorts() }

func (f *Flow) snatPort() uint16 {
	if f.isICMP() {
		return f.Reply.SrcPort
	}
	return f.Reply.DstPort
}

// dnatPort: the kernel translates the destination first; the ICMP id is the
// source's and still the original one then.
func (f *Flow) dnatPort() uint16 {
	if f.isICMP() {
		return f.Orig.SrcPort
	}
	return f.Reply.SrcPort
}

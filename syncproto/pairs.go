// SPDX-License-Identifier: Apache-2.0

package syncproto

// Pair gives the two sessions that the peer's data must name, its own and ours;
// ok is false while there is none. There is one pair at a time: a peer sends
// data in it only after we said that we hold it, and none of an older one
// counts from then on.
func (p *Peer) Pair() (theirs, mine Session, ok bool) {
	s := &p.session
	return s.their, s.my, s.paired
}

// Spare gives the value that a hello of the peer may name to begin a new pair;
// ok is false while none was said.
func (p *Peer) Spare() (spare Session, ok bool) {
	return p.session.spare, p.session.hasSpare
}

// Received gives what was received of the pair: the highest sequence, and a bit
// for it and for each of those up to the window's size below, at their number
// modulo that. What has its bit, or is older, is refused. The bits are valid
// until the next Receive.
func (p *Peer) Received() (highest uint64, bits *[window / 64]uint64) {
	return p.in.highest, &p.in.bits
}

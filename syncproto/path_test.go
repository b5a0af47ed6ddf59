// SPDX-License-Identifier: Apache-2.0

package syncproto

// Fill and Receive are those of the only path: most tests need no other.
func (p *Peer) Fill(buf []byte, now int64) int { return p.only(now).Fill(buf, now) }

func (p *Peer) Receive(payload []byte, now int64) error { return p.only(now).Receive(payload, now) }

func (p *Peer) only(now int64) *Path {
	if len(p.paths) == 0 {
		p.AddPath(0, now)
	}
	return p.paths[0]
}

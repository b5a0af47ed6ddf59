// SPDX-License-Identifier: Apache-2.0

package syncproto

// damage is a bit of the mark that no telling uses: a flow that has it was
// damaged in the memory of a view, and the oracle knows it all the same.
const damage = 1 << 31

// damageMark damages the mark of an entry in the middle of everything.
func (h *host) damageMark(nth int) {
	if b := h.entry(nth); b != nil {
		h.w.tally.Damaged++
		b.mark |= damage // not back: the kernel table may have it by now
	}
}

// damageAny flips a bit in any field that names or describes a flow. What is
// done with such a flow before it heals breaks more than one invariant, so it
// is for a world at rest.
func (h *host) damageAny() {
	w, v := h.w, h.peer.View()
	b := h.entry(w.noise.IntN(1000))
	if b == nil {
		return
	}
	w.tally.Flipped++
	k, i := b.link&1, uint32(*v.word(b.link)>>slotSeqBits)-1
	flip := func(p *byte) { *p ^= 1 << w.noise.IntN(8) }
	var orig, reply *tuple4
	if kind(k) == kind4 {
		e := &v.tabs[k].c4[i>>chunkBits][i&chunkMask]
		orig, reply = &e.orig, &e.reply
	}
	switch n := w.noise.IntN(10); {
	case n == 0:
		b.status ^= 1 << w.noise.IntN(14)
	case n == 1:
		flip(&b.state)
	case n == 2:
		flip(&b.flags)
	case n == 3:
		flip(&b.scale)
	case n == 4:
		b.zone ^= 1 << w.noise.IntN(16)
	case n == 5:
		b.mark ^= 1 << w.noise.IntN(32)
	case orig == nil:
		flip(&v.tabs[k].c6[i>>chunkBits][i&chunkMask].orig.src[w.noise.IntN(16)])
	case n == 6:
		flip(&orig.src[w.noise.IntN(4)])
	case n == 7:
		orig.dstPort ^= 1 << w.noise.IntN(16)
	case n == 8:
		flip(&reply.dst[w.noise.IntN(4)])
	default:
		reply.srcPort ^= 1 << w.noise.IntN(16)
	}
}

// entry gives the nth entry of the view that a slot has.
func (h *host) entry(nth int) *body {
	var all []*body
	for k := range h.peer.view.tabs {
		t := &h.peer.view.tabs[k]
		for i := range t.size {
			if b := t.at(i); b.has(flagUsed) && !b.has(viewDead|viewFormer) {
				all = append(all, b)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[nth%len(all)]
}

// troubled says whether a range differs and was not asked for lately.
func (w *world) troubled() bool {
	for _, h := range w.hosts {
		for _, tr := range h.peer.repair.trouble {
			if !tr.well {
				return true
			}
		}
	}
	return false
}

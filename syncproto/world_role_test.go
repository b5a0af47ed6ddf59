// SPDX-License-Identifier: Apache-2.0

package syncproto

func (h *host) release() {
	h.node.Release(h.w.now)
	h.released, h.dropping = true, false
	for _, in := range h.alive {
		in.owner = false
	}
	for _, in := range h.w.byMark {
		if in.hadSlot && in.host == h.id && *h.peer.out.word(in.slot)&slotTold != 0 {
			in.late = true
		}
		if in.host == h.id && in.ended && (h.other().remembers(in) || h.reused(in) && h.other().holds(in)) {
			in.unsure = true // only the sweep, or the end of what is in its slot, will end it, and then nobody owned it
		}
	}
}

// dropReleased ends ghosts; no peer owns a flow of ours, so nothing else goes.
func (h *host) dropReleased() {
	h.node.DropReleased(h.w.now)
	h.dropping = true
}

// reap ends the ghosts that the slices of DropReleased have come by.
func (h *host) reap() {
	for _, in := range h.alive {
		k := in.flow.Key()
		if _, ok := h.node.own.tabs[kindOf(k.Family)].findOrig(&k); !ok && in.ghost {
			h.end(in, false)
		}
	}
}

// reused says whether another flow has the slot that an instance ended in.
func (h *host) reused(in *instance) bool {
	return in.hadSlot && in.slot>>1 < h.node.own.tabs[in.slot&1].size && h.node.own.body(in.slot).has(flagUsed)
}

// holds says whether a host has a flow of the other, in whatever life.
func (h *host) holds(in *instance) bool {
	k := in.flow.Key()
	_, ok := h.peer.View().find(&k)
	return ok
}

// remembers says whether a host has a flow of the other from a session that is
// not the other's.
func (h *host) remembers(in *instance) bool {
	k, v := in.flow.Key(), h.peer.View()
	i, ok := v.find(&k)
	return ok && (v.table(k.Family).at(i).has(viewFormer) || h.peer.session.their != h.other().peer.session.my)
}

// promote makes a host Active: what it was about to delete it keeps.
func (h *host) promote() {
	h.active = true
	h.node.SetActive(true)
	h.w.tally.Promoted++
	for _, in := range h.w.byMark {
		if in.host != h.id && in.ended {
			in.unsure = true
		}
	}
}

// demote takes the role away. Its flows are released, and what it may not have
// written is written anew.
func (h *host) demote() {
	if !h.active {
		return
	}
	h.active = false
	h.release()
	h.node.SetActive(false)
	h.peer.View().Forget()
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import "math/bits"

// bitmap is a set of small numbers that knows how many there are.
type bitmap struct {
	words []uint64
	n     int
}

func (m *bitmap) set(i uint32) {
	w := int(i >> 6)
	for len(m.words) <= w {
		m.words = append(m.words, 0)
	}
	if m.words[w]>>(i&63)&1 == 0 {
		m.words[w] |= 1 << (i & 63)
		m.n++
	}
}

func (m *bitmap) clear(i uint32) {
	w := int(i >> 6)
	if w < len(m.words) && m.words[w]>>(i&63)&1 != 0 {
		m.words[w] &^= 1 << (i & 63)
		m.n--
	}
}

func (m *bitmap) has(i uint32) bool {
	w := int(i >> 6)
	return w < len(m.words) && m.words[w]>>(i&63)&1 != 0
}

// next gives the first member that is not below i, nobody when there is none.
func (m *bitmap) next(i uint32) uint32 {
	w := int(i >> 6)
	if w >= len(m.words) {
		return nobody
	}
	if word := m.words[w] >> (i & 63); word != 0 {
		return i + uint32(bits.TrailingZeros64(word))
	}
	for w++; w < len(m.words); w++ {
		if m.words[w] != 0 {
			return uint32(w<<6 + bits.TrailingZeros64(m.words[w]))
		}
	}
	return nobody
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// frame is a datagram to the sync port in the name of the router that is tapped.
func (w *tapped) frame(payload []byte, src netip.Addr, ttl byte) []byte {
	udp := binary.BigEndian.AppendUint16([]byte{0x0e, 0xc5}, 3781)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(payload)))
	udp = append(append(udp, 0, 0), payload...) // no checksum (RFC 768)
	return ipFrame([6]byte(w.to.MAC(2)), [6]byte(w.from.MAC(2)), src, w.to.Addr(2).Addr(), unix.IPPROTO_UDP, ttl, udp)
}

// hostile are frames to a router in its peer's name: of each kind that an
// attacker can make who hears all and has no key. back is what the router itself
// sent.
func (w *tapped) hostile(back *tapped) (frames [][]byte) {
	peer := w.from.Addr(2).Addr()
	add := func(b []byte) { frames = append(frames, w.frame(b, peer, 255)) }
	some := func(t *tapped) []byte { return append([]byte(nil), t.seen[w.rng.IntN(len(t.seen))]...) }
	last := w.last()
	with := func(kind byte, sender, receiver []byte) []byte { // junk under a good header
		b := append(append([]byte(nil), last[:dgRecords]...), w.random(200)...)
		b[dgType] = kind
		copy(b[dgSender:], sender)
		copy(b[dgReceiver:], receiver)
		binary.BigEndian.PutUint64(b[dgSequence:], binary.BigEndian.Uint64(last[dgSequence:])+100_000+uint64(w.rng.IntN(1<<20)))
		return b
	}
	none := make([]byte, 16)
	for range 200 {
		add(w.random(1 + w.rng.IntN(200)))                                  // garbage
		add(with(2, w.random(16), w.random(16)))                            // forged data
		add(with(1, w.random(16), none))                                    // forged hellos: of a node that starts,
		add(with(1, w.random(16), last[dgReceiver:dgRecords]))              // and of one that left the pair
		add(with(2, last[dgSender:dgReceiver], last[dgReceiver:dgRecords])) // data of the pair, in its future
		add(with(3, w.random(16), w.random(16)))                            // calls
		add(some(w))                                                        // replayed
		for _, b := range w.seen[:4] {                                      // old hellos
			add(b)
		}
		add(some(back)) // reflected
		add(back.hello())
		flipped := some(w)
		flipped[w.rng.IntN(len(flipped))] ^= 1 << w.rng.IntN(8)
		add(flipped)
		plain := some(w)
		plain[dgSeal], plain[dgTrailer] = 0, 4
		add(plain)
		stolen := some(w)
		stolen[dgKeyID]++
		add(stolen)
		frames = append(frames, w.frame(some(w), peer, 254),
			w.frame(w.seen[0], netip.MustParseAddr("192.168.255.77"), 255), fragmented(w.frame(some(w), peer, 255)))
	}
	w.rng.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
	return frames
}

// hello is the last one that was said.
func (w *tapped) hello() []byte {
	for i := len(w.seen) - 1; i > 0; i-- {
		if w.seen[i][dgType] == 1 {
			return w.seen[i]
		}
	}
	return w.seen[0]
}

// fragmented says that more of the datagram follows.
func fragmented(frame []byte) []byte {
	frame[20] = 0x20
	binary.BigEndian.PutUint16(frame[24:], 0)
	binary.BigEndian.PutUint16(frame[24:], checksum(frame[14:34]))
	return frame
}

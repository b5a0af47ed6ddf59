// SPDX-License-Identifier: Apache-2.0

package link

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// A stamp is one byte of the header, made with the key: SipHash-2-4 (Aumasson
// and Bernstein, 2012) of the header with 0 in its place, keyed by 128 bits of
// the secret. It proves nothing, the seal does. But the gate before the stack
// can check it, and this room before it tries a seal: of what was made without
// the key one in 256 gets further.
type stampKey [16]byte

const stampInfo = "tandem sync link, stamp"

func newStampKey(s *Secret) (k stampKey, err error) {
	b, err := hkdf.Key(sha256.New, s[:], nil, stampInfo, len(k))
	copy(k[:], b)
	return k, err
}

// of gives the stamp of a header, whatever stands in its place.
func (k *stampKey) of(header []byte) byte {
	var words [lenHeader / 8]uint64
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(header[8*i:])
	}
	words[0] &^= 0xff << (8 * offStamp)
	return byte(k.sipHash(words[:], lenHeader<<56))
}

// sipHash is SipHash-2-4 of whole words; last is what remains of the input, and
// its length in the highest byte.
func (k *stampKey) sipHash(words []uint64, last uint64) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(k[:]), binary.LittleEndian.Uint64(k[8:])
	a, b, c, d := k0^0x736f6d6570736575, k1^0x646f72616e646f6d, k0^0x6c7967656e657261, k1^0x7465646279746573
	for _, m := range words {
		a, b, c, d = sipRound(sipRound(a, b, c, d^m))
		a ^= m
	}
	a, b, c, d = sipRound(sipRound(a, b, c, d^last))
	a, b, c, d = sipRound(sipRound(a^last, b, c^0xff, d))
	a, b, c, d = sipRound(sipRound(a, b, c, d))
	return a ^ b ^ c ^ d
}

func sipRound(a, b, c, d uint64) (uint64, uint64, uint64, uint64) {
	a += b
	c += d
	b = bits.RotateLeft64(b, 13) ^ a
	d = bits.RotateLeft64(d, 16) ^ c
	a = bits.RotateLeft64(a, 32) + d
	c += b
	b = bits.RotateLeft64(b, 17) ^ c
	d = bits.RotateLeft64(d, 21) ^ a
	return a, b, bits.RotateLeft64(c, 32), d
}

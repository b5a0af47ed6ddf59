// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"fmt"
)

// Every payload can be foretold by both ends from the flow's number, the
// direction and the position, so that every byte is checked without being kept.

// word is the 8-byte word at an index of a stream (splitmix64).
func word(stream, index uint64) uint64 {
	z := stream*0x9E3779B97F4A7C15 + index*0xD1B54A32D192ED03 + 0x8CB92BA72F3D8DD7
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// fill writes what a stream has from an offset on; b and offset are multiples of 8.
func fill(b []byte, stream, offset uint64) {
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], word(stream, (offset+uint64(i))/8))
	}
}

// verify compares bytes with what a stream has at any offset.
func verify(b []byte, stream, offset uint64) error {
	for i := range b {
		at := offset + uint64(i)
		if want := byte(word(stream, at/8) >> (at % 8 * 8)); b[i] != want {
			return fmt.Errorf("byte %d of stream %x is %#x, want %#x", at, stream, b[i], want)
		}
	}
	return nil
}

// verifyFast is verify for whole words.
func verifyFast(b []byte, stream, offset uint64) error {
	if len(b)%8 != 0 || offset%8 != 0 {
		return verify(b, stream, offset)
	}
	for i := 0; i < len(b); i += 8 {
		if binary.LittleEndian.Uint64(b[i:]) != word(stream, (offset+uint64(i))/8) {
			return verify(b, stream, offset)
		}
	}
	return nil
}

// Directions, part of a stream's number.
const (
	toServer = 0
	toClient = 1
)

func stream(kind, id, dir int) uint64 {
	return uint64(kind)<<40 | uint64(id)<<1 | uint64(dir)
}

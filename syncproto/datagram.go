// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// The header of a datagram; all numbers are in network order.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+---------------+---------------+
//	|         magic  "tD"           |   version 1   |     type      |
//	+---------------+---------------+---------------+---------------+
//	|     seal      |    key id     |    trailer    |     stamp     |
//	+---------------+---------------+---------------+---------------+
//	|                        sequence (64 bits)                     |
//	+                                                               +
//	|                                                               |
//	+---------------------------------------------------------------+
//	|                  session of the sender (128 bits)             |
//	+---------------------------------------------------------------+
//	|                 session of the receiver (128 bits)            |
//	+---------------------------------------------------------------+
//	|                     records ... trailer                       |
const (
	magic         = 0x7444
	formatVersion = 1
	headerLen     = 48

	typeHello = 1
	typeData  = 2
	typeCall  = 3 // to everybody on the link: here is a node

	sealNone = 0 // the trailer is a CRC-32C: whole, but by anybody
	sealAEAD = 1 // reserved: the trailer is a tag of 16 bytes

	crcLen = 4
)

// Session is what one side of a (node, peer) drew at random.
type Session [16]byte

// String gives the first four bytes, enough to tell sessions apart in a log.
func (s Session) String() string { return fmt.Sprintf("%x", s[:4]) }

type header struct {
	kind             byte
	seq              uint64
	sender, receiver Session
}

// Refusals of Receive. Each has its counter in PeerStats.
var (
	errShort    = errors.New("receive datagram: too short or not of tandem")
	errVersion  = errors.New("receive datagram: version of the format not spoken here")
	errSealed   = errors.New("receive datagram: seal not spoken here")
	errChecksum = errors.New("receive datagram: checksum differs")
	errSession  = errors.New("receive datagram: of another session")
	errReplayed = errors.New("receive datagram: received before, or too old")
	errHello    = errors.New("receive datagram: malformed hello")
	errOurs     = errors.New("receive datagram: our own, sent back")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendHeader begins a datagram.
func appendHeader(b []byte, h *header) []byte {
	b = binary.BigEndian.AppendUint16(b, magic)
	b = append(b, formatVersion, h.kind, sealNone, 0, crcLen, 0)
	b = binary.BigEndian.AppendUint64(b, h.seq)
	b = append(b, h.sender[:]...)
	return append(b, h.receiver[:]...)
}

// closeDatagram ends it.
func closeDatagram(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseDatagram gives the header and the records of a datagram.
func parseDatagram(b []byte, h *header) ([]byte, error) {
	if len(b) < headerLen+crcLen || binary.BigEndian.Uint16(b) != magic {
		return nil, errShort
	}
	if b[2] != formatVersion {
		return nil, errVersion
	}
	if b[4] != sealNone || b[6] != crcLen {
		return nil, errSealed
	}
	body, sum := b[:len(b)-crcLen], b[len(b)-crcLen:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(sum) {
		return nil, errChecksum
	}
	h.kind = b[3]
	h.seq = binary.BigEndian.Uint64(b[8:])
	copy(h.sender[:], b[16:])
	copy(h.receiver[:], b[32:])
	if h.seq > maxSequence {
		return nil, errShort
	}
	return body[headerLen:], nil
}

// maxSequence is where a session must have been renewed: what a view's slot
// can hold. At 100,000 datagrams/s it lasts a month.
const maxSequence = 1<<38 - 1

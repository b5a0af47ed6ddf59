// SPDX-License-Identifier: Apache-2.0

package link

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A sealed datagram is syncproto's with three changes: the header says so, the
// records are encrypted, and the checksum has become a tag.
//
//	header (48 bytes, authenticated)  | records (encrypted) | tag (16 bytes)
//	  4 seal = 1, 5 key id, 6 trailer = 16, 7 stamp
//	  8 sequence                      -> the nonce, with four zero bytes before it
//	 16 sender's, 32 receiver's session -> the salt of the key
//
// The key of a datagram is HKDF-SHA256 (RFC 5869) of the shared secret with
// both sessions as salt, so that there is one for each direction of each
// session, and none outlives it. A sequence is never used twice under it:
// syncproto counts hellos and data together and never starts again, and its
// sessions are random.
const (
	offKind     = 3
	offSeal     = 4
	offKeyID    = 5
	offTrailer  = 6
	offStamp    = 7
	offSequence = 8
	offSender   = 16
	lenSessions = 32
	lenHeader   = 48

	sealNone = 0
	sealAEAD = 1 // AES-256-GCM
	kindCall = 3

	lenChecksum = 4
	lenTag      = 16
	// sealRoom is how much a datagram grows by being sealed.
	sealRoom = lenTag - lenChecksum
)

// sealInfo separates these keys from any other use of the secret.
const sealInfo = "tandem sync link, format 1, AES-256-GCM"

// Refusals of open.
var (
	errUnsealed = errors.New("open datagram: not sealed")
	errUnknown  = errors.New("open datagram: sealed with a key that is not ours")
	errForged   = errors.New("open datagram: the seal is broken")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Secret is a shared key of 256 bits.
type Secret [32]byte

// id is a byte that names a secret to whoever has it and says nothing of it.
func (s *Secret) id() (byte, error) {
	b, err := hkdf.Key(sha256.New, s[:], nil, "tandem sync link, key id", 1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// sealer seals with the first of its secrets and opens with any. One goroutine
// at a time may use it.
type sealer struct {
	from *[]Secret // see Link.sealer
	keys []sealKey
	// The keys of the sessions in use. Bounded: a datagram with made-up
	// sessions costs a derivation, and its key is kept only if it opens.
	seals, opens keyCache
	nonce        [12]byte
}

type sealKey struct {
	id     byte
	secret Secret
	stamp  stampKey
}

func newSealer(secrets []Secret) (*sealer, error) {
	s := &sealer{}
	for _, secret := range secrets {
		id, err := secret.id()
		if err != nil {
			return nil, fmt.Errorf("derive key id: %w", err)
		}
		for _, k := range s.keys {
			if k.id == id {
				return nil, errors.New("seal the sync link: two keys look alike in a datagram: draw another one")
			}
		}
		stamp, err := newStampKey(&secret)
		if err != nil {
			return nil, fmt.Errorf("derive stamp key: %w", err)
		}
		s.keys = append(s.keys, sealKey{id, secret, stamp})
	}
	if len(s.keys) == 0 {
		return nil, errors.New("seal the sync link: no key")
	}
	return s, nil
}

// seal seals b, a whole datagram of syncproto, in place; its capacity must
// have sealRoom more.
func (s *sealer) seal(b []byte) ([]byte, error) {
	k := &s.keys[0]
	b[offSeal], b[offKeyID], b[offTrailer] = sealAEAD, k.id, lenTag
	if b[offKind] == kindCall { // of no session: it gets one of its own
		if _, err := rand.Read(b[offSender : offSender+lenSessions]); err != nil {
			return nil, fmt.Errorf("seal datagram: %w", err)
		}
	}
	b[offStamp] = k.stamp.of(b)
	a, err := s.seals.get(k, b, true)
	if err != nil {
		return nil, fmt.Errorf("seal datagram: %w", err)
	}
	copy(s.nonce[4:], b[offSequence:offSender])
	records := b[lenHeader : len(b)-lenChecksum]
	sealed := a.Seal(records[:0], s.nonce[:], records, b[:lenHeader])
	return b[:lenHeader+len(sealed)], nil
}

// open opens b in place and gives it back as syncproto wants it.
func (s *sealer) open(b []byte) ([]byte, error) {
	if len(b) < lenHeader+lenTag || b[offSeal] != sealAEAD || b[offTrailer] != lenTag {
		return nil, errUnsealed
	}
	for i := range s.keys {
		if k := &s.keys[i]; k.id == b[offKeyID] {
			return s.openWith(k, b)
		}
	}
	return nil, errUnknown
}

func (s *sealer) openWith(k *sealKey, b []byte) ([]byte, error) {
	if b[offStamp] != k.stamp.of(b) {
		return nil, errForged
	}
	a, err := s.opens.get(k, b, false)
	if err != nil {
		return nil, fmt.Errorf("open datagram: %w", err)
	}
	copy(s.nonce[4:], b[offSequence:offSender])
	records, err := a.Open(b[lenHeader:lenHeader], s.nonce[:], b[lenHeader:], b[:lenHeader])
	if err != nil {
		return nil, errForged
	}
	if b[offKind] != kindCall {
		s.opens.keep(k, b, a)
	}
	b[offSeal], b[offKeyID], b[offTrailer], b[offStamp] = sealNone, 0, lenChecksum, 0
	b = b[:lenHeader+len(records)]
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// keyCache holds the AEADs of a few pairs of sessions, oldest out first.
type keyCache struct {
	at   [16]cached
	next int
}

type cached struct {
	sessions [lenSessions]byte
	secret   *sealKey
	aead     cipher.AEAD
}

// get finds or derives the AEAD for the sessions in b's header.
func (c *keyCache) get(k *sealKey, b []byte, keep bool) (cipher.AEAD, error) {
	if a := c.find(k, b); a != nil {
		return a, nil
	}
	key, err := hkdf.Key(sha256.New, k.secret[:], b[offSender:offSender+lenSessions], sealInfo, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a, err := cipher.NewGCM(block)
	if err == nil && keep && b[offKind] != kindCall {
		c.keep(k, b, a)
	}
	return a, err
}

// keep remembers an AEAD.
func (c *keyCache) keep(k *sealKey, b []byte, a cipher.AEAD) {
	if c.find(k, b) == nil {
		c.at[c.next] = cached{[lenSessions]byte(b[offSender:]), k, a}
		c.next = (c.next + 1) % len(c.at)
	}
}

func (c *keyCache) find(k *sealKey, b []byte) cipher.AEAD {
	sessions := [lenSessions]byte(b[offSender:])
	for i := range c.at {
		if e := &c.at[i]; e.secret == k && e.sessions == sessions {
			return e.aead
		}
	}
	return nil
}

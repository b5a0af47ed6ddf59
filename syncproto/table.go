// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// kind is the family of a store; it is the lowest bit of a slot on the wire.
type kind uint8

const (
	kind4 kind = iota
	kind6
	kinds
)

func kindOf(family uint8) kind {
	if family == conntrack.IPv6 {
		return kind6
	}
	return kind4
}

func (k kind) family() uint8 {
	if k == kind6 {
		return conntrack.IPv6
	}
	return conntrack.IPv4
}

// Chunks keep a store from being copied when it grows, and from standing in
// memory twice while it is.
const (
	chunkBits = 12
	chunkSize = 1 << chunkBits
	chunkMask = chunkSize - 1
	// maxEntries bounds an entry's number: it shares a word with a direction
	// and a tag in index, with a sequence in a view's slots.
	maxEntries = 1<<26 - 2
)

// nobody is the entry that is not there; the end of a free list.
const nobody = ^uint32(0)

// Flags of body.at that a table needs to know. Each store defines the others.
const (
	flagHidden flag = 1 << (30 + iota) // not in the index: another flow has one of its tuples
	flagUsed
)

// table is a slab of flows of one kind with an index over both of their
// tuples: within one table, as within one kernel table, a tuple names one flow.
type table struct {
	kind   kind
	c4     []*[chunkSize]entry4
	c6     []*[chunkSize]entry6
	free   uint32 // chained through body.link
	size   uint32 // entries that ever were used
	n      uint32 // entries in use
	limit  uint32
	tuples index
	vtags  map[uint32][2]uint32 // of SCTP flows, by entry
}

func (t *table) init(k kind, limit int, seed uint64) {
	*t = table{kind: k, free: nobody, limit: uint32(min(limit, maxEntries-1))}
	t.tuples.init(seed, t.limit)
}

func (t *table) at(i uint32) *body {
	if t.kind == kind4 {
		return &t.c4[i>>chunkBits][i&chunkMask].body
	}
	return &t.c6[i>>chunkBits][i&chunkMask].body
}

// alloc gives an entry, the one freed last if there is one: a slot that is
// used again saves the record of its deletion. It does not index it.
func (t *table) alloc() (uint32, bool) {
	i := t.free
	switch {
	case t.n >= t.limit:
		return 0, false
	case i != nobody:
		t.unlink()
	case t.size >= t.limit: // empty ones are not free yet
		return 0, false
	default:
		i = t.size
		if i&chunkMask == 0 {
			t.addChunk()
		}
		t.size++
	}
	t.n++
	b := t.at(i)
	*b = body{}
	b.set(flagUsed)
	return i, true
}

// unlink takes the first free entry out of the free list.
func (t *table) unlink() uint32 {
	i := t.free
	t.free = t.at(i).link
	return i
}

func (t *table) addChunk() {
	if t.kind == kind4 {
		t.c4 = append(t.c4, new([chunkSize]entry4))
	} else {
		t.c6 = append(t.c6, new([chunkSize]entry6))
	}
}

// release takes an entry out of the index and gives it back.
func (t *table) release(i uint32) {
	t.vacate(i)
	t.recycle(i)
}

// vacate empties an entry without giving it back.
func (t *table) vacate(i uint32) {
	b := t.at(i)
	if !b.has(flagHidden) {
		t.unindex(i)
	}
	if b.proto == unix.IPPROTO_SCTP {
		delete(t.vtags, i)
	}
	*b = body{}
	t.n--
}

func (t *table) setVTag(i uint32, v [2]uint32) {
	if t.vtags == nil {
		t.vtags = map[uint32][2]uint32{}
	}
	t.vtags[i] = v
}

// mutable and setMutable read and write what may change of a flow.
func (t *table) mutable(i uint32) mutable {
	b := t.at(i)
	m := b.mutable()
	if b.proto == unix.IPPROTO_SCTP {
		m.vtag = t.vtags[i]
	}
	return m
}

func (t *table) setMutable(i uint32, m *mutable) {
	b := t.at(i)
	b.setMutable(m)
	if b.proto == unix.IPPROTO_SCTP {
		t.setVTag(i, m.vtag)
	}
}

// recycle gives an empty entry back.
func (t *table) recycle(i uint32) {
	t.at(i).link = t.free
	t.free = i
}

// store writes f, in normal form, over entry i and indexes it. No tuple of f
// may belong to another entry. h and rh are the hashes of both.
func (t *table) store(i uint32, f *conntrack.Flow, h, rh uint64) {
	if t.kind == kind4 {
		e := &t.c4[i>>chunkBits][i&chunkMask]
		e.packBody(f)
		e.orig, e.reply = pack4(&f.Orig), pack4(&f.Reply)
	} else {
		e := &t.c6[i>>chunkBits][i&chunkMask]
		e.packBody(f)
		e.orig, e.reply = pack6(&f.Orig), pack6(&f.Reply)
	}
	if f.Proto == unix.IPPROTO_SCTP {
		t.setVTag(i, f.SCTP.VTag)
	}
	t.tuples.insert(h, i<<1)
	if !t.selfInverse(i) {
		t.tuples.insert(rh, i<<1|1)
	}
}

// hide takes an entry out of the index and keeps it.
func (t *table) hide(i uint32) {
	if b := t.at(i); !b.has(flagHidden) {
		t.unindex(i)
		b.set(flagHidden)
	}
}

func (t *table) unindex(i uint32) {
	t.tuples.remove(t.hashOf(i<<1), i<<1)
	if !t.selfInverse(i) {
		t.tuples.remove(t.hashOf(i<<1|1), i<<1|1)
	}
}

// load reads entry i into f.
func (t *table) load(i uint32, f *conntrack.Flow) {
	b := t.at(i)
	f.Family, f.Proto, f.Zone, f.ZoneDir = t.kind.family(), b.proto, b.zone, b.zoneDir()
	m := t.mutable(i)
	m.put(f)
	if t.kind == kind4 {
		e := &t.c4[i>>chunkBits][i&chunkMask]
		e.orig.unpack(&f.Orig)
		e.reply.unpack(&f.Reply)
		return
	}
	e := &t.c6[i>>chunkBits][i&chunkMask]
	e.orig.unpack(&f.Orig)
	e.reply.unpack(&f.Reply)
}

// key gives the tuple that an index value (entry<<1 | direction) names.
func (t *table) key(v uint32, k *conntrack.Key) {
	i := v >> 1
	if t.kind == kind4 {
		e := &t.c4[i>>chunkBits][i&chunkMask]
		if v&1 == 0 {
			e.orig.unpack(&k.Tuple)
		} else {
			e.reply.unpack(&k.Tuple)
		}
		k.Zone, k.Family, k.Proto = e.zoneOf(v&1 != 0), conntrack.IPv4, e.proto
		return
	}
	e := &t.c6[i>>chunkBits][i&chunkMask]
	if v&1 == 0 {
		e.orig.unpack(&k.Tuple)
	} else {
		e.reply.unpack(&k.Tuple)
	}
	k.Zone, k.Family, k.Proto = e.zoneOf(v&1 != 0), conntrack.IPv6, e.proto
}

// find gives the entry that holds k in either direction, and which.
func (t *table) find(k *conntrack.Key) (i uint32, reply, ok bool) {
	return t.findHash(k, t.hash(k))
}

// findHash is find for a tuple whose hash is known.
func (t *table) findHash(k *conntrack.Key, h uint64) (i uint32, reply, ok bool) {
	v, ok := t.tuples.lookup(t, k, h)
	return v >> 1, v&1 != 0, ok
}

// findOrig gives the entry whose original tuple is k.
func (t *table) findOrig(k *conntrack.Key) (uint32, bool) {
	i, reply, ok := t.find(k)
	return i, ok && !reply
}

// sameName says whether entry i, which has the original tuple of f, has its
// reply tuple and its zone, too: then only what is mutable differs.
func (t *table) sameName(i uint32, f *conntrack.Flow) bool {
	if b := t.at(i); b.zone != f.Zone || b.zoneDir() != f.ZoneDir {
		return false
	}
	if t.kind == kind4 {
		return t.c4[i>>chunkBits][i&chunkMask].reply == pack4(&f.Reply)
	}
	return t.c6[i>>chunkBits][i&chunkMask].reply == pack6(&f.Reply)
}

// hash is the hash of a tuple in this table.
func (t *table) hash(k *conntrack.Key) uint64 {
	if t.kind == kind4 {
		a := pack4(&k.Tuple)
		return a.hash(t.tuples.seed, k.Zone, k.Proto)
	}
	a := pack6(&k.Tuple)
	return a.hash(t.tuples.seed, k.Zone, k.Proto)
}

// hashOf is the hash of the tuple that an index value names.
func (t *table) hashOf(v uint32) uint64 {
	i, reply := v>>1, v&1 != 0
	if t.kind == kind4 {
		e := &t.c4[i>>chunkBits][i&chunkMask]
		return e.tuple(reply).hash(t.tuples.seed, e.zoneOf(reply), e.proto)
	}
	e := &t.c6[i>>chunkBits][i&chunkMask]
	return e.tuple(reply).hash(t.tuples.seed, e.zoneOf(reply), e.proto)
}

// is says whether an index value names the tuple k.
func (t *table) is(v uint32, k *conntrack.Key) bool {
	i, reply := v>>1, v&1 != 0
	if t.kind == kind4 {
		e := &t.c4[i>>chunkBits][i&chunkMask]
		return *e.tuple(reply) == pack4(&k.Tuple) && e.proto == k.Proto && e.zoneOf(reply) == k.Zone
	}
	e := &t.c6[i>>chunkBits][i&chunkMask]
	return *e.tuple(reply) == pack6(&k.Tuple) && e.proto == k.Proto && e.zoneOf(reply) == k.Zone
}

// selfInverse says whether both tuples of an entry are the same.
func (t *table) selfInverse(i uint32) bool {
	if t.kind == kind4 {
		e := &t.c4[i>>chunkBits][i&chunkMask]
		return e.orig == e.reply && e.zoneOf(false) == e.zoneOf(true)
	}
	e := &t.c6[i>>chunkBits][i&chunkMask]
	return e.orig == e.reply && e.zoneOf(false) == e.zoneOf(true)
}

func (e *entry4) tuple(reply bool) *tuple4 {
	if reply {
		return &e.reply
	}
	return &e.orig
}

func (e *entry6) tuple(reply bool) *tuple6 {
	if reply {
		return &e.reply
	}
	return &e.orig
}

func (a *tuple4) hash(seed uint64, zone uint16, proto uint8) uint64 {
	h := fold(seed, a.addresses(), ports(a.srcPort, a.dstPort, zone, uint16(proto)))
	return fold(h, 0, 0)
}

func (a *tuple6) hash(seed uint64, zone uint16, proto uint8) uint64 {
	h := fold(seed, binary.LittleEndian.Uint64(a.src[:8]), binary.LittleEndian.Uint64(a.src[8:]))
	h = fold(h, binary.LittleEndian.Uint64(a.dst[:8]), binary.LittleEndian.Uint64(a.dst[8:]))
	return fold(h, 0, ports(a.srcPort, a.dstPort, zone, uint16(proto)))
}

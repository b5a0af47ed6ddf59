// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"math/bits"
	"slices"

	"github.com/tandem-ha/tandem/conntrack"
)

// index is an open-addressing hash from tuples to values (entry<<1 |
// direction) of a table: five bytes per cell, at most 7/8 of them taken. It
// holds no key; the table does. It is cut into shards that grow alone, by
// pages and in place, so that neither memory nor time is ever spent on the
// whole at once and nothing is left for the garbage collector.
//
//	tag    0 empty, 1 removed, else 0x80 | low bits of the mark
//	cell   high bits of the mark << valueBits | value
//
// The mark of a tuple is 15 bits of its hash by default, fewer where MaxFlows
// is larger. It says where in its shard a tuple belongs, whatever the shard's
// size: to grow, no entry is looked at, which would cost more than all the
// rest (each is a cache miss). It spares most looks at a wrong entry, too.
type index struct {
	seed      uint64
	valueBits uint
	markBits  uint
	shards    []shard  // none before the first insert
	moving    []uint64 // for its memory
	purged    uint64   // values that were not where their tuples say: damaged memory
}

type shard struct {
	pages []*indexPage
	used  uint32 // not empty: live or removed
	live  uint32
}

// indexPage has its tags together: a look that finds nothing is one cache line.
type indexPage struct {
	tags  [pageCells]uint8
	cells [pageCells]uint32
}

const (
	shardBits  = 11
	pageCells  = 64
	tagEmpty   = 0
	tagRemoved = 1
	tagLive    = 0x80
	tagBits    = 7
)

// init makes an empty index for values below limit<<1.
func (x *index) init(seed uint64, limit uint32) {
	*x = index{seed: seed, valueBits: uint(bits.Len32(limit<<1 - 1))}
	x.markBits = min(32, 32-x.valueBits+tagBits)
}

func (x *index) value(cell uint32) uint32 { return cell & (1<<x.valueBits - 1) }

// mark takes bits that do not choose the shard.
func (x *index) mark(h uint64) uint32 { return uint32(h << shardBits >> (64 - x.markBits)) }

func tagOf(mark uint32) uint8 { return tagLive | uint8(mark) }

func (x *index) cellOf(mark, v uint32) uint32 { return mark>>tagBits<<x.valueBits | v }

func (x *index) shard(h uint64) *shard { return &x.shards[h>>(64-shardBits)] }

// home is the place that a mark would like to have.
func (x *index) home(s *shard, mark uint32) uint32 {
	return uint32(uint64(mark) * uint64(s.size()) >> x.markBits)
}

func (s *shard) size() uint32 { return uint32(len(s.pages)) * pageCells }

// at gives the page of a place and where in it.
func (s *shard) at(p uint32) (*indexPage, uint32) { return s.pages[p/pageCells], p % pageCells }

func (s *shard) tag(p uint32) uint8 { return s.pages[p/pageCells].tags[p%pageCells] }

func (s *shard) next(p uint32) uint32 {
	if p++; p == s.size() {
		return 0
	}
	return p
}

// lookup gives the value whose tuple is k; h is its hash.
func (x *index) lookup(t *table, k *conntrack.Key, h uint64) (uint32, bool) {
	if len(x.shards) == 0 {
		return 0, false
	}
	s, mark := x.shard(h), x.mark(h)
	if len(s.pages) == 0 {
		return 0, false
	}
	want := tagOf(mark)
	p := x.home(s, mark)
	for page, i := s.at(p); ; {
		switch page.tags[i] {
		case tagEmpty:
			return 0, false
		case want:
			v := x.value(page.cells[i])
			if page.cells[i] == x.cellOf(mark, v) && t.is(v, k) {
				return v, true
			}
		}
		if i++; i == pageCells {
			p = s.next(p | (pageCells - 1))
			page, i = s.at(p)
		}
	}
}

// touch reads the tag where a tuple with the hash h would like to be, and of the
// page after it if a look at this one is likely to go on there.
func (x *index) touch(h uint64) (seen uint8) {
	if len(x.shards) == 0 {
		return 0
	}
	s := x.shard(h)
	if len(s.pages) == 0 {
		return 0
	}
	p := x.home(s, x.mark(h))
	page, i := s.at(p)
	if seen = page.tags[i]; i > pageCells*5/8 {
		seen += s.tag(s.next(p | (pageCells - 1)))
	}
	return seen
}

// insert adds a value whose tuple, with the hash h, is not in the index.
func (x *index) insert(h uint64, v uint32) {
	if len(x.shards) == 0 {
		x.shards = make([]shard, 1<<shardBits)
	}
	s, mark := x.shard(h), x.mark(h)
	if (s.used+1)*8 > s.size()*7 {
		x.rebuild(s, uint32(h>>(64-shardBits))%8)
	}
	p := x.home(s, mark)
	for s.tag(p)&tagLive != 0 {
		p = s.next(p)
	}
	page, i := s.at(p)
	if page.tags[i] == tagEmpty {
		s.used++
	}
	s.live++
	page.tags[i], page.cells[i] = tagOf(mark), x.cellOf(mark, v)
}

// rebuild makes room: more pages when the shard is full of living values, as
// many as before when it is full of removed ones, and fewer when hardly any
// lives.
func (x *index) rebuild(s *shard, step uint32) {
	all := slices.Grow(x.moving[:0], int(s.live))[:s.live]
	n := 0
	for _, page := range s.pages {
		for i := range &page.tags {
			if tag := page.tags[i]; tag&tagLive != 0 {
				all[n] = uint64(tag)<<32 | uint64(page.cells[i])
				n++
			}
		}
		page.tags = [pageCells]uint8{}
	}
	s.resize(s.room(step))
	s.used = s.live
	for _, m := range all {
		cell, tag := uint32(m), uint8(m>>32)
		p := x.home(s, cell>>x.valueBits<<tagBits|uint32(tag&^tagLive))
		page, i := s.at(p)
		for page.tags[i] != tagEmpty {
			if i++; i == pageCells {
				p = s.next(p | (pageCells - 1))
				page, i = s.at(p)
			}
		}
		page.tags[i], page.cells[i] = tag, cell
	}
	x.moving = all
}

// room is how many pages a shard shall have. Shards grow by three to
// four eighths, each by another part: all of them together are never at their
// emptiest.
func (s *shard) room(step uint32) uint32 {
	n := uint32(len(s.pages))
	switch need := s.live*5/4 + 2; {
	case need*8 > s.size()*7:
		return n + max(1, n*(24+step)/64)
	case need*3 < s.size():
		return (need*3/2 + pageCells - 1) / pageCells
	}
	return n
}

func (s *shard) resize(n uint32) {
	for uint32(len(s.pages)) < n {
		s.pages = append(s.pages, new(indexPage))
	}
	clear(s.pages[n:])
	s.pages = s.pages[:n]
}

// remove takes out value v, whose tuple hashes to h.
func (x *index) remove(h uint64, v uint32) {
	s, mark := x.shard(h), x.mark(h)
	if len(s.pages) == 0 {
		x.purge(v)
		return
	}
	tag, cell := tagOf(mark), x.cellOf(mark, v)
	for p := x.home(s, mark); ; p = s.next(p) {
		page, i := s.at(p)
		switch {
		case page.tags[i] == tagEmpty:
			x.purge(v)
			return
		case page.tags[i] == tag && page.cells[i] == cell:
			s.drop(p)
			return
		}
	}
}

// purge takes out a value wherever it is: its tuple is not what it was when it
// was inserted. That is damage, and a digest of the slot's range heals it; so
// rare that looking at every cell does not matter.
func (x *index) purge(v uint32) {
	for i := range x.shards {
		s := &x.shards[i]
		for p := range s.size() {
			if page, i := s.at(p); page.tags[i]&tagLive != 0 && x.value(page.cells[i]) == v {
				x.purged++
				s.drop(p)
				return
			}
		}
	}
	panic("syncproto: a flow is not in the index of its table")
}

// drop empties a cell that holds a value.
func (s *shard) drop(p uint32) {
	s.live--
	page, i := s.at(p)
	page.tags[i] = tagRemoved
	if s.tag(s.next(p)) != tagEmpty {
		return
	}
	// Nobody probes past here: this cell and removed ones before it are free.
	for s.tag(p) == tagRemoved {
		page, i := s.at(p)
		page.tags[i] = tagEmpty
		s.used--
		if p == 0 {
			p = s.size()
		}
		p--
	}
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import "github.com/tandem-ha/tandem/conntrack"

// index is an open-addressing hash from tuples to values (entry<<1 |
// direction) of a table: four bytes per tuple, at most 80 % full. It holds no
// key; the table does. It is cut into shards that grow alone and by a quarter,
// so that neither memory nor time is ever spent on the whole at once.
//
// A cell is tag<<27 | value+2, where the tag is five bits of the hash that
// spare most looks at a wrong entry; 0 is empty, 1 was removed.
type index struct {
	seed   uint64
	shards [indexShards]shard
	purged uint64 // values that were not where their tuples say: damaged memory
}

type shard struct {
	cells []uint32
	used  uint32 // not empty: live or removed
	live  uint32
}

const (
	indexShards = 256
	cellEmpty   = 0
	cellRemoved = 1
	valueBits   = 27
	valueMask   = 1<<valueBits - 1
	minCells    = 8
)

func (s *shard) home(h uint64) uint32 {
	return uint32((h & 0xffffffff) * uint64(len(s.cells)) >> 32)
}

func (x *index) shard(h uint64) *shard { return &x.shards[h>>56] }

func tag(h uint64) uint32 { return uint32(h>>51) & 31 << valueBits }

func (x *index) lookup(t *table, k *conntrack.Key) (uint32, bool) {
	h := k.Hash(x.seed)
	s := x.shard(h)
	if len(s.cells) == 0 {
		return 0, false
	}
	want := tag(h)
	var got conntrack.Key
	for p := s.home(h); ; p = s.next(p) {
		c := s.cells[p]
		if c == cellEmpty {
			return 0, false
		}
		if c == cellRemoved || c&^valueMask != want {
			continue
		}
		v := c&valueMask - 2
		if t.key(v, &got); got == *k {
			return v, true
		}
	}
}

func (s *shard) next(p uint32) uint32 {
	if p++; p == uint32(len(s.cells)) {
		return 0
	}
	return p
}

// insert adds a value whose tuple is not in the index.
func (x *index) insert(t *table, h uint64, v uint32) {
	s := x.shard(h)
	if (s.used+1)*5 > uint32(len(s.cells))*4 {
		x.rebuild(t, s)
	}
	p := s.home(h)
	for s.cells[p] > cellRemoved {
		p = s.next(p)
	}
	if s.cells[p] == cellEmpty {
		s.used++
	}
	s.live++
	s.cells[p] = tag(h) | (v + 2)
}

// rebuild makes room: a quarter more cells when the shard is full of living
// values, as many as before when it is full of removed ones, and fewer when
// hardly any lives.
func (x *index) rebuild(t *table, s *shard) {
	old := s.cells
	size := uint32(len(old))
	switch need := s.live*5/4 + 2; {
	case need*8 > size*7:
		size = max(minCells, size+size/4)
	case need*3 < size:
		size = max(minCells, need*3/2)
	}
	s.cells = make([]uint32, size)
	s.used = s.live
	var k conntrack.Key
	for _, c := range old {
		if c <= cellRemoved {
			continue
		}
		t.key(c&valueMask-2, &k)
		p := s.home(k.Hash(x.seed))
		for s.cells[p] != cellEmpty {
			p = s.next(p)
		}
		s.cells[p] = c
	}
}

// remove takes out value v, whose tuple hashes to h.
func (x *index) remove(h uint64, v uint32) {
	s := x.shard(h)
	want := tag(h) | (v + 2)
	if len(s.cells) == 0 {
		x.purge(v)
		return
	}
	p := s.home(h)
	for s.cells[p] != want {
		if s.cells[p] == cellEmpty {
			x.purge(v)
			return
		}
		p = s.next(p)
	}
	s.drop(p)
}

// purge takes out a value wherever it is: its tuple is not what it was when it
// was inserted. That is damage, and a digest of the slot's range heals it; so
// rare that looking at every cell does not matter.
func (x *index) purge(v uint32) {
	for i := range x.shards {
		s := &x.shards[i]
		for p, c := range s.cells {
			if c > cellRemoved && c&valueMask == v+2 {
				x.purged++
				s.drop(uint32(p))
				return
			}
		}
	}
	panic("syncproto: a flow is not in the index of its table")
}

// drop empties a cell that holds a value.
func (s *shard) drop(p uint32) {
	s.live--
	s.cells[p] = cellRemoved
	if s.cells[s.next(p)] != cellEmpty {
		return
	}
	// Nobody probes past here: this cell and removed ones before it are free.
	for s.cells[p] == cellRemoved {
		s.cells[p] = cellEmpty
		s.used--
		if p == 0 {
			p = uint32(len(s.cells))
		}
		p--
	}
}

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/maps"
)

// Sizes of the table of cells: a set is one cache line of four cells.
const (
	minSets = 1 << 10
	maxSets = 1 << 20 // 64 MiB, 4 million cells
)

// cellSets gives two cells to each entry that the kernel table may hold, so
// that few sets are ever full.
func cellSets(tableMax uint32) uint32 {
	sets := min(max(tableMax/2, minSets), maxSets)
	return 1 << bits.Len32(sets-1)
}

// flowSpec gives tandem_flow with its settings. fast is false where the kernel
// has no direct reads (below 6.2).
func flowSpec(o *Options, tableMax uint32, fast bool) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.Flow()
	if err != nil {
		return nil, fmt.Errorf("read flow program: %w", err)
	}
	sets := cellSets(tableMax)
	spec.Maps["tandem_cells"].MaxEntries = sets
	var secret [3]uint64
	if err := binary.Read(rand.Reader, binary.NativeEndian, &secret); err != nil {
		return nil, fmt.Errorf("draw secret: %w", err)
	}
	set := setter{spec: spec}
	set.to("secret", secret)
	set.to("cell_mask", sets-1)
	set.to("protocols", protocolBits(&o.Policy))
	set.to("age_tcp", ageBits(o.Policy.TCP))
	set.to("age_other", ageBits(o.Policy.Other))
	set.to("ignores", uint32(min(len(o.Policy.Ignore), 1)))
	set.to("refresh", ticks(o.Refresh))
	if fast {
		id, err := nfConnID()
		if err != nil {
			return nil, err
		}
		set.to("nf_conn_id", uint32(id))
	}
	spec.Maps["tandem_ignore"].MaxEntries = uint32(max(len(o.Policy.Ignore), 1))
	return spec, set.err
}

// setter sets constants of a spec and keeps the first error.
type setter struct {
	spec *ebpf.CollectionSpec
	err  error
}

func (s *setter) to(name string, value any) {
	v := s.spec.Variables[name]
	if v == nil {
		s.err = errors.Join(s.err, fmt.Errorf("set %q: no such constant", name))
		return
	}
	if err := v.Set(value); err != nil {
		s.err = errors.Join(s.err, fmt.Errorf("set %q: %w", name, err))
	}
}

func protocolBits(p *conntrack.Policy) (b [4]uint64) {
	for proto, on := range p.Protocols {
		if on {
			b[proto/64] |= 1 << (proto % 64)
		}
	}
	return b
}

// ageBits gives the status bits that a flow of that age has.
func ageBits(w conntrack.When) uint32 {
	switch w {
	case conntrack.WhenReplied:
		return uint32(conntrack.SeenReply)
	case conntrack.WhenAssured:
		return uint32(conntrack.Assured)
	}
	return 0
}

func ticks(d time.Duration) uint32 {
	return uint32(max(1, d.Seconds()*float64(maps.TicksPerSecond())))
}

// nfConnID finds struct nf_conn by its exact name in the kernel's or its
// module's BTF. CO-RE cannot: it takes nf_conn___init for a flavour.
func nfConnID() (btf.TypeID, error) {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return 0, fmt.Errorf("read kernel types: %w", err)
	}
	var st *btf.Struct
	if err := kernel.TypeByName("nf_conn", &st); err != nil {
		return 0, fmt.Errorf("find struct nf_conn: %w", err)
	}
	return kernel.TypeID(st)
}

// fillIgnore writes the prefixes of addresses to be ignored.
func fillIgnore(m *ebpf.Map, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		p = p.Masked()
		key := bpf.IgnoreKey{Prefixlen: 32 + uint32(p.Bits()), Family: familyKey(p.Addr()), Addr: words(p.Addr())}
		if err := m.Put(&key, uint8(1)); err != nil {
			return fmt.Errorf("ignore %s: %w", p, err)
		}
	}
	return nil
}

// familyKey is the address family in network order: as a prefix it is matched
// from the first bit on.
func familyKey(a netip.Addr) uint32 {
	family := uint32(conntrack.IPv6)
	if a.Unmap().Is4() {
		family = uint32(conntrack.IPv4)
	}
	return bits.ReverseBytes32(family)
}

// words gives an address as programs hold it.
func words(a netip.Addr) (w [4]uint32) {
	b := conntrack.AddrFrom(a)
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/control"
)

// lockedTable is the kernel table for questions from outside: one at a time.
// A dump has a socket of its own, since whoever reads it may stop reading.
type lockedTable struct {
	mu sync.Mutex
	t  *conntrack.Table
}

func dumpKernel(fn func(*conntrack.Flow) error) error {
	t, err := conntrack.Open()
	if err != nil {
		return fmt.Errorf("open the kernel table: %w", err)
	}
	defer t.Close()
	return t.Dump(fn)
}

func (l *lockedTable) count() (kt control.KernelTable) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kt.Entries, kt.Max, _ = l.t.Count()
	kt.Buckets, _ = l.t.Buckets()
	return kt
}

var (
	errStop     = errors.New("enough") // ends a walk, never shown
	errNotKept  = errors.New("nothing is replicated: the configuration has no [conntrack-sync]")
	errNoSource = errors.New("unknown source of flows")
)

// Flows walks one source. A view or the own flows are copied out under the
// node's lock, in slices, before anything is shown: a slow reader never holds it.
func (b *backend) Flows(q control.FlowQuery, yield func(*control.Flow) bool) error {
	if b.d.sync == nil {
		return errNotKept
	}
	filter, err := control.NewFilter(q, b.local())
	if err != nil {
		return err
	}
	left, shown := q.Limit, control.Flow{}
	show := func(f *conntrack.Flow, source, peer string) bool {
		if !filter.Show(f, &shown) {
			return true
		}
		shown.Source, shown.Peer = source, peer
		left--
		return yield(&shown) && left != 0
	}
	switch q.Source {
	case "", control.SourceKernel:
		err := dumpKernel(func(f *conntrack.Flow) error {
			if !show(f, control.SourceKernel, "") {
				return errStop
			}
			return nil
		})
		if errors.Is(err, errStop) {
			return nil
		}
		return err
	case control.SourceOwn:
		for _, f := range b.own() {
			if !show(&f, control.SourceOwn, "") {
				return nil
			}
		}
	case control.SourceView:
		for name, flows := range b.views(q.Peer) {
			for _, f := range flows {
				if !show(&f, control.SourceView, name) {
					return nil
				}
			}
		}
	default:
		return errNoSource
	}
	return nil
}

// showSlice is how many flows are copied at a time: all of a million would hold
// the lock until the peer misses heartbeats.
const showSlice = 8192

func (b *backend) own() (out []conntrack.Flow) {
	n := b.d.sync.replica.node
	walk := func(at uint32) uint32 {
		n.Lock()
		defer n.Unlock()
		return n.OwnSlice(at, showSlice, func(f *conntrack.Flow) { out = append(out, *f) })
	}
	for at := walk(0); at != 0; {
		at = walk(at)
	}
	return out
}

func (b *backend) views(peer string) map[string][]conntrack.Flow {
	n := b.d.sync.replica.node
	n.Lock()
	peers := slices.Clone(n.Peers())
	n.Unlock()
	out := map[string][]conntrack.Flow{}
	for _, p := range peers {
		walk := func(at uint32) uint32 {
			n.Lock()
			defer n.Unlock()
			name := p.Name()
			if peer != "" && peer != name {
				return 0
			}
			return p.View().Slice(at, showSlice, func(f *conntrack.Flow) { out[name] = append(out[name], *f) })
		}
		for at := walk(0); at != 0; {
			at = walk(at)
		}
	}
	return out
}

// local says which addresses stay with this node.
func (b *backend) local() func(netip.Addr) bool {
	set := map[netip.Addr]bool{}
	if addrs, err := ownAddresses(b.d); err == nil {
		for _, a := range addrs {
			set[a] = true
		}
	}
	return func(a netip.Addr) bool { return set[a] }
}

// passes says whether a flow passes through this node. What begins or ends in
// it (adverts, the sync link, a shell) is not replicated, whatever the policy:
// own says whether an address is this node's, virtual ones included. A flow
// that is translated to or addressed to one passes.
func passes(f *conntrack.Flow, own func(netip.Addr) bool) bool {
	return !own(f.Orig.Src.IP(f.Family)) && !own(f.Reply.Src.IP(f.Family)) && !f.Orig.Dst.IP(f.Family).IsMulticast()
}

// FlowCount counts the kernel table by protocol, and what is kept here.
func (b *backend) FlowCount() (c control.FlowCount, err error) {
	if b.d.sync == nil {
		return c, errNotKept
	}
	local := b.local()
	own := func(a netip.Addr) bool { return local(a) || virtual(b.d.config(), a) }
	filter, err := control.NewFilter(control.FlowQuery{}, local)
	if err != nil {
		return c, err
	}
	c = control.FlowCount{Protocol: map[string]int{}, View: map[string]int{}, Kernel: b.d.sync.shown.count()}
	err = dumpKernel(func(f *conntrack.Flow) error {
		c.Protocol[control.ProtocolName(f.Proto)]++
		if !passes(f, own) || b.d.cfg.Sync.Policy.Match(f) != conntrack.Replicate {
			return nil
		}
		c.Replicated++
		if why, _ := filter.Stranded(f); why != "" {
			c.Stranded++
		}
		return nil
	})
	n := b.d.sync.replica.node
	n.Lock()
	defer n.Unlock()
	c.Own = n.OwnLen()
	for _, p := range n.Peers() {
		c.View[p.Name()] = p.View().Len()
	}
	return c, err
}

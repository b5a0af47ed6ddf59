// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"

	"github.com/tandem-ha/tandem/bpf"
)

// acceptPriorities are tried in this order: before filter (0), so that a
// ruleset's counters and logs do not have what is dropped here.
var acceptPriorities = func() (p []int32) {
	for i := int32(-10); i > -100; i-- {
		p = append(p, i)
	}
	return p
}()

// Accept drops packets to virtual addresses that accept nothing, in INPUT: a
// group without accept-mode. Neighbour discovery and what this machine sends to
// itself pass; what a translation sends elsewhere never comes to INPUT. On a
// Backup the addresses are not on the machine, so it has nothing to do.
type Accept struct {
	coll    *ebpf.Collection
	links   []link.Link
	refused []netip.Addr
}

// OpenAccept attaches in the network namespace of the calling thread.
func OpenAccept(refused []netip.Addr) (*Accept, error) {
	if err := features.HaveProgramType(ebpf.Netfilter); err != nil {
		return nil, fmt.Errorf("accept-mode = false needs netfilter programs (Linux 6.4): %w", err)
	}
	spec, err := bpf.Accept()
	if err != nil {
		return nil, err
	}
	a := &Accept{}
	if a.coll, err = load(spec, "tandem_accept"); err != nil {
		return nil, err
	}
	if err := a.open(refused); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Accept) open(refused []netip.Addr) error {
	if err := a.Refuse(refused); err != nil {
		return err
	}
	for name, family := range map[string]link.NetfilterProtocolFamily{
		"tandem_accept4": link.NetfilterProtoIPv4, "tandem_accept6": link.NetfilterProtoIPv6,
	} {
		l, err := attachNetfilter(a.coll.Programs[name], family, link.NetfilterInetLocalIn, acceptPriorities)
		if err != nil {
			return fmt.Errorf("attach %s to input: %w", name, err)
		}
		a.links = append(a.links, l)
	}
	return nil
}

// Refuse makes these the addresses that accept nothing, in place of those
// before; one that stays keeps its count.
func (a *Accept) Refuse(refused []netip.Addr) error {
	m := a.coll.Maps["tandem_refused"]
	for _, ip := range refused {
		key := ownKey(ip)
		if err := m.Update(&key, uint64(0), ebpf.UpdateNoExist); err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("let %s accept nothing: %w", ip, err)
		}
	}
	for _, ip := range a.refused {
		key := ownKey(ip)
		if !slices.Contains(refused, ip) {
			if err := m.Delete(&key); err != nil {
				return fmt.Errorf("let %s accept again: %w", ip, err)
			}
		}
	}
	a.refused = slices.Clone(refused)
	return nil
}

// Dropped is how many packets to an address were dropped.
func (a *Accept) Dropped(ip netip.Addr) (n uint64) {
	key := ownKey(ip)
	_ = a.coll.Maps["tandem_refused"].Lookup(&key, &n) // not named: none
	return n
}

// Close lets every address accept again.
func (a *Accept) Close() error {
	var errs []error
	for _, l := range a.links {
		errs = append(errs, l.Close())
	}
	a.coll.Close()
	return errors.Join(errs...)
}

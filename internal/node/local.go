// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tandem-ha/tandem/conntrack"
)

// localAddresses keeps fence and receiver told of this router's own
// non-virtual addresses.
type localAddresses struct{ d *daemon }

func (l *localAddresses) String() string { return "local addresses" }

// Run reads them at start, at each change, and now and then in case a change
// was lost (ENOBUFS).
func (l *localAddresses) Run(ctx context.Context) error {
	changes := make(chan netlink.AddrUpdate, 64)
	failed := func(err error) { l.d.log.Debug("address subscription", "error", err) }
	if err := netlink.AddrSubscribeWithOptions(changes, ctx.Done(), netlink.AddrSubscribeOptions{ErrorCallback: failed}); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	again := time.NewTicker(10 * time.Second)
	defer again.Stop()
	for {
		if err := l.apply(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok {
				changes = nil // the ticker goes on
			}
		case <-again.C:
		}
	}
}

func (l *localAddresses) apply() error {
	addrs, err := ownAddresses(l.d)
	if err != nil {
		return err
	}
	l.d.sync.fence.SetLocal(addrs)
	l.d.sync.replica.setLocal(addrs)
	return nil
}

func (r *replica) setLocal(addrs []netip.Addr) {
	r.node.Lock()
	defer r.node.Unlock()
	r.node.SetLocal(addrs)
	r.local = make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		r.local[a] = true
	}
}

// ours says whether a flow begins or ends at this router itself and not at a
// virtual address: no other router can go on with it. The lock is held.
func (r *replica) ours(f *conntrack.Flow) bool {
	return r.local[f.Orig.Src.IP(f.Family)] || r.local[f.Orig.Dst.IP(f.Family)] || r.local[f.Reply.Src.IP(f.Family)]
}

func ownAddresses(d *daemon) (out []netip.Addr, err error) {
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ok && !virtual(d.cfg, ip) {
			out = append(out, ip)
		}
	}
	return out, nil
}

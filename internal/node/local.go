// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
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
	node := l.d.sync.replica.node
	node.Lock()
	defer node.Unlock()
	node.SetLocal(addrs)
	return nil
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

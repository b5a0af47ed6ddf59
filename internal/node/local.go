// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/takeover"
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
		case c, ok := <-changes:
			if !ok {
				changes = nil // the ticker goes on
			}
			l.appeared(c)
		case <-again.C:
		}
	}
}

// appeared tells the machine that another election has put an address up: its
// word is still on the way, through a script.
func (l *localAddresses) appeared(c netlink.AddrUpdate) {
	ip, ok := netip.AddrFromSlice(c.LinkAddress.IP)
	if ok && c.NewAddr && l.d.external() && virtual(l.d.config(), ip.Unmap()) {
		l.d.sync.runner.Post(takeover.Event{Kind: takeover.EvForeignAddress})
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
	cfg := d.config()
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ok && !virtual(cfg, ip) {
			out = append(out, ip)
		}
	}
	return out, nil
}

// movedHere says whether an address that an election moves is on this machine.
func movedHere(cfg *config.Config) bool {
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(a netlink.Addr) bool {
		ip, ok := netip.AddrFromSlice(a.IP)
		return ok && virtual(cfg, ip.Unmap())
	})
}

// virtual says whether an address is one that an election moves.
func virtual(cfg *config.Config, a netip.Addr) bool {
	for _, g := range cfg.VRRP.Groups {
		for _, v := range g.Installed() {
			if v.Prefix.Addr() == a {
				return true
			}
		}
	}
	return cfg.Sync != nil && slices.Contains(cfg.Sync.Addresses, a)
}

// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Local is an interface's IPv6 link-local address that is not ours.
type Local struct {
	Addr      netip.Addr // invalid: there is none
	Tentative bool       // duplicate address detection still runs
	Duplicate bool       // and found another host
}

// LinkLocal is the link-local address of an interface that IPv6 adverts are
// sent from: keep as long as it can be used, else the first that can, else the
// first that cannot yet.
func LinkLocal(ifindex int32, keep netip.Addr) (out Local, err error) {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}
	list, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return out, fmt.Errorf("list IPv6 addresses of interface %d: %w", ifindex, err)
	}
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok || !ip.IsLinkLocalUnicast() || a.Protocol == Proto {
			continue
		}
		l := Local{Addr: ip, Duplicate: a.Flags&unix.IFA_F_DADFAILED != 0}
		// An optimistic address may be a source (RFC 4429 section 3.3), but not of NA.
		l.Tentative = !l.Duplicate && a.Flags&unix.IFA_F_TENTATIVE != 0
		if !out.usable() && (l.usable() || !out.Addr.IsValid()) || l.usable() && l.Addr == keep {
			out = l
		}
	}
	return out, nil
}

func (l *Local) usable() bool { return l.Addr.IsValid() && !l.Tentative && !l.Duplicate }

// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Watch is a subscription to links and addresses. Its socket is not
// blocking: wait with FD, then call Read.
type Watch struct {
	fd  int
	buf []byte
}

// OpenWatch subscribes. What was there before is not reported: read it with
// Links and Addresses afterwards.
func OpenWatch() (*Watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	// A burst of a thousand interfaces must not overrun us; if it does, Read
	// says lost and the state is read again.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	sa := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("subscribe to links and addresses: %w", err)
	}
	return &Watch{fd: fd, buf: make([]byte, 64<<10)}, nil
}

// FD is for epoll.
func (w *Watch) FD() int { return w.fd }

// Close ends the subscription.
func (w *Watch) Close() error { return unix.Close(w.fd) }

// Read hands over what is queued, without waiting. lost: the kernel dropped
// notices (ENOBUFS), the whole state must be read again.
func (w *Watch) Read(link func(Link), address func(AddressNote)) (lost bool, err error) {
	for {
		n, err := unix.Read(w.fd, w.buf)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return lost, nil
		case unix.ENOBUFS:
			lost = true
			continue
		default:
			return lost, fmt.Errorf("read link and address notices: %w", err)
		}
		eachMessage(w.buf[:n], func(typ uint16, _ uint32, body []byte) {
			switch typ {
			case unix.RTM_NEWLINK, unix.RTM_DELLINK:
				var l Link
				// A bridge port's state comes as AF_BRIDGE and says nothing of the link.
				if body[0] == unix.AF_UNSPEC && parseLink(body, &l) {
					l.Deleted = typ == unix.RTM_DELLINK
					link(l)
				}
			case unix.RTM_NEWADDR, unix.RTM_DELADDR:
				var a AddressNote
				if parseAddress(body, &a) {
					a.Deleted = typ == unix.RTM_DELADDR
					address(a)
				}
			}
		})
	}
}

// Links lists the links of this network namespace.
func Links() ([]Link, error) {
	list, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := make([]Link, 0, len(list))
	for _, l := range list {
		a := l.Attrs()
		n := Link{Index: int32(a.Index), Name: a.Name, Admin: a.RawFlags&unix.IFF_UP != 0,
			Up: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0}
		if len(a.HardwareAddr) == 6 {
			n.MAC = [6]byte(a.HardwareAddr)
		}
		out = append(out, n)
	}
	return out, nil
}

// Own lists the IPv4 addresses of an interface that are not ours, in the
// kernel's order; the first is the primary one.
func Own(ifindex int32) ([]netip.Prefix, error) {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}
	list, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list addresses of interface %d: %w", ifindex, err)
	}
	var out []netip.Prefix
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		if !ok || a.Protocol == Proto {
			continue
		}
		ones, _ := a.Mask.Size()
		out = append(out, netip.PrefixFrom(ip, ones))
	}
	return out, nil
}

// Own6 lists the IPv6 addresses of an interface that are not ours.
func Own6(ifindex int32) ([]netip.Prefix, error) {
	list, err := netlink.AddrList(byIndex(ifindex), netlink.FAMILY_V6)
	if err != nil {
		return nil, fmt.Errorf("list IPv6 addresses of interface %d: %w", ifindex, err)
	}
	var out []netip.Prefix
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && a.Protocol != Proto {
			ones, _ := a.Mask.Size()
			out = append(out, netip.PrefixFrom(ip, ones))
		}
	}
	return out, nil
}

// Plan is the address that is put in for a virtual one. Where an own address
// already covers it, it goes in as a single address (/32): with the same
// prefix length it would be a secondary of the operator's address or, after
// that one was set anew, its primary, and removing one would take the other
// along. Where nothing covers it, it goes in as configured and brings the
// route of its subnet.
func Plan(virtual netip.Prefix, own []netip.Prefix) netip.Prefix {
	for _, p := range own {
		if p.Contains(virtual.Addr()) {
			return netip.PrefixFrom(virtual.Addr(), virtual.Addr().BitLen())
		}
	}
	return virtual
}

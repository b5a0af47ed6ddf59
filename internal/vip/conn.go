// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// batch is how many requests go into one sendmsg; the acknowledgements of a
// batch fit the default socket buffer.
const batch = 64

// Conn writes addresses over one rtnetlink socket, in the network namespace
// of the thread that opened it. It is not safe for concurrent use. After the
// first calls it does not allocate.
type Conn struct {
	fd  int
	seq uint32
	req []byte
	ack []byte
}

// Open opens the socket.
func Open() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	// An acknowledgement without a copy of the request (Linux 4.3).
	unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	// rtnl is one lock for the whole host; a wait without a bound would hide a
	// dead kernel thread behind a silent daemon.
	tv := unix.Timeval{Sec: 2}
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	return &Conn{fd: fd, req: make([]byte, 0, batch*128), ack: make([]byte, 32<<10)}, nil
}

// Close closes the socket; the addresses stay until their lifetime ends.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Put creates or refreshes addresses, each with Lifetime. errs has one error
// number per address, 0: it is in. The error says that the kernel did not
// answer at all.
func (c *Conn) Put(addrs []Address, errs []unix.Errno) error {
	return c.each(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, addrs, errs)
}

// Remove removes addresses. One that was not there (EADDRNOTAVAIL), or whose
// interface is gone (ENODEV), counts as removed.
func (c *Conn) Remove(addrs []Address, errs []unix.Errno) error {
	err := c.each(unix.RTM_DELADDR, 0, addrs, errs)
	for i, e := range errs {
		if e == unix.EADDRNOTAVAIL || e == unix.ENODEV {
			errs[i] = 0
		}
	}
	return err
}

func (c *Conn) each(typ, flags uint16, addrs []Address, errs []unix.Errno) error {
	for len(addrs) > 0 {
		n := min(len(addrs), batch)
		if err := c.transact(typ, flags, addrs[:n], errs[:n]); err != nil {
			return err
		}
		addrs, errs = addrs[n:], errs[n:]
	}
	return nil
}

func (c *Conn) transact(typ, flags uint16, addrs []Address, errs []unix.Errno) error {
	first := c.seq + 1
	c.req = c.req[:0]
	for _, a := range addrs {
		c.seq++
		c.req = appendAddress(c.req, typ, flags, c.seq, a)
	}
	if err := retry(func() error { _, err := unix.Write(c.fd, c.req); return err }); err != nil {
		return fmt.Errorf("write %d addresses: %w", len(addrs), err)
	}
	for missing := len(addrs); missing > 0; {
		var n int
		err := retry(func() (err error) { n, err = unix.Read(c.fd, c.ack); return err })
		if err != nil {
			return fmt.Errorf("read acknowledgement of %d addresses: %w", missing, err)
		}
		eachMessage(c.ack[:n], func(typ uint16, seq uint32, body []byte) {
			i := int(seq - first)
			if typ != unix.NLMSG_ERROR || len(body) < 4 || i < 0 || i >= len(errs) {
				return
			}
			errs[i] = unix.Errno(-int32(native.Uint32(body)))
			missing--
		})
	}
	return nil
}

func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}

// Cleanup removes what a killed process left in this network namespace: every
// address with our protocol number, every virtual MAC device. It says how many
// of both there were.
func Cleanup() (int, error) {
	macs, err := RemoveMACs() // most addresses go with them
	n, err2 := removeAddresses()
	return n + macs, errors.Join(err, err2)
}

func removeAddresses() (int, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return 0, fmt.Errorf("list addresses: %w", err)
	}
	n := 0
	var all []error
	for _, a := range list {
		if a.Protocol != Proto {
			continue
		}
		n++
		link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: a.LinkIndex}}
		err := netlink.AddrDel(link, &netlink.Addr{IPNet: a.IPNet})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
			all = append(all, fmt.Errorf("remove address %s: %w", a.IPNet, err))
		}
	}
	return n, errors.Join(all...)
}

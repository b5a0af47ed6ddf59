// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Proto is the address protocol number (IFA_PROTO, Linux 5.18) of every
// address that tandem puts in; `ip addr` shows it as "proto 84". Older kernels
// ignore it, and there the lifetime alone cleans up.
const Proto = 84

// Lifetime is how long an address stays without a refresh, in seconds. The
// kernel's own timer removes it within one more.
const Lifetime = 3

// ifaProto is IFA_PROTO of linux/if_addr.h, which x/sys does not have.
const ifaProto = 11

// typeMask is NLA_TYPE_MASK: the two high bits are flags.
const typeMask = 0x3fff

// Address is one address on one interface.
type Address struct {
	Prefix  netip.Prefix
	IfIndex int32
}

var native = binary.NativeEndian

// appendAddress writes an RTM_NEWADDR or RTM_DELADDR request behind b:
// nlmsghdr, ifaddrmsg, attributes (rtnetlink(7)). It does not allocate when b
// has room.
func appendAddress(b []byte, typ uint16, flags uint16, seq uint32, a Address) []byte {
	at := len(b)
	family := byte(unix.AF_INET)
	var raw [16]byte
	ip := raw[:4]
	if a.Prefix.Addr().Is6() {
		family, ip = unix.AF_INET6, raw[:]
		raw = a.Prefix.Addr().As16()
	} else {
		v4 := a.Prefix.Addr().As4()
		copy(ip, v4[:])
	}
	b = native.AppendUint32(b, 0) // length, below
	b = native.AppendUint16(b, typ)
	b = native.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	b = append(b, family, byte(a.Prefix.Bits()), 0, 0)
	b = native.AppendUint32(b, uint32(a.IfIndex))
	b = appendAttr(b, unix.IFA_LOCAL, ip)
	b = appendAttr(b, unix.IFA_ADDRESS, ip)
	if typ == unix.RTM_NEWADDR {
		b = appendAttr(b, ifaProto, []byte{Proto})
		var info [16]byte // struct ifa_cacheinfo: preferred, valid, two stamps
		native.PutUint32(info[0:], Lifetime)
		native.PutUint32(info[4:], Lifetime)
		b = appendAttr(b, unix.IFA_CACHEINFO, info[:])
		var f [4]byte
		native.PutUint32(f[:], addressFlags(a))
		b = appendAttr(b, unix.IFA_FLAGS, f[:])
	}
	native.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

// addressFlags: a duplicate address check would keep an IPv6 address
// tentative for a second, while its former holder may still defend it.
func addressFlags(a Address) uint32 {
	if a.Prefix.Addr().Is6() {
		return unix.IFA_F_NODAD
	}
	return 0
}

func appendAttr(b []byte, typ uint16, v []byte) []byte {
	b = native.AppendUint16(b, uint16(4+len(v)))
	b = native.AppendUint16(b, typ)
	b = append(b, v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// eachMessage calls fn for every netlink message in b.
func eachMessage(b []byte, fn func(typ uint16, seq uint32, body []byte)) {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(native.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return
		}
		fn(native.Uint16(b[4:]), native.Uint32(b[8:]), b[unix.NLMSG_HDRLEN:n])
		n = (n + 3) &^ 3
		b = b[min(n, len(b)):]
	}
}

// eachAttr calls fn for every attribute in b.
func eachAttr(b []byte, fn func(typ uint16, v []byte)) {
	for len(b) >= 4 {
		n := int(native.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		fn(native.Uint16(b[2:])&typeMask, b[4:n])
		n = (n + 3) &^ 3
		b = b[min(n, len(b)):]
	}
}

// Link is what a link message says.
type Link struct {
	Index   int32
	Name    string
	Up      bool    // administratively up and running (carrier)
	Admin   bool    // administratively up
	MAC     [6]byte // zero when the link has none, or one of another size
	Moved   bool    // of a notice: a bond sends by another port, or the link asks for announcements
	Deleted bool
}

// parseLink reads the body of RTM_NEWLINK or RTM_DELLINK: ifinfomsg,
// attributes.
func parseLink(body []byte, l *Link) bool {
	if len(body) < unix.SizeofIfInfomsg {
		return false
	}
	flags := native.Uint32(body[8:])
	n := Link{
		Index: int32(native.Uint32(body[4:])),
		Up:    flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING != 0,
		Admin: flags&unix.IFF_UP != 0,
	}
	eachAttr(body[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
		switch {
		case typ == unix.IFLA_IFNAME && len(v) > 1:
			n.Name = string(v[:len(v)-1])
		case typ == unix.IFLA_ADDRESS && len(v) == 6:
			n.MAC = [6]byte(v)
		case typ == unix.IFLA_EVENT && len(v) == 4:
			e := native.Uint32(v)
			n.Moved = e == unix.IFLA_EVENT_BONDING_FAILOVER || e == unix.IFLA_EVENT_NOTIFY_PEERS
		}
	})
	*l = n
	return true
}

// AddressNote is what an address message says.
type AddressNote struct {
	Address
	Proto     uint8
	Secondary bool
	Deleted   bool
}

// parseAddress reads the body of RTM_NEWADDR or RTM_DELADDR: ifaddrmsg,
// attributes. It does not allocate.
func parseAddress(body []byte, a *AddressNote) bool {
	if len(body) < unix.SizeofIfAddrmsg {
		return false
	}
	n := AddressNote{Secondary: body[2]&unix.IFA_F_SECONDARY != 0}
	n.IfIndex = int32(native.Uint32(body[4:]))
	var ip netip.Addr
	for b := body[unix.SizeofIfAddrmsg:]; len(b) >= 4; {
		l := int(native.Uint16(b))
		if l < 4 || l > len(b) {
			return false
		}
		v := b[4:l]
		switch native.Uint16(b[2:]) & typeMask {
		case unix.IFA_LOCAL:
			ip, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			if !ip.IsValid() { // IPv6 has no IFA_LOCAL; on a tunnel this is the peer
				ip, _ = netip.AddrFromSlice(v)
			}
		case ifaProto:
			if len(v) == 1 {
				n.Proto = v[0]
			}
		}
		l = (l + 3) &^ 3
		b = b[min(l, len(b)):]
	}
	n.Prefix = netip.PrefixFrom(ip, int(body[1]))
	if !n.Prefix.IsValid() {
		return false
	}
	*a = n
	return true
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

// transport is the part of a group that concerns the wire: what its adverts
// carry, where they go, and from whom they are taken.
type transport struct {
	Checksum vrrp.Checksum
	AuthType uint8
	Auth     [8]byte
	Peers    []config.Peer // by unicast; empty: multicast
}

func wireTransport(g *config.Group) transport {
	t := transport{Peers: g.Peers}
	switch g.Checksum {
	case config.ChecksumPseudo:
		t.Checksum = vrrp.ChecksumPseudoHeader
	case config.ChecksumPlain:
		t.Checksum = vrrp.ChecksumMessage
	}
	if g.Password != "" {
		t.AuthType = vrrp.AuthText
		copy(t.Auth[:], g.Password)
	}
	return t
}

func (t *transport) append(b []byte) []byte {
	b = append(b, byte(t.Checksum), t.AuthType)
	b = append(b, t.Auth[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Peers)))
	for _, p := range t.Peers {
		b = append(appendAddr(b, p.Addr), p.TTL)
	}
	return b
}

func (t *transport) parse(r *reader) {
	t.Checksum, t.AuthType = vrrp.Checksum(r.u8()), r.u8()
	copy(t.Auth[:], r.take(len(t.Auth)))
	for count := int(r.u16()); count > 0 && !r.bad; count-- {
		p := config.Peer{Addr: r.addr(), TTL: r.u8()}
		r.bad = r.bad || !p.Addr.IsValid()
		t.Peers = append(t.Peers, p)
	}
	r.bad = r.bad || t.Checksum > vrrp.ChecksumMessage || t.AuthType > vrrp.AuthText
}

// v6 says whether the group is one of IPv6: its addresses are of one family.
func (g *group) v6() bool { return len(g.Addresses) > 0 && g.Addresses[0].Prefix.Addr().Is6() }

// multicast is where adverts of a family go.
func multicast(v6 bool) netip.Addr {
	if v6 {
		return vrrp.Group6
	}
	return vrrp.Group4
}

// meant says whether an advert came as this group's come, from a sender that
// it may come from: from one of the peers by unicast, or from anybody by
// multicast. The peer's TTL floor goes into m.
func (g *group) meant(m *vrrp.Meta) bool {
	if len(g.Wire.Peers) == 0 {
		return m.Dst == multicast(m.Src.Is6())
	}
	i := slices.IndexFunc(g.Wire.Peers, func(p config.Peer) bool { return p.Addr == m.Src })
	if i < 0 || m.Dst.IsMulticast() {
		return false
	}
	m.MinTTL = g.Wire.Peers[i].TTL
	return true
}

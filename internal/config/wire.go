// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Checksums of a group: what an advert of version 3 over IPv4 has in its sum.
const (
	ChecksumAuto   = "" // "auto": as the peer does, the pseudo-header until one was heard
	ChecksumPseudo = "pseudo-header"
	ChecksumPlain  = "message" // RFC 9568 section 5.2.8
)

// maxAdvert2 bounds version 2's interval: one byte of whole seconds (RFC 3768
// section 5.3.7).
const maxAdvert2 = 255 * time.Second

// maxTTL is what every advert is sent with, and the floor of peers on the link
// itself (RFC 9568 section 5.1.1.3).
const maxTTL = 255

// maxPassword is what version 2's authentication data hold.
const maxPassword = 8

// IPv6 says whether the group is one of IPv6: its addresses are of one family.
func (g *Group) IPv6() bool { return len(g.Addresses) > 0 && g.Addresses[0].Prefix.Addr().Is6() }

// readWire reads what a group puts on the wire and takes from it: version,
// interval, authentication, checksum, source and peers. The addresses have
// been read.
func readWire(t *table, g *Group, version int) {
	g.Version = int(t.number("version", int64(version), 2, 3))
	g.AdvertInterval = readInterval(t, g.Version)
	g.HelloSource = t.address("hello-source-address")
	if g.Checksum = t.choice("checksum", "auto", "auto", ChecksumPseudo, ChecksumPlain); g.Checksum == "auto" {
		g.Checksum = ChecksumAuto
	}
	g.Password = readPassword(t, g.Version)
	ttl := t.number("peer-ttl-minimum", maxTTL, 1, maxTTL)
	if g.Peers = t.peers("peer-address", uint8(ttl)); t.has("peer-ttl-minimum") && !t.has("peer-address") {
		t.refuse("peer-ttl-minimum", ttl, "is about peers by unicast, and there is no peer-address: by multicast it is always 255")
	}
	accept := t.flag("accept-mode")
	if g.NoAccept = t.has("accept-mode") && !accept; g.NoAccept && g.Priority == owner {
		t.refuse("accept-mode", accept, "with priority 255 the addresses are this router's own, which accepts what is sent to them: take the line out")
	}
	if g.Version == 2 && g.IPv6() {
		t.fault("version", "2: version 2 knows IPv4 only: write version = 3")
	}
	if g.Checksum != ChecksumAuto && (g.Version == 2 || g.IPv6()) {
		t.refuse("checksum", g.Checksum, "only version 3 over IPv4 has a choice: take the line out")
	}
	checkFamily(t, g)
	checkSource(t, g)
	checkPeers(t, g)
}

func readInterval(t *table, version int) time.Duration {
	const name = "advertise-interval"
	if version != 2 {
		return t.duration(name, time.Second, minAdvert, maxAdvert, advertStep)
	}
	d := t.duration(name, time.Second, 0, maxAdvert2, 0)
	if d < time.Second || d%time.Second != 0 {
		v, _ := t.get(name)
		t.refuse(name, v, "version 2 counts whole seconds, from 1s to 255s: write them, or version = 3 on every router of the group")
	}
	return d
}

// readPassword reads version 2's authentication. What is refused does not show
// the password.
func readPassword(t *table, version int) string {
	const name = "authentication"
	a := t.table(name)
	if a == nil {
		return ""
	}
	defer a.finish()
	kind, _ := a.get("type")
	value, _ := a.get("password")
	password, isText := value.(string)
	switch {
	case kind == "ah":
		a.refuse("type", kind, `is not offered: it never protected the addresses themselves: write "plaintext-password", or take the table out`)
	case a.has("type") && kind != "plaintext-password":
		a.refuse("type", kind, `must be "plaintext-password"`)
	case !a.has("type"):
		a.fault("type", `missing beside a password: write type = "plaintext-password"`)
	case !a.has("password"):
		a.fault("password", "missing: write the password that all routers of the group have, at most 8 characters")
	case !isText || !isPassword(password):
		a.fault("password", "must be 1 to 8 characters of ASCII, in quotes: version 2 has room for no more")
	case version == 3:
		t.fault(name, "version 3 has no authentication: take the table out, or write version = 2")
	default:
		return password
	}
	return ""
}

func isPassword(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxPassword
}

const peerRule = `must be a unicast address without prefix length, as "10.0.0.3", or { address = "10.0.0.3", ttl-minimum = 254 }`

// peers gives other routers, each once: strings, or tables that name a TTL
// floor other than ttl.
func (t *table) peers(name string, ttl uint8) (out []Peer) {
	items, ok := t.items(name)
	if !ok {
		return nil
	}
	if len(items) == 0 {
		t.fault(name, "empty list: name the other routers of the group, or take the line out for multicast")
	}
	for _, item := range items {
		p, ok := onePeer(item, ttl)
		switch {
		case !ok:
			t.refuse(name, item, peerRule)
		case slices.ContainsFunc(out, func(q Peer) bool { return q.Addr == p.Addr }):
			t.refuse(name, p.Addr.String(), "stands there twice")
		default:
			out = append(out, p)
		}
	}
	return out
}

func onePeer(item any, ttl uint8) (p Peer, ok bool) {
	p.TTL = ttl
	text, isText := item.(string)
	if m, isTable := item.(map[string]any); isTable {
		text, isText = m["address"].(string)
		for k, v := range m {
			n, isNumber := v.(int64)
			switch {
			case k == "ttl-minimum" && isNumber && n >= 1 && n <= maxTTL:
				p.TTL = uint8(n)
			case k != "address":
				return p, false
			}
		}
	}
	a, err := netip.ParseAddr(text)
	p.Addr = a
	return p, isText && err == nil && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6() && a.Zone() == ""
}

// family is a family's name in sentences.
func family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// maxAddresses: the count is one byte, and an advert is not fragmented: of IPv6
// no more fit what the BPF program copies of a packet (shared.h: ADVERT_LARGE).
func maxAddresses(v6 bool) int {
	if v6 {
		return 88
	}
	return 255
}

// checkFamily: one family in a group, and for IPv6 the link-local address
// first, which hosts have as their router (RFC 9568 section 5.2.9).
func checkFamily(t *table, g *Group) {
	v6 := g.IPv6()
	if most := maxAddresses(v6); len(g.Addresses) > most {
		t.fault("address", "%d addresses: an advert has room for %d of %s: write the others into excluded-address", len(g.Addresses), most, family(v6))
	}
	for i, a := range g.Addresses {
		ip := a.Prefix.Addr()
		if ip.Is6() != v6 {
			t.refuse("address", a.Prefix.String(), "is %s, and the first is %s: a group advertises one family, so make a group of each",
				family(ip.Is6()), family(v6))
		}
		if i == 0 && v6 && !ip.IsLinkLocalUnicast() {
			t.refuse("address", a.Prefix.String(), `the first address of an IPv6 group must be link-local, as "fe80::%d/64", the same on every router: hosts have it as their router`, g.VRID)
		}
	}
}

func checkSource(t *table, g *Group) {
	const name = "hello-source-address"
	v6 := g.IPv6()
	switch src := g.HelloSource; {
	case !src.IsValid() || len(g.Addresses) == 0:
	case src.Zone() != "":
		t.refuse(name, src.String(), "must be without a zone: it is an address of %s", g.Interface)
	case src.Is6() != v6:
		t.refuse(name, src.String(), "must be of the family of the group's addresses, %s", family(v6))
	case v6 && !src.IsLinkLocalUnicast() && len(g.Peers) == 0:
		t.refuse(name, src.String(), "must be link-local: by multicast IPv6 adverts are sent from such an address only")
	case g.isVirtual(src):
		t.refuse(name, src.String(), "is a virtual address of this group: name one that stays on this router")
	}
}

func (g *Group) isVirtual(a netip.Addr) bool {
	return slices.ContainsFunc(g.Addresses, func(v Address) bool { return v.Prefix.Addr() == a })
}

func checkPeers(t *table, g *Group) {
	const name = "peer-address"
	v6 := g.IPv6()
	for i := range g.Peers {
		p, what := g.Peers[i].Addr, ""
		switch {
		case len(g.Addresses) == 0:
		case p.Is6() != v6:
			what = fmt.Sprintf("must be of the family of the group's addresses, %s", family(v6))
		case g.isVirtual(p):
			what = "is a virtual address of this group: name the peer's own"
		case p == g.HelloSource:
			what = "is this router's own hello-source-address: name the other router's"
		case v6 && !p.IsLinkLocalUnicast() && !g.HelloSource.IsValid():
			what = "is not link-local, so write hello-source-address too: the address of this router that the peers know"
		}
		if what != "" {
			t.refuse(name, p.String(), "%s", what)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// ruleTable is the name of the lab's own table in each router.
const ruleTable = "lab"

// rules gives a router what a small office has: DNAT of the WAN VIP's ports,
// source translation of what leaves the LAN, and a forward chain that lets in
// only what is established, related, from the LAN or DNATed. In nft's words:
//
//	prerouting   iif eth1* ip daddr WANVIP {tcp,udp} dport 20000-20999 dnat to 10.0.0.10
//	prerouting   iif eth1* ip daddr WANVIP {tcp,udp} dport 21000-31999 dnat to 10.0.0.50
//	postrouting  oif eth1 ip saddr 10.0.0.0/24 snat to WANVIP fully-random
//	forward      policy drop; ct state established,related accept;
//	             iif eth0* accept; iif eth3 accept; ct status dnat accept
//
// What is sent to a virtual MAC comes in by its own device, eth0v10v4: eth0*.
// With Options.IPv6 a table of the same name has the same for IPv6.
func (n *Namespace) rules(opts Options) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.handle)))
	if err != nil {
		return fmt.Errorf("open nftables in %q: %w", n.Name, err)
	}
	families := []*family{&ipv4}
	if opts.IPv6 {
		families = append(families, &ipv6)
	}
	for _, f := range families {
		t := c.AddTable(&nftables.Table{Name: ruleTable, Family: f.table})
		addNAT(c, t, f, opts.NAT)
		addForward(c, t)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("load rules into %q: %w", n.Name, err)
	}
	return nil
}

// family is what the rules need to know of one.
type family struct {
	table             nftables.TableFamily
	nf                uint32       // NFPROTO_*
	src, dst, size    uint32       // of the addresses in the IP header
	lan, wan          netip.Prefix // virtual addresses
	client, stationed netip.Addr   // where ports of the WAN VIP go; the second invalid: there is none
}

var (
	ipv4 = family{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, 12, 16, 4, LANVIP, WANVIP, ClientAddr.Addr(), LANCrowd.Addr()}
	ipv6 = family{nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, 8, 24, 16, LANVIP6, WANVIP6, ClientAddr6.Addr(), netip.Addr{}}
)

func addNAT(c *nftables.Conn, t *nftables.Table, f *family, nat NAT) {
	pre := c.AddChain(&nftables.Chain{Name: "prerouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	post := c.AddChain(&nftables.Chain{Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	if nat == NoNAT {
		return
	}
	for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		c.AddRule(&nftables.Rule{Table: t, Chain: pre, Exprs: f.dnat(proto, DNATHostFirst, DNATHostLast, f.client)})
		if f.stationed.IsValid() {
			c.AddRule(&nftables.Rule{Table: t, Chain: pre, Exprs: f.dnat(proto, DNATCrowdFirst, DNATCrowdLast, f.stationed)})
		}
	}
	exprs := append(ifName(expr.MetaKeyOIFNAME, "eth1"), f.fromLAN()...)
	switch nat {
	case Masquerade:
		exprs = append(exprs, &expr.Masq{})
	default:
		exprs = append(exprs, &expr.Immediate{Register: 1, Data: f.wan.Addr().AsSlice()},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: f.nf, RegAddrMin: 1, FullyRandom: nat == SNATRandom})
	}
	c.AddRule(&nftables.Rule{Table: t, Chain: post, Exprs: exprs})
}

func addForward(c *nftables.Conn, t *nftables.Table) {
	drop := nftables.ChainPolicyDrop
	fwd := c.AddChain(&nftables.Chain{Name: "forward", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	accept := &expr.Verdict{Kind: expr.VerdictAccept}
	for _, match := range [][]expr.Any{
		ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED),
		ifPrefix(expr.MetaKeyIIFNAME, "eth0"),
		ifName(expr.MetaKeyIIFNAME, "eth3"),
		ctBits(expr.CtKeySTATUS, 1<<5), // IPS_DST_NAT
	} {
		c.AddRule(&nftables.Rule{Table: t, Chain: fwd, Exprs: append(match, accept)})
	}
}

func ifName(key expr.MetaKey, name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b},
	}
}

// ifPrefix matches every interface whose name begins so.
func ifPrefix(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(name)},
	}
}

// ctBits matches when any of the bits is set.
func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func (f *family) fromLAN() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.src, Len: f.size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.size, Mask: net.CIDRMask(f.lan.Bits(), int(f.size)*8), Xor: make([]byte, f.size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: f.lan.Masked().Addr().AsSlice()},
	}
}

func (f *family) dnat(proto byte, first, last uint16, to netip.Addr) []expr.Any {
	return append(ifPrefix(expr.MetaKeyIIFNAME, "eth1"),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.dst, Len: f.size},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: f.wan.Addr().AsSlice()},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: binaryutil.BigEndian.PutUint16(first), ToData: binaryutil.BigEndian.PutUint16(last)},
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.nf, RegAddrMin: 1},
	)
}

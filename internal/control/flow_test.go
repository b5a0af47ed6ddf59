// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/conntrack"
)

func tuple(src string, sport uint16, dst string, dport uint16) conntrack.Tuple {
	return conntrack.Tuple{Src: conntrack.AddrFrom(netip.MustParseAddr(src)), Dst: conntrack.AddrFrom(netip.MustParseAddr(dst)),
		SrcPort: sport, DstPort: dport}
}

// own is this node's address that stays with it; .1 is the virtual one.
var own = netip.MustParseAddr("203.0.113.2")

func isOwn(a netip.Addr) bool { return a == own }

var (
	plain = conntrack.Flow{Family: conntrack.IPv4, Proto: 17, Status: conntrack.SeenReply, Timeout: 30,
		Orig: tuple("10.0.0.5", 5000, "198.51.100.7", 53), Reply: tuple("198.51.100.7", 53, "10.0.0.5", 5000)}
	snat = conntrack.Flow{Family: conntrack.IPv4, Proto: 6, Status: conntrack.Assured | conntrack.SeenReply, Mark: 7, Zone: 3,
		TCP:  conntrack.TCP{State: conntrack.TCPEstablished},
		Orig: tuple("10.0.0.5", 5000, "198.51.100.7", 443), Reply: tuple("198.51.100.7", 443, "203.0.113.1", 5000)}
	masq = conntrack.Flow{Family: conntrack.IPv4, Proto: 6, TCP: conntrack.TCP{State: conntrack.TCPSynRecv},
		Orig: tuple("10.0.0.5", 5000, "198.51.100.7", 443), Reply: tuple("198.51.100.7", 443, "203.0.113.2", 6000)}
	dnat = conntrack.Flow{Family: conntrack.IPv4, Proto: 17,
		Orig: tuple("198.51.100.7", 4000, "203.0.113.2", 53), Reply: tuple("10.0.0.9", 53, "198.51.100.7", 4000)}
	both = conntrack.Flow{Family: conntrack.IPv4, Proto: 17,
		Orig: tuple("10.0.0.5", 4000, "203.0.113.1", 53), Reply: tuple("10.0.0.9", 53, "10.0.0.1", 4000)}
	six = conntrack.Flow{Family: conntrack.IPv6, Proto: 58,
		Orig: tuple("2001:db8::5", 9, "2001:db8:1::7", 128<<8), Reply: tuple("2001:db8:1::7", 9, "2001:db8::5", 129<<8)}
	odd = conntrack.Flow{Family: conntrack.IPv4, Proto: 89,
		Orig: tuple("10.0.0.5", 0, "198.51.100.7", 0), Reply: tuple("198.51.100.7", 0, "10.0.0.5", 0)}
)

func TestShow(t *testing.T) {
	fl, err := NewFilter(FlowQuery{}, isOwn)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		flow conntrack.Flow
		want Flow
	}{
		{"plain", plain, Flow{Family: "ipv4", Protocol: "udp", Status: "replied", Timeout: 30,
			Original: Tuple{"10.0.0.5", "198.51.100.7", 5000, 53}, Reply: Tuple{"198.51.100.7", "10.0.0.5", 53, 5000}}},
		{"snat to the virtual address", snat, Flow{Family: "ipv4", Protocol: "tcp", State: "ESTABLISHED", Status: "assured", NAT: "snat", Mark: 7, Zone: 3,
			Original: Tuple{"10.0.0.5", "198.51.100.7", 5000, 443}, Reply: Tuple{"198.51.100.7", "203.0.113.1", 443, 5000}}},
		{"masquerade", masq, Flow{Family: "ipv4", Protocol: "tcp", State: "SYN-RECEIVED", Status: "new", NAT: "snat",
			Original: Tuple{"10.0.0.5", "198.51.100.7", 5000, 443}, Reply: Tuple{"198.51.100.7", "203.0.113.2", 443, 6000},
			Stranded: "its source is translated to 203.0.113.2, which stays with this node",
			Remedy:   "translate to a virtual address: snat instead of masquerade"}},
		{"dnat from an address that stays", dnat, Flow{Family: "ipv4", Protocol: "udp", Status: "new", NAT: "dnat",
			Original: Tuple{"198.51.100.7", "203.0.113.2", 4000, 53}, Reply: Tuple{"10.0.0.9", "198.51.100.7", 53, 4000},
			Stranded: "it is addressed to 203.0.113.2, which stays with this node",
			Remedy:   "give its clients a virtual address, and translate from that one"}},
		{"hairpin", both, Flow{Family: "ipv4", Protocol: "udp", Status: "new", NAT: "snat+dnat",
			Original: Tuple{"10.0.0.5", "203.0.113.1", 4000, 53}, Reply: Tuple{"10.0.0.9", "10.0.0.1", 53, 4000}}},
		{"IPv6", six, Flow{Family: "ipv6", Protocol: "icmp6", Status: "new",
			Original: Tuple{"2001:db8::5", "2001:db8:1::7", 9, 128 << 8}, Reply: Tuple{"2001:db8:1::7", "2001:db8::5", 9, 129 << 8}}},
		{"no name, no ports", odd, Flow{Family: "ipv4", Protocol: "89", Status: "new",
			Original: Tuple{"10.0.0.5", "198.51.100.7", 0, 0}, Reply: Tuple{"198.51.100.7", "10.0.0.5", 0, 0}}},
	} {
		got := Flow{Peer: "left over"}
		if !fl.Show(&tt.flow, &got) {
			t.Errorf("%s: not selected", tt.name)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

func TestFilter(t *testing.T) {
	all := map[string]*conntrack.Flow{"plain": &plain, "snat": &snat, "masq": &masq, "dnat": &dnat, "both": &both, "six": &six, "odd": &odd}
	for _, tt := range []struct {
		q    FlowQuery
		want []string
	}{
		{FlowQuery{Protocol: "tcp"}, []string{"masq", "snat"}},
		{FlowQuery{Protocol: "89"}, []string{"odd"}},
		{FlowQuery{State: "syn_received"}, []string{"masq"}},
		{FlowQuery{State: "NONE"}, nil},
		{FlowQuery{Address: "203.0.113.1"}, []string{"both", "snat"}},
		{FlowQuery{Address: "2001:db8::/48"}, []string{"six"}},
		{FlowQuery{Stranded: true}, []string{"dnat", "masq"}},
		{FlowQuery{Stranded: true, Protocol: "udp"}, []string{"dnat"}},
	} {
		fl, err := NewFilter(tt.q, isOwn)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, name := range []string{"both", "dnat", "masq", "odd", "plain", "six", "snat"} {
			if fl.Show(all[name], &Flow{}) {
				got = append(got, name)
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.q, d)
		}
	}
}

func TestFilterRefuses(t *testing.T) {
	for _, tt := range []struct {
		q    FlowQuery
		want string
	}{
		{FlowQuery{Source: "cache"}, `source "cache": must be kernel, own or view`},
		{FlowQuery{Peer: "r2"}, `peer "r2": only a view belongs to a peer`},
		{FlowQuery{Protocol: "256"}, `protocol "256": must be a name such as tcp, or a number from 0 to 255`},
		{FlowQuery{State: "OPEN"}, `state "OPEN": must be one of NONE, SYN-SENT, SYN-RECEIVED, ESTABLISHED, FIN-WAIT, CLOSE-WAIT, LAST-ACK, TIME-WAIT, CLOSE, SYN-SENT2`},
		{FlowQuery{Address: "10.0.0"}, `address "10.0.0": must be an address or a prefix`},
		{FlowQuery{Limit: -1}, `limit -1: must not be negative`},
	} {
		if _, err := NewFilter(tt.q, nil); err == nil || err.Error() != tt.want {
			t.Errorf("%+v: got %v, want %s", tt.q, err, tt.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// protocolNames are shown instead of numbers.
var protocolNames = map[uint8]string{
	unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmp6",
	unix.IPPROTO_SCTP: "sctp", unix.IPPROTO_DCCP: "dccp", unix.IPPROTO_GRE: "gre", unix.IPPROTO_UDPLITE: "udplite",
	unix.IPPROTO_ESP: "esp", unix.IPPROTO_AH: "ah", unix.IPPROTO_IGMP: "igmp", 112: "vrrp",
}

// ProtocolName gives the name, or the number where there is none.
func ProtocolName(proto uint8) string {
	if s, ok := protocolNames[proto]; ok {
		return s
	}
	return strconv.Itoa(int(proto))
}

// stateNames are RFC 9293's where it has them; SYN-SENT2 is the kernel's.
var stateNames = [...]string{
	conntrack.TCPNone: "NONE", conntrack.TCPSynSent: "SYN-SENT", conntrack.TCPSynRecv: "SYN-RECEIVED",
	conntrack.TCPEstablished: "ESTABLISHED", conntrack.TCPFinWait: "FIN-WAIT", conntrack.TCPCloseWait: "CLOSE-WAIT",
	conntrack.TCPLastAck: "LAST-ACK", conntrack.TCPTimeWait: "TIME-WAIT", conntrack.TCPClose: "CLOSE", conntrack.TCPSynSent2: "SYN-SENT2",
}

func stateName(s conntrack.TCPState) string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return strconv.Itoa(int(s))
}

// Filter is a FlowQuery made ready, and turns flows into what is shown. It is
// safe for concurrent use.
type Filter struct {
	stranded bool
	proto    int // -1: any
	state    string
	prefix   netip.Prefix
	local    func(netip.Addr) bool
}

// NewFilter refuses a query that makes no sense, with a sentence. local says
// whether an address belongs to this node and does not move (is not a virtual
// one); nil: none is known.
func NewFilter(q FlowQuery, local func(netip.Addr) bool) (*Filter, error) {
	f := &Filter{stranded: q.Stranded, proto: -1, local: local}
	switch q.Source {
	case "", SourceKernel, SourceOwn, SourceView:
	default:
		return nil, fmt.Errorf("source %q: must be %s, %s or %s", q.Source, SourceKernel, SourceOwn, SourceView)
	}
	if q.Peer != "" && q.Source != SourceView {
		return nil, fmt.Errorf("peer %q: only a view belongs to a peer", q.Peer)
	}
	if q.Limit < 0 {
		return nil, fmt.Errorf("limit %d: must not be negative", q.Limit)
	}
	return f, f.parse(q)
}

func (f *Filter) parse(q FlowQuery) error {
	if q.Protocol != "" {
		n, err := strconv.ParseUint(q.Protocol, 10, 8)
		if err == nil {
			f.proto = int(n)
		}
		for num, name := range protocolNames {
			if name == q.Protocol {
				f.proto = int(num)
			}
		}
		if f.proto < 0 {
			return fmt.Errorf("protocol %q: must be a name such as tcp, or a number from 0 to 255", q.Protocol)
		}
	}
	if q.State != "" {
		f.state = strings.ReplaceAll(strings.ToUpper(q.State), "_", "-")
		if !slices.Contains(stateNames[:], f.state) {
			return fmt.Errorf("state %q: must be one of %s", q.State, strings.Join(stateNames[:], ", "))
		}
	}
	if q.Address != "" {
		p, err := netip.ParsePrefix(q.Address)
		if a, aerr := netip.ParseAddr(q.Address); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return fmt.Errorf("address %q: must be an address or a prefix", q.Address)
		}
		f.prefix = p
	}
	return nil
}

// Show fills out from f, all but Source and Peer, and says whether the query
// selects it. out is untouched when it does not.
func (fl *Filter) Show(f *conntrack.Flow, out *Flow) bool {
	if fl.proto >= 0 && int(f.Proto) != fl.proto {
		return false
	}
	if fl.state != "" && (f.Proto != unix.IPPROTO_TCP || stateName(f.TCP.State) != fl.state) {
		return false
	}
	if fl.prefix.IsValid() && !fl.touches(f) {
		return false
	}
	why, remedy := fl.Stranded(f)
	if fl.stranded && why == "" {
		return false
	}
	*out = Flow{
		Family:   "ipv4",
		Protocol: ProtocolName(f.Proto),
		Original: showTuple(&f.Orig, f.Family),
		Reply:    showTuple(&f.Reply, f.Family),
		Status:   showStatus(f.Status),
		NAT:      showNAT(f),
		Mark:     f.Mark,
		Timeout:  f.Timeout,
		Zone:     f.Zone,
		Stranded: why,
		Remedy:   remedy,
	}
	if f.Family == conntrack.IPv6 {
		out.Family = "ipv6"
	}
	if f.Proto == unix.IPPROTO_TCP {
		out.State = stateName(f.TCP.State)
	}
	return true
}

func (fl *Filter) touches(f *conntrack.Flow) bool {
	for _, a := range [...]conntrack.Addr{f.Orig.Src, f.Orig.Dst, f.Reply.Src, f.Reply.Dst} {
		if fl.prefix.Contains(a.IP(f.Family)) {
			return true
		}
	}
	return false
}

// Stranded says why no copy can save a flow, and what to change; both empty
// when a copy can. A flow is stranded when it is translated to an address that
// stays with this node.
func (fl *Filter) Stranded(f *conntrack.Flow) (why, remedy string) {
	if fl.local == nil {
		return "", ""
	}
	if to := f.Reply.Dst.IP(f.Family); f.SNAT() && fl.local(to) {
		return fmt.Sprintf("its source is translated to %s, which stays with this node", to),
			"translate to a virtual address: snat instead of masquerade"
	}
	if to := f.Orig.Dst.IP(f.Family); f.DNAT() && fl.local(to) {
		return fmt.Sprintf("it is addressed to %s, which stays with this node", to),
			"give its clients a virtual address, and translate from that one"
	}
	return "", ""
}

func showTuple(t *conntrack.Tuple, family uint8) Tuple {
	return Tuple{Src: t.Src.IP(family).String(), Dst: t.Dst.IP(family).String(), SrcPort: t.SrcPort, DstPort: t.DstPort}
}

func showStatus(s conntrack.Status) string {
	switch {
	case s&conntrack.Assured != 0:
		return "assured"
	case s&conntrack.SeenReply != 0:
		return "replied"
	}
	return "new"
}

func showNAT(f *conntrack.Flow) string {
	switch s, d := f.SNAT(), f.DNAT(); {
	case s && d:
		return "snat+dnat"
	case s:
		return "snat"
	case d:
		return "dnat"
	}
	return ""
}

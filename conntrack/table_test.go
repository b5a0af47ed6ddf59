// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	unreplied   = Confirmed
	replied     = SeenReply | Confirmed
	established = SeenReply | Assured | Confirmed
)

func addr(s string) Addr { return AddrFrom(netip.MustParseAddr(s)) }

func tuple(src, dst string, sport, dport uint16) Tuple {
	return Tuple{Src: addr(src), Dst: addr(dst), SrcPort: sport, DstPort: dport}
}

// echo is an ICMP tuple: identifier, type, code 0.
func echo(src, dst string, id uint16, typ uint8) Tuple { return tuple(src, dst, id, uint16(typ)<<8) }

func tcp4(reply Tuple) Flow {
	return Flow{
		Family: IPv4, Proto: unix.IPPROTO_TCP, Status: established, Timeout: 300,
		Orig:  tuple("10.0.0.7", "198.51.100.9", 40000, 443),
		Reply: reply,
		TCP:   TCP{State: TCPEstablished, Flags: [2]uint8{3, 3}, Scale: [2]uint8{7, 9}},
	}
}

func tcp6(reply Tuple) Flow {
	f := tcp4(reply)
	f.Family, f.Orig = IPv6, tuple("fd00::7", "2001:db8::9", 40000, 443)
	return f
}

func flow(family, proto uint8, orig, reply Tuple) Flow {
	return Flow{Family: family, Proto: proto, Status: replied, Timeout: 100, Orig: orig, Reply: reply}
}

func with(f Flow, change func(*Flow)) Flow {
	change(&f)
	return f
}

var (
	plain4    = tuple("198.51.100.9", "10.0.0.7", 443, 40000)
	snat4     = tuple("198.51.100.9", "203.0.113.1", 443, 51000)
	plain6    = tuple("2001:db8::9", "fd00::7", 443, 40000)
	generic   = tuple("10.0.0.7", "198.51.100.9", 0, 0)
	genericR  = tuple("198.51.100.9", "10.0.0.7", 0, 0)
	genericRN = tuple("198.51.100.9", "203.0.113.1", 0, 0)
)

// kinds is one flow of every kind that tandem replicates, as a dump shows it.
var kinds = []struct {
	name string
	flow Flow
}{
	{"tcp4", tcp4(plain4)},
	{"tcp4 snat", tcp4(snat4)},
	{"tcp4 snat, port kept", tcp4(tuple("198.51.100.9", "203.0.113.1", 443, 40000))},
	{"tcp4 snat, port only", tcp4(tuple("198.51.100.9", "10.0.0.7", 443, 51000))},
	{"tcp4 dnat", tcp4(tuple("192.168.1.5", "10.0.0.7", 8443, 40000))},
	{"tcp4 dnat, port kept", tcp4(tuple("192.168.1.5", "10.0.0.7", 443, 40000))},
	{"tcp4 dnat, port only", tcp4(tuple("198.51.100.9", "10.0.0.7", 8443, 40000))},
	{"tcp4 snat and dnat", tcp4(tuple("192.168.1.5", "203.0.113.1", 8443, 51000))},
	{"tcp6", tcp6(plain6)},
	{"tcp6 snat", tcp6(tuple("2001:db8::9", "2001:db8:1::1", 443, 51000))},
	{"tcp6 dnat", tcp6(tuple("fd01::5", "fd00::7", 8443, 40000))},
	{"tcp6 snat and dnat", tcp6(tuple("fd01::5", "2001:db8:1::1", 8443, 51000))},
	{"tcp4 without scale", with(tcp4(snat4), func(f *Flow) { f.TCP = TCP{State: TCPEstablished} })},
	{"tcp4 liberal", with(tcp4(snat4), func(f *Flow) { f.TCP.Flags = [2]uint8{0x0b, 0x0f} })},
	{"tcp4 with mark", with(tcp4(snat4), func(f *Flow) { f.Mark = 0xdeadbeef })},
	{"tcp4 in zone", with(tcp4(snat4), func(f *Flow) { f.Zone = 7 })},
	{"tcp4 in zone, original only", with(tcp4(snat4), func(f *Flow) { f.Zone, f.ZoneDir = 7, ZoneOrig })},
	{"tcp4 in zone, reply only", with(tcp4(snat4), func(f *Flow) { f.Zone, f.ZoneDir = 7, ZoneReply })},
	{"tcp4 fixed timeout", with(tcp4(snat4), func(f *Flow) { f.Status |= FixedTimeout })},
	{"tcp4 long timeout", with(tcp4(snat4), func(f *Flow) { f.Timeout = 432000 })},
	{"tcp4 syn sent", with(tcp4(snat4), func(f *Flow) { f.TCP.State, f.Status = TCPSynSent, unreplied })},
	{"udp4", flow(IPv4, unix.IPPROTO_UDP, tuple("10.0.0.7", "9.9.9.9", 5353, 53), tuple("9.9.9.9", "10.0.0.7", 53, 5353))},
	{"udp4 snat", flow(IPv4, unix.IPPROTO_UDP, tuple("10.0.0.7", "9.9.9.9", 5353, 53), tuple("9.9.9.9", "203.0.113.1", 53, 1025))},
	{"udp4 assured", with(flow(IPv4, unix.IPPROTO_UDP, generic, genericRN), func(f *Flow) { f.Status = established })},
	{"udp4 unreplied", with(flow(IPv4, unix.IPPROTO_UDP, generic, genericRN), func(f *Flow) { f.Status = unreplied })},
	{"udp6 dnat", flow(IPv6, unix.IPPROTO_UDP, tuple("fd00::7", "2001:db8::9", 1, 2), tuple("fd01::5", "fd00::7", 3, 1))},
	{"udplite4 snat", flow(IPv4, unix.IPPROTO_UDPLITE, tuple("10.0.0.7", "9.9.9.9", 5353, 53), tuple("9.9.9.9", "203.0.113.1", 53, 1025))},
	{"icmp4", flow(IPv4, unix.IPPROTO_ICMP, echo("10.0.0.7", "9.9.9.9", 77, 8), echo("9.9.9.9", "10.0.0.7", 77, 0))},
	{"icmp4 snat", flow(IPv4, unix.IPPROTO_ICMP, echo("10.0.0.7", "9.9.9.9", 77, 8), echo("9.9.9.9", "203.0.113.1", 4711, 0))},
	{"icmp4 snat, id kept", flow(IPv4, unix.IPPROTO_ICMP, echo("10.0.0.7", "9.9.9.9", 77, 8), echo("9.9.9.9", "203.0.113.1", 77, 0))},
	{"icmp4 dnat", flow(IPv4, unix.IPPROTO_ICMP, echo("10.0.0.7", "9.9.9.9", 77, 8), echo("192.168.1.5", "10.0.0.7", 77, 0))},
	{"icmp4 snat and dnat", flow(IPv4, unix.IPPROTO_ICMP, echo("10.0.0.7", "9.9.9.9", 77, 8), echo("192.168.1.5", "203.0.113.1", 4711, 0))},
	{"icmp4 timestamp", flow(IPv4, unix.IPPROTO_ICMP, echo("10.0.0.7", "9.9.9.9", 77, 13), echo("9.9.9.9", "10.0.0.7", 77, 14))},
	{"icmp6", flow(IPv6, unix.IPPROTO_ICMPV6, echo("fd00::7", "2001:db8::9", 77, 128), echo("2001:db8::9", "fd00::7", 77, 129))},
	{"icmp6 snat", flow(IPv6, unix.IPPROTO_ICMPV6, echo("fd00::7", "2001:db8::9", 77, 128), echo("2001:db8::9", "2001:db8:1::1", 4711, 129))},
	{"sctp4 snat", with(flow(IPv4, unix.IPPROTO_SCTP, tuple("10.0.0.7", "9.9.9.9", 5000, 3868), tuple("9.9.9.9", "203.0.113.1", 3868, 1025)),
		func(f *Flow) { f.SCTP = SCTP{State: 4, VTag: [2]uint32{0x11223344, 0xa0b0c0d0}} })},
	{"sctp6", with(flow(IPv6, unix.IPPROTO_SCTP, tuple("fd00::7", "2001:db8::9", 5000, 3868), tuple("2001:db8::9", "fd00::7", 3868, 5000)),
		func(f *Flow) { f.SCTP = SCTP{State: 4, VTag: [2]uint32{1, 2}} })},
	{"gre4", with(flow(IPv4, unix.IPPROTO_GRE, generic, genericR), func(f *Flow) { f.Status |= FixedTimeout })},
	{"gre4 snat", with(flow(IPv4, unix.IPPROTO_GRE, generic, genericRN), func(f *Flow) { f.Status |= FixedTimeout })},
	{"gre4 keys", with(flow(IPv4, unix.IPPROTO_GRE, tuple("10.0.0.7", "9.9.9.9", 3, 4), tuple("9.9.9.9", "10.0.0.7", 4, 3)),
		func(f *Flow) { f.Status |= FixedTimeout })},
	{"esp4 snat", flow(IPv4, unix.IPPROTO_ESP, generic, genericRN)},
}

// TestRoundTrip creates every kind in a table of its own, dumps it, gets it,
// and compares everything that a Flow holds.
func TestRoundTrip(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			newNamespace(t)
			table := openTable(t)
			mustApply(t, table, Op{Flow: kind.flow})
			want := asShown(kind.flow)
			compareFlow(t, "dump", want, onlyFlow(t, table))
			var got Flow
			key := kind.flow.Key()
			if ok, err := table.Get(&key, &got); err != nil || !ok {
				t.Fatalf("Get: %v, %v", ok, err)
			}
			compareFlow(t, "get", want, got)
			mustApply(t, table, Op{Kind: OpReplace, Flow: got}) // what was read can be written
			compareFlow(t, "replaced", want, onlyFlow(t, table))
			mustApply(t, table, Op{Kind: OpDelete, Flow: got})
			if flows := dump(t, table); len(flows) != 0 {
				t.Errorf("still there: %v", flows)
			}
		})
	}
}

// TestRoundTripTogether has all kinds that do not clash in one table, by one
// Apply: two families and three zones in one dump.
func TestRoundTripTogether(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	want := map[Key]Flow{}
	var ops []Op
	for i, kind := range kinds {
		f := kind.flow
		f.Zone, f.ZoneDir = uint16(100+i), ZoneBoth // kinds share tuples
		want[f.Key()] = f
		ops = append(ops, Op{Flow: f})
	}
	mustApply(t, table, ops...)
	got := dump(t, table)
	if len(got) != len(want) {
		t.Errorf("dump shows %d flows, want %d", len(got), len(want))
	}
	for _, f := range got {
		compareFlow(t, "dump", asShown(want[f.Key()]), f)
	}
}

// asShown adds what the kernel sets itself: the bits of NAT.
func asShown(f Flow) Flow {
	f.Status &= statusRestored | Confirmed
	if f.SNAT() {
		f.Status |= SrcNAT
	}
	if f.DNAT() {
		f.Status |= DstNAT
	}
	return f
}

// passed is how many seconds of a timeout may have run since it was written, on
// a machine that stood still.
const passed = 20

// compareFlow compares a flow with what was read back. SRC_NAT_DONE and the
// like are the kernel's own; some of the timeout may have passed.
func compareFlow(t testing.TB, what string, want, got Flow) {
	t.Helper()
	got.Status &= statusRestored | Confirmed | SrcNAT | DstNAT
	if got.Timeout <= want.Timeout && got.Timeout+passed >= want.Timeout {
		got.Timeout = want.Timeout
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func mustApply(t testing.TB, table *Table, ops ...Op) {
	t.Helper()
	if err := table.Apply(ops); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	for i := range ops {
		if ops[i].Err != nil {
			t.Errorf("op %d (%+v): %v", i, ops[i].Flow, ops[i].Err)
		}
	}
}

// refuse applies one op and gives the kernel's refusal, nil if it took it.
func refuse(t testing.TB, table *Table, kind OpKind, f Flow) error {
	t.Helper()
	ops := []Op{{Kind: kind, Flow: f}}
	if err := table.Apply(ops); err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return ops[0].Err
}

func dump(t testing.TB, table *Table) (flows []Flow) {
	t.Helper()
	err := table.Dump(func(f *Flow) error { flows = append(flows, *f); return nil })
	if err != nil {
		t.Fatalf("Dump: %v", err)
	}
	return flows
}

func onlyFlow(t testing.TB, table *Table) Flow {
	t.Helper()
	flows := dump(t, table)
	if len(flows) != 1 {
		t.Fatalf("dump shows %d flows, want 1: %+v", len(flows), flows)
	}
	return flows[0]
}

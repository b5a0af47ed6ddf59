// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	timo "github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

// TestDumpAgainstOracle has ti-mo/conntrack read the same table: another
// decoder, of other people, must see the same in every kind.
func TestDumpAgainstOracle(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	var ops []Op
	for i, kind := range kinds {
		f := kind.flow
		if f.ZoneDir == ZoneBoth {
			f.Zone = uint16(100 + i) // kinds share tuples
		}
		ops = append(ops, Op{Flow: f})
	}
	mustApply(t, table, ops...)
	oracle, err := timo.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer oracle.Close()
	theirs, err := oracle.Dump(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[Key]Flow{}
	for i := range theirs {
		f := fromOracle(&theirs[i])
		want[f.Key()] = f
	}
	got := map[Key]Flow{}
	for _, f := range dump(t, table) {
		if w := want[f.Key()]; w.Timeout-f.Timeout <= passed { // between the two
			f.Timeout = w.Timeout
		}
		got[f.Key()] = f
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-oracle +ours):\n%s", diff)
	}
	if len(got) != len(kinds) {
		t.Errorf("%d flows, want %d", len(got), len(kinds))
	}
}

func fromOracle(o *timo.Flow) Flow {
	f := Flow{
		Orig: oracleTuple(&o.TupleOrig), Reply: oracleTuple(&o.TupleReply), Status: Status(o.Status),
		Mark: o.Mark, Timeout: o.Timeout, Zone: o.Zone, Family: IPv6, Proto: o.TupleOrig.Proto.Protocol,
	}
	if o.TupleOrig.IP.SourceAddress.Is4() {
		f.Family = IPv4
	}
	if o.TupleOrig.Zone != 0 {
		f.Zone, f.ZoneDir = o.TupleOrig.Zone, ZoneOrig
	}
	if o.TupleReply.Zone != 0 {
		f.Zone, f.ZoneDir = o.TupleReply.Zone, ZoneReply
	}
	if p := o.ProtoInfo.TCP; p != nil {
		f.TCP = TCP{State: TCPState(p.State), Flags: [2]uint8{uint8(p.OriginalFlags >> 8), uint8(p.ReplyFlags >> 8)},
			Scale: [2]uint8{p.OriginalWindowScale, p.ReplyWindowScale}}
	}
	if p := o.ProtoInfo.SCTP; p != nil {
		f.SCTP = SCTP{State: p.State, VTag: [2]uint32{p.VTagOriginal, p.VTagReply}}
	}
	return f
}

func oracleTuple(o *timo.Tuple) Tuple {
	t := Tuple{Src: AddrFrom(netip.Addr(o.IP.SourceAddress)), Dst: AddrFrom(netip.Addr(o.IP.DestinationAddress)),
		SrcPort: o.Proto.SourcePort, DstPort: o.Proto.DestinationPort}
	switch o.Proto.Protocol {
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		t.SrcPort, t.DstPort = o.Proto.ICMPID, uint16(o.Proto.ICMPType)<<8|uint16(o.Proto.ICMPCode)
	}
	return t
}

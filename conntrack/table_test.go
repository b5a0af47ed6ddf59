// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func tuple(src, dst string, sport, dport uint16) Tuple {
	return Tuple{Src: AddrFrom(netip.MustParseAddr(src)), Dst: AddrFrom(netip.MustParseAddr(dst)), SrcPort: sport, DstPort: dport}
}

const established = SeenReply | Assured | Confirmed

func tcpSNAT() Flow {
	return Flow{
		Family: IPv4, Proto: unix.IPPROTO_TCP, Status: established, Timeout: 300,
		Orig:  tuple("10.0.0.7", "198.51.100.9", 40000, 443),
		Reply: tuple("198.51.100.9", "203.0.113.1", 443, 51000),
		TCP:   TCP{State: TCPEstablished, Flags: [2]uint8{3, 3}, Scale: [2]uint8{7, 9}},
	}
}

func TestSmoke(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	d, err := ListenDeaths()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ops := []Op{{Kind: OpCreate, Flow: tcpSNAT()}, {Kind: OpCreate, Flow: tcpSNAT()}, {Kind: OpReplace, Flow: tcpSNAT()}}
	if err := table.Apply(ops); err != nil {
		t.Fatal(err)
	}
	t.Log(ops[0].Err, ops[1].Err, ops[2].Err)
	table.Dump(func(f *Flow) error { t.Log(cmp.Diff(tcpSNAT(), *f)); return nil })
	n, m, err := table.Count()
	t.Log(n, m, err)
	k := ops[0].Flow.Key()
	var f Flow
	ok, err := table.Get(&k, &f)
	t.Log(ok, err, f)
	t.Log(table.Delete(&k), table.Delete(&k))
	if err := d.Filter(Assured); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		lost, err := d.Read(time.Now().Add(100*time.Millisecond), func(d *Death) { t.Log(*d) })
		t.Log(lost, err, d.Drained(), table.PortID())
	}
}

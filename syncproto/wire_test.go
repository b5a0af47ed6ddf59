// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// wireFlow is a flow record with a name, as the golden files have it.
type wireFlow struct {
	name  string
	class byte
	slot  uint32
	prev  uint32
	owner bool
	heat  uint8
	flow  *conntrack.Flow
	size  int // what it must not exceed
}

func changed(f *conntrack.Flow, change func(f *conntrack.Flow)) *conntrack.Flow {
	change(f)
	normal(f)
	return f
}

func wireFlows() []wireFlow {
	tcp := func() *conntrack.Flow {
		return changed(tcpFlow(7), func(f *conntrack.Flow) { f.Reply.DstPort = f.Orig.SrcPort })
	}
	return []wireFlow{
		{"full-tcp-snat", classFull, 8, 6, true, 3, tcp(), 22},
		{"full-tcp-snat-port-far-slot", classFull, 1 << 21, 0, true, 3, changed(tcpFlow(7), func(*conntrack.Flow) {}), 26},
		{"full-tcp-plain-defaults", classFull, 2, 0, false, 0, changed(tcp(), func(f *conntrack.Flow) {
			f.Reply.Dst, f.TCP.Scale, f.Status = f.Orig.Src, [2]uint8{7, 7}, conntrack.SeenReply|conntrack.Assured
		}), 15},
		{"full-tcp-dnat-mark-zone", classFull, 4, 9, true, 2, changed(tcp(), func(f *conntrack.Flow) {
			f.Reply.Dst, f.Reply.Src, f.Reply.SrcPort = f.Orig.Src, conntrack.Addr{10, 9, 9, 9}, 8080
			f.Mark, f.Zone, f.ZoneDir = 0xdeadbeef, 500, conntrack.ZoneOrig
			f.Status = conntrack.SeenReply | conntrack.Assured | conntrack.DstNAT | conntrack.Helper
			f.TCP.State, f.Timeout = conntrack.TCPCloseWait, 3600
		}), 40},
		{"full-udp6", classFull, 3, 3, true, 1, changed(udpFlow6(1), func(*conntrack.Flow) {}), 39},
		{"full-udp6-both-nats", classFull, 3, 1, true, 1, changed(udpFlow6(1), func(f *conntrack.Flow) {
			f.Reply.Src, f.Reply.Dst = conntrack.Addr{0xfd, 15: 9}, conntrack.Addr{0xfd, 15: 8}
			f.Reply.SrcPort, f.Reply.DstPort = 1, 2
			f.Status |= conntrack.SrcNAT | conntrack.DstNAT | conntrack.Assured
			f.Timeout = 4000000000
		}), 84},
		{"full-icmp-echo", classFull, 6, 4, true, 3, changed(tcpFlow(1), func(f *conntrack.Flow) {
			f.Proto, f.Timeout = unix.IPPROTO_ICMP, 30
			f.Orig.SrcPort, f.Orig.DstPort = 77, 8<<8
			f.Reply = conntrack.Tuple{Src: f.Orig.Dst, Dst: f.Orig.Src, SrcPort: 77, DstPort: 0}
			f.Status = conntrack.SeenReply
		}), 15},
		{"full-icmp6-echo", classFull, 1, 0, true, 3, changed(udpFlow6(1), func(f *conntrack.Flow) {
			f.Proto = unix.IPPROTO_ICMPV6
			f.Orig.SrcPort, f.Orig.DstPort = 77, 128<<8
			f.Reply.SrcPort, f.Reply.DstPort = 77, 129<<8
		}), 39},
		{"full-gre", classFull, 10, 0, true, 0, changed(tcpFlow(3), func(f *conntrack.Flow) { f.Proto, f.Timeout = unix.IPPROTO_GRE, 180 }), 27},
		{"full-sctp", classFull, 12, 0, true, 0, changed(tcpFlow(3), func(f *conntrack.Flow) {
			f.Proto, f.Timeout = unix.IPPROTO_SCTP, 210
			f.SCTP = conntrack.SCTP{State: 4, VTag: [2]uint32{0x01020304, 0x05060708}}
		}), 35},
		{"short-tcp-established", classShort, 8, 6, true, 3, changed(tcp(), func(f *conntrack.Flow) { f.TCP.Scale = [2]uint8{7, 7} }), 2},
		{"short-tcp-fin-wait", classShort, 1 << 20, 0, true, 3, changed(tcp(), func(f *conntrack.Flow) { f.TCP.State, f.Timeout = conntrack.TCPFinWait, 120 }), 7},
		{"short-udp-assured-mark", classShort, 5, 3, false, 2, changed(udpFlow6(1), func(f *conntrack.Flow) {
			f.Status |= conntrack.Assured
			f.Mark, f.Timeout = 9, 120
		}), 9},
		{"short-sctp", classShort, 12, 14, true, 0, changed(tcpFlow(3), func(f *conntrack.Flow) {
			f.Proto, f.Timeout = unix.IPPROTO_SCTP, 30
			f.SCTP = conntrack.SCTP{State: 5, VTag: [2]uint32{1, 2}}
		}), 15},
		{"delete-owner", classDelete, 20, 18, true, 0, nil, 2},
		{"delete-other", classDelete, 1 << 25, 0, false, 0, nil, 5},
	}
}

func (w *wireFlow) encode() []byte {
	switch w.class {
	case classFull:
		return appendFull(nil, w.slot, w.prev, w.flow, w.owner, w.heat)
	case classShort:
		return appendShort(nil, w.slot, w.prev, w.flow, w.owner, w.heat)
	}
	return appendDelete(nil, w.slot, w.prev, w.owner)
}

// TestFlowRecords: what is written is read, whatever follows, and no record is
// longer than it should be.
func TestFlowRecords(t *testing.T) {
	for _, w := range wireFlows() {
		b := w.encode()
		var rec flowRecord
		rest, err := parseFlow(append(b[:len(b):len(b)], 0xff), w.prev, &rec)
		if err != nil || len(rest) != 1 {
			t.Errorf("%s: parse %x: %v, %d left", w.name, b, err, len(rest))
			continue
		}
		if rec.class != w.class || rec.slot != w.slot || rec.owner != w.owner || rec.heat != w.heat {
			t.Errorf("%s: %+v", w.name, rec)
		}
		if w.flow != nil {
			got := rec.flow
			if w.class == classShort { // over a flow with other content
				got = *w.flow
				got.Mark, got.Timeout, got.Status = 77, 77, conntrack.Confirmed
				got.TCP, got.SCTP = conntrack.TCP{State: 9}, conntrack.SCTP{State: 9}
				rec.resolve(&got)
			}
			if diff := cmp.Diff(*w.flow, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", w.name, diff)
			}
		}
		if len(b) > w.size {
			t.Errorf("%s has %d bytes, want at most %d: %x", w.name, len(b), w.size, b)
		}
		for n := range len(b) {
			if _, err := parseFlow(b[:n], w.prev, &rec); err == nil {
				t.Errorf("%s: cut to %d bytes it is still a record", w.name, n)
			}
		}
	}
}

func TestMalformedRecords(t *testing.T) {
	for name, b := range map[string]string{
		"empty":                 "",
		"slot below zero":       "c003",
		"slot too large":        "c0feffffff3f",
		"endless slot":          "c0ffffffffffffffffffffff",
		"deletion with bits":    "c100",
		"short with bits":       "8100",
		"short unknown mask":    "820008",
		"detail reserved":       "840080",
		"full zone 0":           "420020" + "0a0000010a000002" + "00010002" + "00",
		"full zone direction 3": "420020" + "0a0000010a000002" + "00010002" + "07",
		"udp with a detail":     "430000" + "0a0000010a000002" + "00010002" + "03",
		"tcp state 10":          "410000" + "0a0000010a000002" + "00010002" + "0a",
		"tcp with vtags":        "410000" + "0a0000010a000002" + "00010002" + "430000000000000000",
		"timeout of 33 bits":    "420080" + "0a0000010a000002" + "00010002" + "8080808020",
	} {
		raw, err := hex.DecodeString(b)
		if err != nil {
			t.Fatal(name, err)
		}
		var rec flowRecord
		if _, err := parseFlow(raw, 0, &rec); err == nil {
			t.Errorf("%s is a record: %+v", name, rec)
		}
	}
}

// TestMalformedRepair: what is not exactly a DIGEST, a RESYNC or a VERDICT is
// refused with its datagram.
func TestMalformedRepair(t *testing.T) {
	const sum = "0102030405060708"
	for name, c := range map[string]struct {
		typ  byte
		body string
		ok   bool
	}{
		"digest":                      {recDigest, "00" + "00ff" + "03" + sum, true},
		"digest of the last slot":     {recDigest, "00" + "fbffff3f00" + "01" + sum, true},
		"digest beyond the last slot": {recDigest, "00" + "fbffff3f01" + "01" + sum, false},
		"digest of more flows":        {recDigest, "00" + "0001" + "03" + sum, false},
		"digest cut":                  {recDigest, "00" + "00ff" + "03" + sum[2:], false},
		"digest with more":            {recDigest, "00" + "00ff" + "03" + sum + "00", false},
		"round of 33 bits":            {recDigest, "8080808010" + "00ff" + "03" + sum, false},
		"resync of all":               {recResync, "00", true},
		"resync of all and a range":   {recResync, "00" + "00ff", false},
		"resync of nothing":           {recResync, "01", false},
		"resync without a word":       {recResync, "", false},
		"resync of what":              {recResync, "03" + "00ff", false},
		"resync of a range":           {recResync, "01" + "00ff", true},
		"resync of 64 ranges":         {recResync, "02" + strings.Repeat("00ff", 64), true},
		"resync of 65 ranges":         {recResync, "02" + strings.Repeat("00ff", 65), false},
		"resync cut":                  {recResync, "01" + "00", false},
		"verdict":                     {recVerdict, "01" + "00" + "03" + "8002", true},
		"verdict unknown":             {recVerdict, "01" + "00" + "04" + "00", false},
		"verdict of more flows":       {recVerdict, "01" + "00" + "00" + "8102", false},
		"verdict with more":           {recVerdict, "01" + "00" + "00" + "0000", false},
		"verdict of no slot":          {recVerdict, "01" + "fcffff3f" + "00" + "00", false},
	} {
		body, err := hex.DecodeString(c.body)
		if err != nil {
			t.Fatal(name, err)
		}
		if validControl(c.typ, body) != c.ok {
			t.Errorf("%s: valid %v, want %v", name, !c.ok, c.ok)
		}
	}
}

// TestUnknownRecordsAreSkipped: a later version may add types.
func TestUnknownRecordsAreSkipped(t *testing.T) {
	c := newCouple()
	c.run(20 * time.Millisecond)
	d := appendHeader(nil, &header{kind: typeData, seq: c.ab.out.seq + 1, sender: c.ab.session.my, receiver: c.ab.session.their})
	d = appendControl(d, 60, []byte("from the future"))
	d = appendFull(d, 2, 0, wireFlows()[0].flow, true, 3)
	if err := c.ba.Receive(closeDatagram(d), c.now); err != nil {
		t.Fatal(err)
	}
	if s := c.ba.Stats(); s.SkippedRecords != 1 || c.ba.View().Len() != 1 {
		t.Errorf("%+v, view of %d", s, c.ba.View().Len())
	}
}

// TestReceivedWindow checks the window and its acks against a plain map.
func TestReceivedWindow(t *testing.T) {
	rnd := seeded(5)
	var w received
	got := map[uint64]bool{}
	top := uint64(0)
	for range 30000 {
		seq := top + uint64(rnd.IntN(40))
		if back := uint64(rnd.IntN(5000)); rnd.IntN(3) == 0 && seq > back {
			seq -= back
		}
		if rnd.IntN(500) == 0 {
			seq += uint64(rnd.IntN(9000))
		}
		want := seq != 0 && !got[seq] && (seq > top || top-seq < window)
		if w.fresh(seq) != want {
			t.Fatalf("fresh(%d) at %d: %v", seq, top, !want)
		}
		if want {
			w.mark(seq)
			got[seq], top = true, max(top, seq)
		}
		if rnd.IntN(20) == 0 {
			checkAck(t, &w, got, top)
		}
	}
}

func checkAck(t *testing.T, w *received, got map[uint64]bool, top uint64) {
	t.Helper()
	typ, body, rest, ok := parseControl(w.appendAck(nil))
	var a ack
	if !ok || typ != recAck || len(rest) != 0 || !parseAck(body, &a) {
		t.Fatalf("ack at %d: %x", top, body)
	}
	for s := uint64(1); s <= top+2; s++ {
		if a.has(s) && !got[s] || a.covers(s) && a.has(s) != got[s] {
			t.Fatalf("ack at %d says %v of %d", top, a.has(s), s)
		}
	}
	if top > w.first+300 && !a.covers(top-200) {
		t.Fatalf("ack at %d covers too little", top)
	}
}

func FuzzRecord(f *testing.F) {
	for _, w := range wireFlows() {
		f.Add(w.encode(), w.prev)
	}
	f.Fuzz(func(t *testing.T, b []byte, prev uint32) {
		prev %= maxEntries
		var rec, again flowRecord
		if len(b) == 0 || b[0]&classMask == classControl {
			return
		}
		rest, err := parseFlow(b, prev, &rec)
		if err != nil || rec.class != classFull {
			return
		}
		// What was read is in normal form but for a timeout near its default.
		out := appendFull(nil, rec.slot, prev, &rec.flow, rec.owner, rec.heat)
		if len(out) > len(b)-len(rest)+8 { // tags of SCTP that were left out
			t.Errorf("%d bytes became %d", len(b)-len(rest), len(out))
		}
		if _, err := parseFlow(out, prev, &again); err != nil {
			t.Fatalf("cannot read %x again: %v", out, err)
		}
		if !reflect.DeepEqual(rec.flow, again.flow) {
			t.Errorf("%+v became %+v", rec.flow, again.flow)
		}
	})
}

func FuzzDatagram(f *testing.F) {
	for _, b := range datagrams() {
		f.Add(b[headerLen : len(b)-crcLen])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := newCouple()
		c.a.Tell(tcpFlow(1), c.now)
		c.run(20 * time.Millisecond)
		for i, kind := range []byte{typeData, typeHello, typeCall} {
			h := header{kind: kind, seq: c.ab.out.seq + uint64(i) + 1, sender: c.ab.session.my, receiver: c.ab.session.their}
			d := closeDatagram(append(appendHeader(nil, &h), body...))
			before := flowsOf(c.ba.View())
			if err := c.ba.Receive(d, c.now); err != nil {
				if diff := cmp.Diff(before, flowsOf(c.ba.View())); diff != "" {
					t.Errorf("refused (%v), but it did something:\n%s", err, diff)
				}
			}
		}
		c.run(2 * time.Millisecond)
	})
}

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/conntrack/policytest"
	"github.com/tandem-ha/tandem/maps"
)

// forge is an entry in memory that the kernel can read: BPF_PROG_TEST_RUN gives
// a packet no entry, and packets cannot bring entries into every state.
type forge struct {
	t    testing.TB
	m    *ebpf.Map
	conn *btf.Struct
	at   uint64 // its kernel address
}

func newForge(t testing.TB) *forge {
	t.Helper()
	f := &forge{t: t}
	var err error
	f.m, err = ebpf.NewMap(&ebpf.MapSpec{Name: "forge", Type: ebpf.Array, KeySize: 4, ValueSize: 512, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.m.Close() })
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	if err := kernel.TypeByName("nf_conn", &f.conn); err != nil {
		t.Fatal(err)
	}
	f.at = addressOf(t, f.m)
	return f
}

// addressOf asks the kernel where a map's value lies, by a program that may
// store pointers.
func addressOf(t testing.TB, m *ebpf.Map) (at uint64) {
	t.Helper()
	out, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMapValue(asm.R1, m.FD(), 0),
		asm.LoadMapValue(asm.R2, out.FD(), 0),
		asm.StoreMem(asm.R2, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	if _, err := prog.Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
		t.Fatal(err)
	}
	if err := out.Lookup(uint32(0), &at); err != nil {
		t.Fatal(err)
	}
	return at
}

// member gives the byte offset of a path of fields from nf_conn.
func (f *forge) member(path ...string) (offset uint32) {
	var at btf.Type = f.conn
next:
	for _, name := range path {
		var i int
		if n, _ := fmt.Sscanf(name, "[%d]", &i); n == 1 {
			arr := btf.UnderlyingType(at).(*btf.Array)
			size, err := btf.Sizeof(arr.Type)
			if err != nil {
				f.t.Fatal(err)
			}
			offset, at = offset+uint32(i*size), arr.Type
			continue
		}
		var members []btf.Member
		switch s := btf.UnderlyingType(at).(type) {
		case *btf.Struct:
			members = s.Members
		case *btf.Union:
			members = s.Members
		}
		for _, m := range members {
			if m.Name == name {
				offset, at = offset+m.Offset.Bytes(), m.Type
				continue next
			}
		}
		f.t.Fatalf("struct nf_conn has no %v", path)
	}
	return offset
}

// set makes the entry look like fl.
func (f *forge) set(fl *conntrack.Flow) {
	f.t.Helper()
	b := make([]byte, 512)
	le := binary.LittleEndian
	le.PutUint64(b[f.member("status"):], uint64(fl.Status))
	le.PutUint32(b[f.member("mark"):], fl.Mark)
	le.PutUint16(b[f.member("zone", "id"):], fl.Zone)
	for i, t := range []conntrack.Tuple{fl.Orig, fl.Reply} {
		tuple := f.member("tuplehash", fmt.Sprintf("[%d]", i), "tuple")
		at := func(path ...string) []byte {
			return b[f.member(append([]string{"tuplehash", fmt.Sprintf("[%d]", i), "tuple"}, path...)...):]
		}
		_ = tuple
		copy(at("src", "u3"), t.Src[:])
		copy(at("dst", "u3"), t.Dst[:])
		binary.BigEndian.PutUint16(at("src", "u"), t.SrcPort)
		binary.BigEndian.PutUint16(at("dst", "u"), t.DstPort)
		le.PutUint16(at("src", "l3num"), uint16(fl.Family))
		at("dst", "protonum")[0] = fl.Proto
		b[f.member("proto", "tcp", "seen", fmt.Sprintf("[%d]", i), "td_scale")] = fl.TCP.Scale[i]
		b[f.member("proto", "tcp", "seen", fmt.Sprintf("[%d]", i), "flags")] = fl.TCP.Flags[i]
	}
	b[f.member("proto", "tcp", "state")] = uint8(fl.TCP.State)
	if err := f.m.Put(uint32(0), b); err != nil {
		f.t.Fatal(err)
	}
}

// program loads tandem_flow for the forged entry.
func (f *forge) program(p conntrack.Policy, fast bool) (*ebpf.Collection, *maps.Ring) {
	f.t.Helper()
	o := Options{Policy: p}.withDefaults()
	spec, err := flowSpec(&o, 0, fast)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := spec.Variables["test_entry"].Set(f.at); err != nil {
		f.t.Fatal(err)
	}
	coll, err := load(spec, "tandem_flow")
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(coll.Close)
	if err := fillIgnore(coll.Maps["tandem_ignore"], p.Ignore); err != nil {
		f.t.Fatal(err)
	}
	ring, err := maps.OpenRing(coll.Maps["tandem_flows"].FD())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { ring.Close() })
	return coll, ring
}

// pass runs one packet of the forged entry and gives what was told.
func pass(t testing.TB, coll *ebpf.Collection, ring *maps.Ring) (f conntrack.Flow, v conntrack.Verdict) {
	t.Helper()
	const next = 0xffffffff // TCX_NEXT
	if ret, err := coll.Programs["tandem_flow"].Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil || ret != next {
		t.Fatalf("run: returned %#x, %v", ret, err)
	}
	ring.Drain(func(rec []byte) {
		var err error
		if _, v, err = maps.ParseFlow(rec, 1, &f); err != nil {
			t.Fatal(err)
		}
	})
	return f, v
}

// TestPolicyInKernel runs the table of cases, which Policy.Match is run
// through as well, through the program.
func TestPolicyInKernel(t *testing.T) {
	for _, fast := range []bool{true, false} {
		t.Run(fmt.Sprintf("direct=%v", fast), func(t *testing.T) {
			f := newForge(t)
			var last conntrack.Policy
			var coll *ebpf.Collection
			var ring *maps.Ring
			for _, c := range policytest.Cases(t) {
				if coll == nil || !cmp.Equal(last, c.Policy, cmp.Comparer(samePolicy)) {
					coll, ring = f.program(c.Policy, fast)
					last = c.Policy
				}
				f.set(&c.Flow)
				_ = coll.Variables["control"].Set(struct{ Waiting, Epoch uint32 }{0, uint32(len(c.Name))*7919 + uint32(time.Now().UnixNano())})
				got, verdict := pass(t, coll, ring)
				if verdict != c.Want {
					t.Errorf("%s: verdict %d, want %d", c.Name, verdict, c.Want)
				}
				if verdict == conntrack.Ignore {
					continue
				}
				got.Timeout = c.Flow.Timeout
				if diff := cmp.Diff(c.Flow, got); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", c.Name, diff)
				}
			}
		})
	}
}

func samePolicy(a, b conntrack.Policy) bool {
	return a.Protocols == b.Protocols && a.TCP == b.TCP && a.Other == b.Other && fmt.Sprint(a.Ignore) == fmt.Sprint(b.Ignore)
}

// TestCells: what is told once, and what is told again.
func TestCells(t *testing.T) {
	f := newForge(t)
	flow := conntrack.Flow{
		Orig:   conntrack.Tuple{Src: ip("10.0.0.1"), Dst: ip("10.0.0.2"), SrcPort: 5, DstPort: 6},
		Reply:  conntrack.Tuple{Src: ip("10.0.0.2"), Dst: ip("10.0.0.1"), SrcPort: 6, DstPort: 5},
		Family: conntrack.IPv4, Proto: 17, Status: conntrack.Confirmed | conntrack.SeenReply, Zone: 7,
	}
	for _, fast := range []bool{true, false} {
		coll, ring := f.program(conntrack.DefaultPolicy(), fast)
		step := func(what string, want conntrack.Verdict, change func(f *conntrack.Flow)) {
			t.Helper()
			change(&flow)
			f.set(&flow)
			got, v := pass(t, coll, ring)
			if v != want {
				t.Errorf("direct=%v %s: verdict %d, want %d", fast, what, v, want)
			}
			if got.Timeout = 0; v != conntrack.Ignore && got != flow {
				t.Errorf("%s: %s", what, cmp.Diff(flow, got))
			}
			if _, v := pass(t, coll, ring); v != conntrack.Ignore {
				t.Errorf("direct=%v %s: told twice", fast, what)
			}
		}
		original := flow
		step("first", conntrack.Replicate, func(f *conntrack.Flow) {})
		step("assured", conntrack.Replicate, func(f *conntrack.Flow) { f.Status |= conntrack.Assured })
		step("mark", conntrack.Replicate, func(f *conntrack.Flow) { f.Mark = 9 })
		step("sequence adjustment", conntrack.Replicate, func(f *conntrack.Flow) { f.Status |= conntrack.SeqAdjust })
		step("new life, one way", conntrack.Ignore, func(f *conntrack.Flow) { *f = original; f.Status = conntrack.Confirmed })
		step("new life, answered", conntrack.Replicate, func(f *conntrack.Flow) { *f = original })
		step("another flow at the same address", conntrack.Replicate, func(f *conntrack.Flow) { f.Orig.SrcPort = 99; f.Reply.DstPort = 99 })
		step("dying", conntrack.Ignore, func(f *conntrack.Flow) { f.Status |= conntrack.Dying })
		flow = original
	}
}

// TestFullRingForgetsNothing: what did not fit is told by the next packet.
func TestFullRingForgetsNothing(t *testing.T) {
	f := newForge(t)
	coll, ring := f.program(conntrack.DefaultPolicy(), true)
	flow := conntrack.Flow{Family: conntrack.IPv4, Proto: 17, Status: conntrack.Confirmed | conntrack.SeenReply}
	run := func() {
		if _, err := coll.Programs["tandem_flow"].Run(&ebpf.RunOptions{Data: make([]byte, 64)}); err != nil {
			t.Fatal(err)
		}
	}
	full := func() bool {
		n, err := (&Capture{coll: coll}).packets()
		if err != nil {
			t.Fatal(err)
		}
		return n.Full > 0
	}
	n := 0
	for ; !full() && n < 50_000; n++ {
		flow.Mark++
		f.set(&flow)
		run()
	}
	if got := ring.Drain(func([]byte) {}); got != n-1 {
		t.Errorf("the ring held %d records, want %d", got, n-1)
	}
	if got, v := pass(t, coll, ring); v != conntrack.Replicate || got.Mark != flow.Mark {
		t.Errorf("verdict %d of %+v after the ring was full", v, got)
	}
}

// TestFloodTakesNoCell: five flows meet in one set of four. One of which
// nothing is told displaces none; one that is told displaces one.
func TestFloodTakesNoCell(t *testing.T) {
	o := Options{Policy: conntrack.DefaultPolicy()}.withDefaults()
	spec, err := flowSpec(&o, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	cells := spec.Maps["tandem_cells"].Copy()
	cells.MaxEntries = 1
	shared, err := ebpf.NewMap(cells)
	if err != nil {
		t.Fatal(err)
	}
	defer shared.Close()
	var run [5]func() conntrack.Verdict
	var set [5]func(conntrack.Status)
	for i := range run {
		f, one := newForge(t), spec.Copy()
		one.Maps["tandem_cells"].MaxEntries = 1
		for name, v := range map[string]any{"test_entry": f.at, "cell_mask": uint32(0)} {
			if err := one.Variables[name].Set(v); err != nil {
				t.Fatal(err)
			}
		}
		coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{"tandem_cells": shared}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(coll.Close)
		ring, err := maps.OpenRing(coll.Maps["tandem_flows"].FD())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ring.Close() })
		run[i] = func() conntrack.Verdict { _, v := pass(t, coll, ring); return v }
		set[i] = func(s conntrack.Status) {
			f.set(&conntrack.Flow{Family: conntrack.IPv4, Proto: 17, Status: conntrack.Confirmed | s})
		}
	}
	told := func() (n int) {
		for i := range 4 {
			if run[i]() != conntrack.Ignore {
				n++
			}
		}
		return n
	}
	for i := range 4 {
		set[i](conntrack.SeenReply)
	}
	if n := told(); n != 4 {
		t.Fatalf("%d of 4 flows told", n)
	}
	set[4](0)
	if v := run[4](); v != conntrack.Ignore {
		t.Errorf("a young flow was told: %d", v)
	}
	if n := told(); n != 0 {
		t.Errorf("%d flows were told again because of a young one", n)
	}
	set[4](conntrack.SeenReply)
	if v := run[4](); v != conntrack.Replicate {
		t.Errorf("verdict %d, want told", v)
	}
	if v := run[4](); v != conntrack.Ignore {
		t.Error("a flow that found the set full was told twice")
	}
	if n := told(); n == 0 {
		t.Error("five told flows fit into four cells")
	}
}

// BenchmarkFlow is the cost of a packet that leaves early, by way of reading,
// beside an empty program.
func BenchmarkFlow(b *testing.B) {
	f := newForge(b)
	f.set(&conntrack.Flow{Family: conntrack.IPv4, Proto: 6, Status: conntrack.Confirmed | conntrack.SeenReply | conntrack.Assured, TCP: conntrack.TCP{State: conntrack.TCPEstablished}})
	empty, err := ebpf.NewProgram(emptyTC())
	if err != nil {
		b.Fatal(err)
	}
	defer empty.Close()
	direct, _ := f.program(conntrack.DefaultPolicy(), true)
	helper, _ := f.program(conntrack.DefaultPolicy(), false)
	for _, c := range []struct {
		name string
		prog *ebpf.Program
	}{{"empty", empty}, {"direct", direct.Programs["tandem_flow"]}, {"helper", helper.Programs["tandem_flow"]}} {
		b.Run(c.name, func(b *testing.B) {
			_, per, err := c.prog.Benchmark(make([]byte, 64), b.N, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(per.Nanoseconds()), "ns/packet")
		})
	}
}

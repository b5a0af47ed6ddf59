// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/conntrack"
)

// writer is a ring and a program that writes its packet's first n bytes there.
func writer(t *testing.T, size uint32, n int32) (*ebpf.Map, *ebpf.Program) {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R2, 0), // from offset 0
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, -n),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytes.Call(),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -n),
		asm.Mov.Imm(asm.R3, n),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return m, p
}

// TestRing: every record once and in order, across many turns of the ring, and
// no more than it holds.
func TestRing(t *testing.T) {
	const size, n = 4096, 24
	m, p := writer(t, size, n)
	r, err := OpenRing(m.FD())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	packet := make([]byte, 64)
	sent, got := uint64(0), uint64(0)
	write := func() bool {
		binary.LittleEndian.PutUint64(packet, sent)
		ret, err := p.Run(&ebpf.RunOptions{Data: packet})
		if err != nil {
			t.Fatal(err)
		}
		if ret == 0 {
			sent++
		}
		return ret == 0
	}
	drain := func() int {
		return r.Drain(func(rec []byte) {
			if len(rec) != n || binary.LittleEndian.Uint64(rec) != got {
				t.Fatalf("record %x, want number %d", rec, got)
			}
			got++
		})
	}
	if r.Pending() || drain() != 0 {
		t.Error("an empty ring has records")
	}
	for turn := range 200 {
		for range turn % 120 {
			write()
		}
		if turn%120 > 0 && !r.Pending() {
			t.Fatal("records are not pending")
		}
		drain()
		if sent != got {
			t.Fatalf("%d written, %d read", sent, got)
		}
	}
	for write() {
	}
	if n := drain(); n < size/(n+ringHeader)-1 {
		t.Errorf("a full ring held %d records", n)
	}
	if allocs := testing.AllocsPerRun(1000, func() { r.Drain(func([]byte) {}) }); allocs != 0 {
		t.Errorf("%v allocations per drain", allocs)
	}
}

func TestOpenRingRefuses(t *testing.T) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, fd := range []int{m.FD(), int(os.Stdin.Fd()), 1 << 20} {
		if _, err := OpenRing(fd); err == nil {
			t.Errorf("descriptor %d was taken for a ring", fd)
		}
	}
}

func record[T any](v *T) []byte {
	return bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))
}

func TestParseFlow(t *testing.T) {
	r := bpf.FlowRecord{
		At: 77, Status: 0xe, Mark: 3, Timeout: 2*250 + 1, Zone: 4, Family: conntrack.IPv6, Proto: 6,
		Verdict: flowGone, State: 7, Flags: [2]uint8{1, 2}, Scale: [2]uint8{7, 9},
	}
	r.Orig.Src[0], r.Orig.Dst[3], r.Orig.Sport, r.Reply.Dport = 0x04030201, 0x08070605, 1000, 2000
	var f conntrack.Flow
	at, verdict, err := ParseFlow(record(&r), 250, &f)
	if err != nil || at != 77 || verdict != conntrack.Gone {
		t.Fatal(at, verdict, err)
	}
	want := conntrack.Flow{
		Orig:   conntrack.Tuple{Src: conntrack.Addr{1, 2, 3, 4}, Dst: conntrack.Addr{12: 5, 13: 6, 14: 7, 15: 8}, SrcPort: 1000},
		Reply:  conntrack.Tuple{DstPort: 2000},
		Status: 0xe, Mark: 3, Timeout: 3, Zone: 4, Family: conntrack.IPv6, Proto: 6,
		TCP: conntrack.TCP{State: 7, Flags: [2]uint8{1, 2}, Scale: [2]uint8{7, 9}},
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	for jiffies, want := range map[uint32]uint32{0: 0, 1: 1, 250: 1, 251: 2, 1 << 31: 0, 0xffffffff: 0} {
		if got := seconds(jiffies, 250); got != want {
			t.Errorf("seconds(%d) = %d, want %d", jiffies, got, want)
		}
	}
	rec := record(&r)
	if n := testing.AllocsPerRun(100, func() { ParseFlow(rec, 250, &f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	bad := r
	bad.Family = 3
	worse := r
	worse.Verdict = 0
	for _, rec := range [][]byte{nil, rec[:len(rec)-1], append(rec, 0), record(&bad), record(&worse)} {
		if _, _, err := ParseFlow(rec, 250, &f); err == nil {
			t.Errorf("took %x", rec)
		}
	}
}

func TestParseAdvert(t *testing.T) {
	r := bpf.AdvertRecord{At: 5, Ifindex: 6, Family: conntrack.IPv4, Ttl: 255, Len: 3}
	r.Src[0], r.Dst[0] = 0x0100000a, 0x120000e0
	rec := append(record(&r), 1, 2, 3, 4, 5)
	got, err := ParseAdvert(rec)
	want := Advert{5, 6, conntrack.IPv4, 255, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("224.0.0.18"), []byte{1, 2, 3}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" {
		t.Error(err, diff)
	}
	bad := r
	bad.Family = 1
	for _, rec := range [][]byte{nil, rec[:20], rec[:len(record(&r))+2], append(record(&bad), 1, 2, 3)} {
		if _, err := ParseAdvert(rec); err == nil {
			t.Errorf("took %x", rec)
		}
	}
	if n := testing.AllocsPerRun(100, func() { ParseAdvert(rec) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTicksPerSecond(t *testing.T) {
	switch hz := TicksPerSecond(); hz {
	case 100, 250, 300, 1000:
	default:
		t.Errorf("HZ is %d", hz)
	}
}

// A process in a time namespace and the kernel's programs mean the same moment.
func TestTimeNamespace(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "boottime 7 7\n": 0, "monotonic x 0\n": 0, "monotonic           0         0\nboottime            0         0\n": 0,
		"monotonic       18000         5\nboottime        7         0\n": 18000e9 + 5, "boottime 1 0\nmonotonic -3 999999999\n": -3e9 + 999999999,
	} {
		if got := parseTimeOffset(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	defer func(was int64) { ahead = was }(ahead)
	for _, ahead = range []int64{0, 18000e9, -18000e9} {
		const kernel = 20000e9
		if got := toKernel(fromKernel(kernel)); got != kernel || toKernel(0) != 0 || toKernel(ahead) != 1 && ahead != 0 {
			t.Errorf("ahead by %d: there and back is %d, none is %d", ahead, got, toKernel(0))
		}
	}
}

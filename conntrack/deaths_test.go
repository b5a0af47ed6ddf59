// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func listen(t testing.TB) *Deaths {
	t.Helper()
	d, err := ListenDeaths()
	if err != nil {
		t.Fatalf("ListenDeaths: %v", err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// readDeaths reads until n deaths came or ten seconds passed.
func readDeaths(t testing.TB, d *Deaths, n int) (deaths []Death) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for len(deaths) < n && time.Now().Before(deadline) {
		lost, err := d.Read(deadline, func(death *Death) { deaths = append(deaths, *death) })
		if err != nil || lost {
			t.Fatalf("Read: lost %v, %v", lost, err)
		}
	}
	if len(deaths) != n {
		t.Fatalf("%d deaths, want %d: %+v", len(deaths), n, deaths)
	}
	return deaths
}

// TestDeaths: every kind reports its death with the port id of who deleted it,
// and with what a DESTROY carries.
func TestDeaths(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			newNamespace(t)
			table, foreign, d := openTable(t), openTable(t), listen(t)
			if table.PortID() == 0 || table.PortID() == foreign.PortID() {
				t.Fatalf("port ids %d and %d", table.PortID(), foreign.PortID())
			}
			want := asShown(kind.flow)
			want.TCP.Flags, want.TCP.Scale, want.SCTP.VTag = [2]uint8{}, [2]uint8{}, [2]uint32{}
			for _, by := range []*Table{table, foreign} {
				mustApply(t, table, Op{Flow: kind.flow})
				key := kind.flow.Key()
				if err := by.Delete(&key); err != nil {
					t.Fatal(err)
				}
				death := readDeaths(t, d, 1)[0]
				compareFlow(t, "death", want, death.Flow)
				if death.PortID != by.PortID() {
					t.Errorf("deleted by %d, want %d", death.PortID, by.PortID())
				}
				if death.TimeLeft > want.Timeout || death.TimeLeft+passed < want.Timeout {
					t.Errorf("%d s left of %d", death.TimeLeft, want.Timeout)
				}
			}
		})
	}
}

// TestDeathByTimeout has port id 0 and no time left.
func TestDeathByTimeout(t *testing.T) {
	newNamespace(t)
	table, d := openTable(t), listen(t)
	f := tcp4(snat4)
	f.Timeout = 1
	mustApply(t, table, Op{Flow: f})
	time.Sleep(1100 * time.Millisecond)
	dump(t, table) // a dump collects what ran out; the kernel's own sweep may take minutes
	death := readDeaths(t, d, 1)[0]
	if death.PortID != 0 || death.TimeLeft != 0 || death.Flow.Key() != f.Key() {
		t.Errorf("%+v", death)
	}
}

// TestDeathByFlush: conntrack -F shows who did it in each event.
func TestDeathByFlush(t *testing.T) {
	newNamespace(t)
	table, d := openTable(t), listen(t)
	mustApply(t, table, numbered(500)...)
	flush(t, table)
	for _, death := range readDeaths(t, d, 500) {
		if death.PortID != table.PortID() || death.TimeLeft+passed < 300 {
			t.Fatalf("%+v", death)
		}
	}
	if !d.Drained() {
		t.Error("not drained")
	}
}

// flush deletes all entries as conntrack -F does: a DELETE without a tuple.
func flush(t testing.TB, table *Table) {
	t.Helper()
	seq := table.ops.nextSeq(1)
	table.buf = endMessage(appendHeader(table.buf[:0], msgDelete, unix.NLM_F_REQUEST|unix.NLM_F_ACK, seq, unix.AF_UNSPEC), 0)
	if _, err := table.ask(seq); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

// TestDeathOfUnlistened: with nf_conntrack_events=2 an entry made before the
// first listener has no event extension, and its death is silent.
func TestDeathOfUnlistened(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_events")
	if err != nil || string(b) != "2\n" {
		t.Fatalf("nf_conntrack_events of a new namespace: %q, %v; want 2", b, err)
	}
	before, after := tcp4(snat4), tcp4(snat4)
	after.Orig.SrcPort, after.Reply.DstPort = 1, 2
	mustApply(t, table, Op{Flow: before})
	d := listen(t)
	mustApply(t, table, Op{Flow: after}, Op{Kind: OpDelete, Flow: before}, Op{Kind: OpDelete, Flow: after})
	// An entry made by ctnetlink always gets the extension (nf_ct_ecache_ext_add
	// in ctnetlink_create_conntrack asks as init_conntrack does).
	deaths := readDeaths(t, d, 1)
	if deaths[0].Flow.Key() != after.Key() {
		t.Errorf("%+v", deaths[0])
	}
	if _, err := d.Read(time.Now().Add(50*time.Millisecond), func(d *Death) { t.Errorf("a second death: %+v", *d) }); err != nil {
		t.Error(err)
	}
}

// TestDeathsFilter: the socket filter looks at the status in the event, and at
// who caused it.
func TestDeathsFilter(t *testing.T) {
	newNamespace(t)
	table, other, d := openTable(t), openTable(t), listen(t)
	var ops, ends []Op
	for i, status := range []Status{unreplied, replied, established} {
		op := numbered(i + 1)[i]
		op.Flow.Status = status
		ops, ends = append(ops, op), append(ends, Op{Kind: OpDelete, Flow: op.Flow})
	}
	for _, c := range []struct {
		any  Status
		own  []uint32
		want int
	}{{0, nil, 3}, {SeenReply | Assured, nil, 2}, {Assured, []uint32{other.PortID()}, 1}, {0, []uint32{other.PortID()}, 3},
		{0, []uint32{other.PortID(), table.PortID()}, 0}, {Assured, []uint32{table.PortID()}, 0}, {0, nil, 3}} {
		if err := d.Filter(c.any, c.own...); err != nil {
			t.Fatalf("Filter(%#x): %v", c.any, err)
		}
		mustApply(t, table, ops...)
		mustApply(t, table, ends...)
		for _, death := range readDeaths(t, d, c.want) {
			if c.any != 0 && death.Flow.Status&c.any == 0 {
				t.Errorf("filter %#x let %#x through", c.any, death.Flow.Status)
			}
		}
		lost, err := d.Read(time.Now().Add(20*time.Millisecond), func(d *Death) { t.Errorf("filter %#x: one more: %+v", c.any, *d) })
		if lost || err != nil {
			t.Error(lost, err)
		}
	}
}

// TestDeathsLost: a full socket is told once, and reading goes on.
func TestDeathsLost(t *testing.T) {
	newNamespace(t)
	table, d := openTable(t), listen(t)
	if err := unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10); err != nil {
		t.Fatal(err)
	}
	mustApply(t, table, numbered(5000)...)
	flush(t, table)
	n := 0
	lost, err := d.Read(time.Now().Add(10*time.Second), func(*Death) { n++ })
	if err != nil || !lost || n == 0 || n >= 5000 || !d.Drained() {
		t.Errorf("%d deaths, lost %v, %v, drained %v", n, lost, err, d.Drained())
	}
	f := tcp4(snat4)
	mustApply(t, table, Op{Flow: f}, Op{Kind: OpDelete, Flow: f})
	readDeaths(t, d, 1) // and nothing lost
}

// TestDeathsBuffer: an event occupies at least 768 bytes, and the buffer holds
// what ListenDeaths promises.
func TestDeathsBuffer(t *testing.T) {
	newNamespace(t)
	table, d := openTable(t), listen(t)
	const n = 30_000
	mustApply(t, table, numbered(n)...)
	flush(t, table)
	var used [9]uint32 // SK_MEMINFO_*
	if err := meminfo(d.fd, &used); err != nil {
		t.Fatal(err)
	}
	if per := used[0] / n; per < 768 || used[1]/per < 50_000 {
		t.Errorf("an event occupies %d bytes of %d", per, used[1])
	}
	readDeaths(t, d, n)
}

// meminfo reads SO_MEMINFO: [0] is what is allocated for receiving.
func meminfo(fd int, to *[9]uint32) error {
	size := uint32(unsafe.Sizeof(*to))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func TestDeathsDeadline(t *testing.T) {
	newNamespace(t)
	d := listen(t)
	for _, wait := range []time.Duration{-time.Second, 0, 30 * time.Millisecond} {
		start := time.Now()
		lost, err := d.Read(start.Add(wait), func(*Death) { t.Error("a death") })
		if took := time.Since(start); lost || err != nil || took < wait || took > max(0, wait)+10*time.Second || !d.Drained() {
			t.Errorf("deadline %v: took %v, lost %v, %v", wait, took, lost, err)
		}
	}
}

func TestDeathsClose(t *testing.T) {
	newNamespace(t)
	d := listen(t)
	read := make(chan error)
	go func() {
		_, err := d.Read(time.Time{}, func(*Death) {})
		read <- err
	}()
	time.Sleep(20 * time.Millisecond)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read under way: %v", err)
	}
	if _, err := d.Read(time.Time{}, func(*Death) {}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read afterwards: %v", err)
	}
	if err := d.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

func TestDeathsDoNotAllocate(t *testing.T) {
	newNamespace(t)
	table, d := openTable(t), listen(t)
	ops := numbered(300)
	n := 0
	count := func(*Death) { n++ }
	if a := testing.AllocsPerRun(10, func() {
		table.Apply(ops)
		flush(t, table)
		d.Read(time.Time{}, count)
	}); a > 3 { // one Read's Timespec and the like, not one per death
		t.Errorf("%v allocations for 300 deaths", a)
	}
	if n < 300 {
		t.Errorf("%d deaths", n)
	}
}

// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// numbered gives n distinct SNATed flows.
func numbered(n int) []Op { return numberedFrom(0, n) }

// numberedFrom gives those from first on; there are 8 million.
func numberedFrom(first, n int) []Op {
	ops := make([]Op, n)
	for at := range ops {
		i := first + at
		f := tcp4(snat4)
		f.Orig.Src[1], f.Orig.SrcPort = uint8(i>>15), uint16(i&0x7fff)+1024
		f.Reply.Dst[1], f.Reply.DstPort = uint8(i>>15), uint16(i&0x7fff)+2048
		ops[at].Flow = f
	}
	return ops
}

// TestApplyAttributesErrors mixes what the kernel takes and refuses over
// several batches; each refusal must be at its op, and nothing else.
func TestApplyAttributesErrors(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	ops := numbered(1000)
	want := make([]error, len(ops))
	for i := range ops {
		f := &ops[i].Flow
		switch i % 10 {
		case 1:
			ops[i].Flow, want[i] = ops[i-1].Flow, unix.EEXIST // original tuple taken
		case 2:
			f.TCP.State, want[i] = 10, unix.ERANGE
		case 3:
			f.TCP.Scale[1], want[i] = 15, unix.ERANGE
		case 4:
			f.Family, want[i] = 0, unix.EAFNOSUPPORT
		case 5:
			f.Reply, want[i] = ops[i-5].Flow.Reply, unix.EEXIST // translated port taken
		case 6:
			ops[i].Kind = OpDelete // of nothing
		case 7:
			ops[i].Kind = OpReplace // of nothing
		case 8:
			ops[i] = Op{Kind: OpReplace, Flow: ops[i-1].Flow} // of the one before
		case 9:
			ops[i].Kind, f.TCP.State, want[i] = OpReplace, 10, unix.ERANGE // its deletion is ENOENT
		}
	}
	ops[999].Err = unix.EPERM // of a former Apply
	want[299], ops[299] = unix.EEXIST, Op{Flow: ops[290].Flow}
	if err := table.Apply(ops); err != nil {
		t.Fatal(err)
	}
	for i := range ops {
		if ops[i].Err != want[i] {
			t.Errorf("op %d: %v, want %v", i, ops[i].Err, want[i])
		}
	}
	if n, _, err := table.Count(); err != nil || n != 200 {
		t.Errorf("%d flows, %v; want 200", n, err)
	}
	if len(table.ops.rest) != 0 {
		t.Errorf("%d bytes of answers left", len(table.ops.rest))
	}
}

// TestApplyAllRefused has a refusal for every message, the barrier included,
// in full batches of pairs: 600 answers wait in the socket at once.
func TestApplyAllRefused(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	ops := numbered(2*batchOps + 1)
	for i := range ops {
		ops[i].Kind, ops[i].Flow.TCP.State = OpReplace, 99
	}
	if err := table.Apply(ops); err != nil {
		t.Fatal(err)
	}
	for i := range ops {
		if ops[i].Err != unix.ERANGE {
			t.Fatalf("op %d: %v", i, ops[i].Err)
		}
	}
}

// TestApplyNothing: no op, and only ops that are refused before the kernel.
func TestApplyNothing(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	if err := table.Apply(nil); err != nil {
		t.Error(err)
	}
	ops := make([]Op, batchOps+5) // family 0
	if err := table.Apply(ops); err != nil {
		t.Error(err)
	}
	for i := range ops {
		if ops[i].Err != unix.EAFNOSUPPORT {
			t.Fatalf("op %d: %v", i, ops[i].Err)
		}
	}
}

// TestApplyOrder: ops act in their order, within a batch too.
func TestApplyOrder(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f, g := tcp4(snat4), tcp4(plain4)
	mustApply(t, table, Op{Flow: f}, Op{Kind: OpDelete, Flow: f}, Op{Flow: g}, Op{Kind: OpReplace, Flow: f})
	compareFlow(t, "last", asShown(f), onlyFlow(t, table))
}

// TestDeleteTakesEitherDirection shows why the caller must not delete by a
// tuple that it does not own: a reply tuple names an entry as well.
func TestDeleteTakesEitherDirection(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(snat4)
	mustApply(t, table, Op{Flow: f})
	reply := f.ReplyKey()
	var got Flow
	if ok, err := table.Get(&reply, &got); ok || err != nil {
		t.Errorf("Get by reply tuple: %v, %v", ok, err)
	}
	if err := table.Delete(&reply); err != nil {
		t.Error(err)
	}
	if n, _, _ := table.Count(); n != 0 {
		t.Errorf("%d flows left", n)
	}
}

// TestKeysOfOneZoneOnly: Get and Delete stay within the zone of the key.
func TestKeysOfOneZoneOnly(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f, g := tcp4(snat4), tcp4(snat4)
	g.Zone = 5
	mustApply(t, table, Op{Flow: f}, Op{Flow: g})
	key, other := g.Key(), g.Key()
	other.Zone = 6
	var got Flow
	if ok, err := table.Get(&other, &got); ok || err != nil {
		t.Errorf("Get in another zone: %v, %v", ok, err)
	}
	if err := table.Delete(&other); err != nil {
		t.Error(err)
	}
	if err := table.Delete(&key); err != nil {
		t.Error(err)
	}
	compareFlow(t, "the one without zone", asShown(f), onlyFlow(t, table))
}

// TestFamilyNeverReachesKernel: a Key without family must not become "all".
func TestFamilyNeverReachesKernel(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	mustApply(t, table, Op{Flow: tcp4(snat4)})
	if err := table.Delete(&Key{}); err == nil {
		t.Error("Delete of the zero Key was taken")
	}
	if _, err := table.Get(&Key{}, new(Flow)); err == nil {
		t.Error("Get of the zero Key was taken")
	}
	if n, _, _ := table.Count(); n != 1 {
		t.Errorf("%d flows, want 1", n)
	}
}

// TestDumpSlice walks a table in steps, changes it meanwhile, and gives a walk
// up for a new one.
func TestDumpSlice(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	ops := numbered(5000)
	mustApply(t, table, ops...)
	seen := map[Key]int{}
	note := func(f *Flow) error { seen[f.Key()]++; return nil }
	steps := 0
	for done := false; !done; steps++ {
		before := len(seen)
		var err error
		if done, err = table.DumpSlice(500, note); err != nil {
			t.Fatal(err)
		}
		if n := len(seen) - before; n > 500+200 {
			t.Errorf("step of %d flows", n)
		}
		f := ops[steps].Flow
		mustApply(t, table, Op{Kind: OpReplace, Flow: f}) // beside the walk
	}
	if steps < 5 {
		t.Errorf("%d steps", steps)
	}
	for i := steps; i < len(ops); i++ {
		if seen[ops[i].Flow.Key()] == 0 {
			t.Fatalf("flow %d lived all the time and was not shown", i)
		}
	}
	if _, err := table.DumpSlice(100, note); err != nil { // begins anew
		t.Fatal(err)
	}
	if n := len(dump(t, table)); n != len(ops) { // gives that up
		t.Errorf("dump shows %d flows, want %d", n, len(ops))
	}
}

// TestDumpStops at the caller's error, and the table is usable afterwards.
func TestDumpStops(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	mustApply(t, table, numbered(2000)...)
	n, enough := 0, fmt.Errorf("enough")
	err := table.Dump(func(*Flow) error {
		if n++; n == 10 {
			return enough
		}
		return nil
	})
	if err != enough || n != 10 {
		t.Errorf("after %d: %v", n, err)
	}
	if got := len(dump(t, table)); got != 2000 {
		t.Errorf("next dump shows %d flows", got)
	}
}

// TestBatchingFacts: what one sendmsg takes, and who answers.
func TestBatchingFacts(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	n, max, err := table.Count()
	if err != nil || n != 0 || max < 1000 {
		t.Errorf("Count: %d, %d, %v", n, max, err)
	}
	if b, err := table.Buckets(); err != nil || b < 256 {
		t.Errorf("Buckets: %d, %v", b, err)
	}
	if table.sndbuf < 4<<20 {
		t.Errorf("one sendmsg takes %d bytes", table.sndbuf)
	}
	// 20,000 creates, nothing but the last asks for an answer, and one comes.
	ops := numbered(20_000)
	var b []byte
	last := 0
	for i := range ops {
		last = len(b)
		b = appendCreate(b, &ops[i].Flow, uint32(i+1))
	}
	setFlags(b[last:], unix.NLM_F_ACK)
	if len(b) > table.sndbuf {
		b, last = b[:0], 0
		t.Errorf("%d messages do not fit %d bytes", len(ops), table.sndbuf)
	}
	if err := table.ops.send(b); err != nil {
		t.Fatal(err)
	}
	m, err := table.ops.receive()
	if errno, _ := m.errno(); err != nil || m.Seq != uint32(len(ops)) || errno != 0 {
		t.Errorf("answer %+v, %v", m, err)
	}
	if n, _, _ := table.Count(); int(n) != len(ops) {
		t.Errorf("%d flows", n)
	}
	if err := table.ops.send(make([]byte, table.sndbuf+1)); err == nil {
		t.Error("a message longer than the buffer was taken")
	}
}

// TestRefusalDoesNotEcho: with NETLINK_CAP_ACK a refusal carries the header of
// the request only.
func TestRefusalDoesNotEcho(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(snat4)
	f.TCP.State = 99
	if err := table.ops.send(appendCreate(nil, &f, 7)); err != nil {
		t.Fatal(err)
	}
	m, err := table.ops.receive()
	if err != nil || len(m.Payload) != 4+sizeofHeader || binary.NativeEndian.Uint32(m.Payload[12:]) != 7 {
		t.Errorf("answer of %d bytes: %v, %v", len(m.Payload), m, err)
	}
}

// TestRenew: a timeout is set and nothing else; of an entry that has run out the
// kernel says at once that it is not there, though it removes it later.
func TestRenew(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	short, lasting, fixed := numbered(3)[0].Flow, numbered(3)[1].Flow, numbered(3)[2].Flow
	short.Timeout, lasting.Timeout = 1, 50
	fixed.Status |= FixedTimeout
	mustApply(t, table, Op{Flow: short}, Op{Flow: lasting}, Op{Flow: fixed})
	time.Sleep(2100 * time.Millisecond)
	ops := []Op{{Kind: OpRenew, Flow: short}, {Kind: OpRenew, Flow: lasting}, {Kind: OpRenew, Flow: fixed}, {Kind: OpRenew, Flow: numberedFrom(9, 1)[0].Flow}}
	for i := range ops {
		ops[i].Flow.Timeout = 600
	}
	if err := table.Apply(ops); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{unix.ENOENT, nil, unix.EPERM, unix.ENOENT} {
		if ops[i].Err != want {
			t.Errorf("renewal %d: %v, want %v", i, ops[i].Err, want)
		}
	}
	var got Flow
	k := lasting.Key()
	if ok, err := table.Get(&k, &got); !ok || err != nil || got.Timeout < 595 || got.Timeout > 600 {
		t.Fatalf("the entry has %d s: %v, %v", got.Timeout, ok, err)
	}
	got.Timeout = lasting.Timeout
	compareFlow(t, "renewed", asShown(lasting), got)
}

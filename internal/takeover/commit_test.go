// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// listViews is Views over a list: what Take gives is what the test put in.
type listViews struct {
	mu     sync.Mutex
	unseen int // Takes that find nothing yet
	todo   []conntrack.Op
	done   []conntrack.Op
}

func (v *listViews) Take(ops []conntrack.Op, _ time.Duration) (_ []conntrack.Op, more bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.unseen > 0 {
		v.unseen--
		return ops, true
	}
	n := min(len(v.todo), cap(ops))
	ops = append(ops, v.todo[:n]...)
	v.todo = v.todo[n:]
	return ops, false
}

func (v *listViews) Done(ops []conntrack.Op) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done = append(v.done, ops...)
}

func (v *listViews) Uncommitted() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.todo)
}

func (v *listViews) Adopt() bool { return false }

// ownKernel is the kernel table of a namespace of the test's own.
func ownKernel(t *testing.T) *conntrack.Table {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread goes with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network namespace: %v", err)
	}
	k, err := conntrack.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// natted is a TCP flow from a client's port through 203.0.113.1:natPort.
func natted(port, natPort uint16) conntrack.Flow {
	a := func(s string) conntrack.Addr { return conntrack.AddrFrom(netip.MustParseAddr(s)) }
	client, server, vip := a("10.0.0.10"), a("203.0.113.10"), a("203.0.113.1")
	return conntrack.Flow{
		Orig:   conntrack.Tuple{Src: client, Dst: server, SrcPort: port, DstPort: 80},
		Reply:  conntrack.Tuple{Src: server, Dst: vip, SrcPort: 80, DstPort: natPort},
		Status: conntrack.Confirmed | conntrack.SeenReply | conntrack.Assured, Timeout: 100,
		Family: conntrack.IPv4, Proto: unix.IPPROTO_TCP,
		TCP: conntrack.TCP{State: conntrack.TCPEstablished, Flags: [2]uint8{3, 3}, Scale: [2]uint8{7, 7}},
	}
}

// passes runs the committer until it has nothing left.
func passes(t *testing.T, c *Committer) {
	t.Helper()
	for range 100 {
		more, err := c.pass(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
	}
	t.Fatal("the committer finds no end")
}

func TestCommitDisplacesOlderClaimants(t *testing.T) {
	for _, tc := range []struct {
		name             string
		active, rush     bool
		wantErr          error
		wantNAT          uint16 // who has the translated port 5000 in the end
		displaced, clash uint64
		olderOrig        uint16
	}{
		{name: "Backup", wantNAT: 1000, displaced: 1, olderOrig: 2000},
		{name: "takeover", active: true, rush: true, wantNAT: 1000, displaced: 1, olderOrig: 2000},
		{name: "Active, later", active: true, wantErr: unix.EEXIST, wantNAT: 2000, clash: 1, olderOrig: 2000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := ownKernel(t)
			older := []conntrack.Op{{Kind: conntrack.OpCreate, Flow: natted(tc.olderOrig, 5000)}}
			if err := k.Apply(older); err != nil || older[0].Err != nil {
				t.Fatal(err, older[0].Err)
			}
			v := &listViews{todo: []conntrack.Op{{Kind: conntrack.OpCreate, Flow: natted(1000, 5000)}}}
			c := NewCommitter(v, k, true, 0, func(Event) {})
			c.SetActive(tc.active)
			c.Rush(tc.rush)
			passes(t, c)
			if got := v.done[0].Err; got != tc.wantErr {
				t.Errorf("outcome %v, want %v", got, tc.wantErr)
			}
			var owner uint16
			if err := k.Dump(func(f *conntrack.Flow) error { owner = f.Orig.SrcPort; return nil }); err != nil {
				t.Fatal(err)
			}
			if owner != tc.wantNAT {
				t.Errorf("the translated port belongs to client port %d, want %d", owner, tc.wantNAT)
			}
			if s := c.Stats(); s.Displaced != tc.displaced || s.Clashes != tc.clash {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// counting counts what reaches the kernel.
type counting struct {
	*conntrack.Table
	applies, deletes int
}

func (k *counting) Apply(ops []conntrack.Op) error {
	k.applies++
	return k.Table.Apply(ops)
}

func (k *counting) Delete(key *conntrack.Key) error {
	k.deletes++
	return k.Table.Delete(key)
}

// What a former life of this daemon committed is written anew in batches, not
// one by one: a daemon that was started again must not need a minute for it.
func TestCommitOverAFormerLife(t *testing.T) {
	const n = 1000
	k := &counting{Table: ownKernel(t)}
	for life, want := range []int{(n + batch - 1) / batch, 2 * ((n + batch - 1) / batch)} {
		v := &listViews{}
		for port := range uint16(n) {
			f := natted(1000+port, 5000+port)
			f.Mark = uint32(life + 1)
			v.todo = append(v.todo, conntrack.Op{Kind: conntrack.OpCreate, Flow: f})
		}
		k.applies, k.deletes = 0, 0
		c := NewCommitter(v, k, true, 0, func(Event) {})
		passes(t, c)
		if k.applies != want || k.deletes != 0 {
			t.Errorf("life %d: %d batches and %d deletions for %d flows, want %d and none", life, k.applies, k.deletes, n, want)
		}
		if s := c.Stats(); s.Created != n || s.Clashes != 0 || s.Failed != 0 {
			t.Errorf("life %d: %+v", life, s)
		}
		got := 0
		if err := k.Dump(func(f *conntrack.Flow) error {
			if f.Mark == uint32(life+1) {
				got++
			}
			return nil
		}); err != nil || got != n {
			t.Errorf("life %d: %d entries are of it (%v)", life, got, err)
		}
	}
}

// failing lets some batches through, then its socket is broken.
type failing struct {
	*conntrack.Table
	left int
}

func (k *failing) Apply(ops []conntrack.Op) error {
	if k.left--; k.left < 0 {
		return unix.ENOBUFS
	}
	return k.Table.Apply(ops)
}

// TestRush: all that is left goes through two lots, comes back in the order in
// which it was taken, and is reported as committed once all of it came back. A
// rush that was called off, or whose socket broke, leaves the rest.
func TestRush(t *testing.T) {
	const n = 5*batch + 11
	fill := func() *listViews {
		v := &listViews{}
		for port := range uint16(n) {
			v.todo = append(v.todo, conntrack.Op{Kind: conntrack.OpCreate, Flow: natted(1000+port, 5000+port)})
		}
		return v
	}
	inOrder := func(t *testing.T, v *listViews) {
		t.Helper()
		for i := range v.done {
			if want := uint16(1000 + i); v.done[i].Flow.Orig.SrcPort != want || v.done[i].Err != nil {
				t.Fatalf("outcome %d is of client port %d (%v), want %d", i, v.done[i].Flow.Orig.SrcPort, v.done[i].Err, want)
			}
		}
	}
	t.Run("to the end", func(t *testing.T) {
		v, back := fill(), -1
		c := NewCommitter(v, ownKernel(t), false, 0, func(ev Event) {
			if ev.Kind == EvCommitted {
				back = len(v.done)
			}
		})
		c.Rush(true)
		passes(t, c)
		inOrder(t, v)
		if s := c.Stats(); len(v.done) != n || back != n || s.Created != n {
			t.Errorf("%d outcomes, %d of them before it was reported, %d entries made; want %d", len(v.done), back, s.Created, n)
		}
	})
	t.Run("called off", func(t *testing.T) {
		v := fill()
		var c *Committer
		c = NewCommitter(v, ownKernel(t), false, 0, func(ev Event) { c.Rush(false) })
		c.Rush(true)
		passes(t, c)
		inOrder(t, v)
		if len(v.done)+len(v.todo) != n || len(v.todo) < n-4*batch {
			t.Errorf("%d outcomes and %d left of %d: want a few lots and the rest", len(v.done), len(v.todo), n)
		}
	})
	t.Run("broken", func(t *testing.T) {
		v := fill()
		c := NewCommitter(v, &failing{Table: ownKernel(t), left: 3}, false, 0, func(Event) {})
		c.Rush(true)
		if _, err := c.pass(t.Context()); !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("error %v, want that of the socket", err)
		}
		inOrder(t, v)
		if len(v.done) != 3*batch {
			t.Errorf("%d outcomes, want %d", len(v.done), 3*batch)
		}
	})
}

// TestRushEndsWhenAllWasSeen: a view that gives nothing for a moment, since it has
// not looked at all of it yet, is no view of which all is committed.
func TestRushEndsWhenAllWasSeen(t *testing.T) {
	for _, n := range []int{1, batch + 1} { // as much as takes one goroutine, or two
		k := ownKernel(t)
		v := &listViews{unseen: 3}
		var left []int // when it was said that nothing is
		c := NewCommitter(v, k, false, 0, func(ev Event) {
			if ev.Kind == EvCommitted {
				left = append(left, v.Uncommitted())
			}
		})
		for i := range n {
			v.todo = append(v.todo, conntrack.Op{Kind: conntrack.OpCreate, Flow: natted(uint16(i+1), uint16(i+1))})
		}
		c.Rush(true)
		passes(t, c)
		if count, _, err := k.Count(); err != nil || int(count) != n || len(left) != 1 || left[0] != 0 {
			t.Errorf("%d entries (%v), want %d; said to be all with %v left, want once with none", count, err, n, left)
		}
	}
}

// TestCommitModes: who commits when.
func TestCommitModes(t *testing.T) {
	k := ownKernel(t)
	var said []EventKind
	v := &listViews{}
	c := NewCommitter(v, k, false, 0, func(ev Event) { said = append(said, ev.Kind) })
	put := func(port uint16) {
		v.todo = append(v.todo, conntrack.Op{Kind: conntrack.OpCreate, Flow: natted(port, port)})
	}
	check := func(when string, want uint32) {
		t.Helper()
		passes(t, c)
		if n, _, err := k.Count(); err != nil || n != want {
			t.Fatalf("%s: %d entries (%v), want %d", when, n, err, want)
		}
	}
	put(1)
	check(`commit = "takeover", Backup`, 0)
	c.Rush(true)
	check("rush", 1)
	if len(said) != 2 || said[0] != EvProgress || said[1] != EvCommitted {
		t.Fatalf("reported %v, want progress, committed", said)
	}
	c.Rush(false)
	put(2)
	check("after the rush", 1)
	c.continuous = true
	c.Pause(time.Hour)
	check("paused", 1)
	c.Pause(0)
	check("continuous", 2)
	if ttl := timeoutOf(t, k); ttl < timeoutFloor-20 { // a machine may stand still meanwhile
		t.Errorf("committed with a timeout of %d s, want at least %d", ttl, timeoutFloor)
	}
}

func timeoutOf(t *testing.T, k *conntrack.Table) (least uint32) {
	t.Helper()
	least = 1 << 31
	if err := k.Dump(func(f *conntrack.Flow) error { least = min(least, f.Timeout); return nil }); err != nil {
		t.Fatal(err)
	}
	return least
}

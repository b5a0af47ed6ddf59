// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// TestActiveInTheMiddleOfAForget: the change of role does not wait for it, what it
// has not reached is written anew all the same, and nothing before all of it is
// known. What comes since then is late, also where an entry of before had been,
// and what was late in a former term no longer is.
func TestActiveInTheMiddleOfAForget(t *testing.T) {
	const n = 3 * forgetPace
	c := coupleWith(n)
	c.run(time.Second)
	v := c.ba.View()
	all := func(errs ...error) (did map[conntrack.OpKind]int) {
		did = map[conntrack.OpKind]int{}
		for more := true; more; {
			ops, tokens := v.Pending(nil, nil, 2*n, 0, c.now)
			if more = v.Forgetting(); more && len(ops) > 0 {
				t.Error("something is written before all of it is known")
			}
			for i := range ops {
				did[ops[i].Kind]++
				if ops[i].Kind == conntrack.OpCreate && len(errs) > 0 {
					ops[i].Err = errs[0]
				}
			}
			v.Done(tokens, ops)
		}
		return did
	}
	counts := func(what string, got, want map[conntrack.OpKind]int) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	counts("at first", all(), map[conntrack.OpKind]int{conntrack.OpCreate: n})

	c.b.SetActive(true) // a former term: one flow clashes in it
	c.a.Tell(tcpFlow(n+1), c.now)
	c.run(5 * time.Millisecond)
	counts("late", all(unix.EEXIST), map[conntrack.OpKind]int{conntrack.OpCreate: 1})
	c.b.SetActive(false)
	c.a.Gone(tcpFlow(n), c.now)
	c.run(5 * time.Millisecond)
	counts("gone", all(), map[conntrack.OpKind]int{conntrack.OpDelete: 1})

	v.Forget()
	c.b.SetActive(true)
	if !v.Forgetting() {
		t.Error("the change of role did all of the Forget")
	}
	c.a.Tell(tcpFlow(n+2), c.now) // where flow n was
	c.run(5 * time.Millisecond)
	before := v.Stats().Clashes
	counts("in the term that begins", all(unix.EEXIST), map[conntrack.OpKind]int{conntrack.OpReplace: n, conntrack.OpCreate: 1})
	if now := v.Stats().Clashes; now != before+1 || v.Uncommitted() != 0 {
		t.Errorf("%d clashes, want the one of the late flow; %d uncommitted", now-before, v.Uncommitted())
	}
}

// TestReclaim: beside an Active the peer was Active as well. What packets told here
// counts against its flows until Reclaim; then, slice by slice, the kernel table and
// own flows take its word, but for what came since, and nothing is adopted before.
func TestReclaim(t *testing.T) {
	const n = 2*forgetPace + 100
	c := coupleWith(n)
	c.run(time.Second)
	v := c.ba.View()
	c.b.SetActive(true)
	pending := func() (did map[conntrack.OpKind]int) {
		did = map[conntrack.OpKind]int{}
		for more := true; more; more = v.Forgetting() {
			ops, tokens := v.Pending(nil, nil, 2*n, 0, c.now)
			for i := range ops {
				did[ops[i].Kind]++
			}
			v.Done(tokens, ops)
		}
		return did
	}
	tell := func(of *Node, flows uint32, mark uint32) {
		for i := uint32(1); i <= flows; i++ {
			f := tcpFlow(i)
			f.Mark = mark
			of.Tell(f, c.now)
		}
	}
	adopt := func() (marks map[uint32]int) {
		for c.b.Adopt(n/4, c.now) {
			if v.Forgetting() {
				t.Fatal("Adopt ends before the Forget does, or does not end")
			}
		}
		marks = map[uint32]int{}
		c.b.OwnSlice(0, 2*n, func(f *conntrack.Flow) { marks[f.Mark]++ })
		return marks
	}
	pending()
	adopt()
	tell(c.b, n, 2)
	tell(c.a, n, 3)
	c.run(time.Second)
	pending()
	if d := cmp.Diff(map[uint32]int{2: n}, adopt()); d != "" {
		t.Errorf("own flows beside another Active, by mark (-want +got):\n%s", d)
	}

	c.b.Reclaim(c.ba, c.now)
	if v.Uncommitted() < n || !v.Forgetting() {
		t.Errorf("%d uncommitted, want %d; a Forget under way: %t", v.Uncommitted(), n, v.Forgetting())
	}
	if !c.b.Adopt(2*n, c.now) {
		t.Error("Adopt says that it is done before the Forget is")
	}
	c.a.Gone(tcpFlow(n), c.now) // before its turn
	c.run(5 * time.Millisecond)
	if d := cmp.Diff(map[conntrack.OpKind]int{conntrack.OpReplace: n - 1}, pending()); d != "" {
		t.Errorf("written after Reclaim (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[uint32]int{3: n - 1, 2: 1}, adopt()); d != "" {
		t.Errorf("own flows after Reclaim, by mark (-want +got):\n%s", d)
	}
	tell(c.b, n-1, 4)
	pending()
	if d := cmp.Diff(map[uint32]int{4: n - 1, 2: 1}, adopt()); d != "" {
		t.Errorf("own flows that packets told since, by mark (-want +got):\n%s", d)
	}
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/conntrack"
)

// Fill and Receive are those of the only path: most tests need no other.
func (p *Peer) Fill(buf []byte, now int64) int { return p.only(now).Fill(buf, now) }

func (p *Peer) Receive(payload []byte, now int64) error { return p.only(now).Receive(payload, now) }

func (p *Peer) only(now int64) *Path {
	if len(p.paths) == 0 {
		p.AddPath(0, now)
	}
	return p.paths[0]
}

// wires are a couple joined by several paths, each with a size at either end;
// a datagram that the other end does not take is lost.
type wires struct {
	*couple
	size   [][2]int  // of path, at a and at b
	cut    [][2]bool // of path, towards a and towards b
	most   []int     // largest datagram that arrived, by path
	lost   int       // too large for the other end
	filter func(b []byte) []byte
}

func newWires(size ...[2]int) *wires {
	w := &wires{couple: newCouple(), size: size, cut: make([][2]bool, len(size)), most: make([]int, len(size))}
	for i := range size {
		w.ab.AddPath(i, w.now)
		w.ba.AddPath(i, w.now)
	}
	return w
}

// ethernet is two paths of 1,500 bytes.
func ethernet() *wires { return newWires([2]int{1472, 1472}, [2]int{1472, 1472}) }

func (w *wires) run(d time.Duration) {
	for end := w.now + int64(d); w.now < end; w.now += ms {
		w.a.Tick(w.now)
		w.b.Tick(w.now)
		for i := range w.size {
			w.carry(i, w.ab.paths[i], w.ba.paths[i], 1)
			w.carry(i, w.ba.paths[i], w.ab.paths[i], 0)
		}
	}
}

func (w *wires) carry(i int, from, to *Path, end int) {
	buf := make([]byte, w.size[i][1-end])
	for n := from.Fill(buf, w.now); n > 0; n = from.Fill(buf, w.now) {
		b := buf[:n]
		if w.filter != nil {
			b = w.filter(b)
		}
		switch {
		case w.cut[i][end]:
		case len(b) > w.size[i][end]:
			w.lost++
		default:
			w.most[i] = max(w.most[i], len(b))
			_ = to.Receive(b, w.now)
		}
	}
}

// join lets both find each other, and tells n flows.
func (w *wires) join(t *testing.T, n uint32) {
	t.Helper()
	for i := range n {
		w.a.Tell(tcpFlow(i), w.now)
	}
	w.run(500 * time.Millisecond)
	if !w.ab.Drained() || w.ba.View().Len() != int(n) || w.ab.use != w.ab.paths[0] || w.ba.use != w.ba.paths[0] {
		t.Fatalf("not joined by path 1: %+v", w.ab.Stats())
	}
}

// change gives flow i another mark.
func (w *wires) change(i, mark uint32) conntrack.Key {
	f := tcpFlow(i)
	f.Mark = mark
	w.a.Tell(f, w.now)
	return f.Key()
}

// TestPathFails: flows change all the time while the path in use is cut in one
// direction or both. Changes arrive again within 200 ms, over the other path;
// no side takes the other for down, and nothing is joined anew.
func TestPathFails(t *testing.T) {
	for _, tt := range []struct {
		name    string
		cut     [2]bool // towards a, towards b
		changes [2]uint64
	}{
		{"to the peer", [2]bool{false, true}, [2]uint64{1, 0}},
		{"from the peer", [2]bool{true, false}, [2]uint64{0, 1}},
		{"both ways", [2]bool{true, true}, [2]uint64{1, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ethernet()
			w.join(t, 5000)
			w.a.Events()
			w.b.Events()
			full := w.ab.Stats().SentFull
			w.cut[0] = tt.cut
			begin, worst := w.now, int64(0)
			for i := uint32(0); w.now < begin+int64(time.Second); i++ {
				k := w.change(i%5000, 1000+i)
				told := w.now
				w.run(3 * time.Millisecond)
				j, _ := w.ba.view.find(&k)
				for w.ba.view.table(k.Family).mutable(j).mark != 1000+i {
					w.run(time.Millisecond)
				}
				worst = max(worst, w.now-told)
			}
			t.Logf("worst: %v", time.Duration(worst))
			if worst > int64(200*time.Millisecond) {
				t.Errorf("a change took %v, want at most 200 ms", time.Duration(worst))
			}
			for name, n := range map[string]*Node{"a": w.a, "b": w.b} {
				if ev := n.Events(); len(ev) > 0 {
					t.Errorf("%s: events %+v", name, ev)
				}
			}
			w.run(100 * time.Millisecond)
			if diff := cmp.Diff(flowsOfOwn(w.a), flowsOf(w.ba.View())); diff != "" {
				t.Errorf("the view (-own +view):\n%s", diff)
			}
			a, b := w.ab.Stats(), w.ba.Stats()
			if a.Sessions != 1 || a.SentFull != full || a.PathChanges != tt.changes[0] || b.PathChanges != tt.changes[1] {
				t.Errorf("%d sessions, %d full records, %d and %d changes of path, want 1, %d, %v", a.Sessions, a.SentFull, a.PathChanges, b.PathChanges, full, tt.changes)
			}

			w.cut[0] = [2]bool{}
			lost := a.LostDatagrams
			for i := uint32(0); w.ab.use != w.ab.paths[0] || w.ba.use != w.ba.paths[0]; i++ {
				w.change(i%5000, i)
				if w.run(2 * time.Millisecond); i > 3000 {
					t.Fatal("the better path is not used again")
				}
			}
			w.run(100 * time.Millisecond)
			if now := w.ab.Stats().LostDatagrams; now != lost {
				t.Errorf("%d datagrams were lost on the way back", now-lost)
			}
		})
	}
}

func flowsOfOwn(n *Node) map[conntrack.Key]conntrack.Flow {
	m := map[conntrack.Key]conntrack.Flow{}
	n.Own(func(f *conntrack.Flow, _ bool) bool {
		m[f.Key()] = *f
		return true
	})
	return m
}

// TestAllPathsFail: only then is the peer down, and it is the same session that
// goes on when any of them returns.
func TestAllPathsFail(t *testing.T) {
	w := ethernet()
	w.join(t, 100)
	w.b.Events()
	w.cut[0], w.cut[1] = [2]bool{true, true}, [2]bool{true, true}
	w.run(250 * time.Millisecond)
	if !w.ab.Up() || !w.ba.Up() {
		t.Error("down before 300 ms")
	}
	w.run(100 * time.Millisecond)
	if ev := w.b.Events(); len(ev) != 1 || ev[0].Kind != PeerDown {
		t.Fatalf("events %+v", ev)
	}
	w.change(3, 33)
	w.run(time.Second)
	w.cut[1] = [2]bool{}
	w.run(150 * time.Millisecond)
	if s := w.ba.Stats(); !w.ab.Up() || !w.ba.Up() || s.Sessions != 1 || w.ab.use != w.ab.paths[1] {
		t.Errorf("after the second path returned: %+v, %+v", s, w.ab.use.Stats())
	}
	if diff := cmp.Diff(flowsOfOwn(w.a), flowsOf(w.ba.View())); diff != "" {
		t.Errorf("the view (-own +view):\n%s", diff)
	}
}

// TestLossIsNoFailure: paths that lose one datagram of five are not left for
// each other all the time.
func TestLossIsNoFailure(t *testing.T) {
	w := ethernet()
	w.join(t, 100)
	noise := seeded(1)
	w.filter = func(b []byte) []byte {
		if noise.IntN(5) == 0 {
			return nil
		}
		return b
	}
	w.run(time.Minute)
	if a, b := w.ab.Stats(), w.ba.Stats(); a.PathChanges+b.PathChanges > 4 || !w.ab.Up() || a.Sessions != 1 {
		t.Errorf("%d and %d changes of path in a minute, up %t", a.PathChanges, b.PathChanges, w.ab.Up())
	}
}

// TestPathSizes: each path has its size, the smaller one of both ends; what was
// on its way in large datagrams goes out in small ones after a change.
func TestPathSizes(t *testing.T) {
	w := newWires([2]int{8972, 8972}, [2]int{8972, 1252})
	w.join(t, 5000)
	if w.most[0] < 8000 || w.most[1] > 1252 || w.lost > 0 {
		t.Fatalf("jumbo frames: largest %v, %d were too large", w.most, w.lost)
	}
	for i := range uint32(5000) {
		w.change(i, 7)
	}
	w.run(2 * time.Millisecond)
	w.cut[0] = [2]bool{true, true}
	for i := range uint32(5000) {
		w.change(i, 8)
	}
	w.run(400 * time.Millisecond)
	if diff := cmp.Diff(flowsOfOwn(w.a), flowsOf(w.ba.View())); diff != "" {
		t.Errorf("the view (-own +view):\n%s", diff)
	}
	if w.most[1] < 1100 || w.lost > 0 {
		t.Errorf("by the smaller path: largest %v, %d were too large", w.most, w.lost)
	}
}

// withoutPath takes PATH records out of a datagram, as an older peer would
// neither write nor read them.
func withoutPath(b []byte) []byte {
	var h header
	body, err := parseDatagram(b, &h)
	if err != nil {
		return b
	}
	out := appendHeader(nil, &h)
	for len(body) > 0 && body[0]&classMask == classControl {
		typ, inner, rest, _ := parseControl(body)
		if body = rest; typ != recPath {
			out = appendControl(out, typ, inner)
		}
	}
	return closeDatagram(append(out, body...))
}

// TestPeerWithoutPaths: one that says nothing of paths is taken at our own ears.
func TestPeerWithoutPaths(t *testing.T) {
	w := ethernet()
	w.filter = withoutPath
	w.join(t, 100)
	w.cut[0] = [2]bool{true, true}
	w.run(160 * time.Millisecond)
	w.change(1, 5)
	w.run(50 * time.Millisecond)
	if diff := cmp.Diff(flowsOfOwn(w.a), flowsOf(w.ba.View())); diff != "" || w.ab.use != w.ab.paths[1] {
		t.Errorf("the view (-own +view):\n%s", diff)
	}
}

// TestPathsComeAndGo: a path is added to a peer that is up, and the one in use
// is taken away.
func TestPathsComeAndGo(t *testing.T) {
	w := newWires([2]int{1472, 1472})
	w.join(t, 100)
	w.size, w.cut, w.most = append(w.size, [2]int{1472, 1472}), make([][2]bool, 2), make([]int, 2)
	w.ab.AddPath(1, w.now)
	w.ba.AddPath(1, w.now)
	w.run(100 * time.Millisecond)
	if s := w.ab.paths[1].Stats(); !s.Hearing || !s.Echoed || s.InUse {
		t.Fatalf("the second path: %+v", s)
	}
	for _, p := range []*Peer{w.ab, w.ba} {
		p.RemovePath(p.paths[0], w.now)
		if p.use != p.paths[0] || p.use.number != 2 {
			t.Errorf("the path in use is %+v", p.use)
		}
	}
	w.size, w.cut = w.size[1:], w.cut[1:]
	w.change(1, 5)
	w.run(100 * time.Millisecond)
	if diff := cmp.Diff(flowsOfOwn(w.a), flowsOf(w.ba.View())); diff != "" || !w.ab.Up() || w.ab.Stats().Sessions != 1 {
		t.Errorf("the view (-own +view):\n%s", diff)
	}
	for len(w.ab.paths) < maxPaths {
		w.ab.AddPath(9, w.now)
	}
	if pa := w.ab.AddPath(9, w.now); pa != nil || w.ab.paths[1].number != 1 {
		t.Errorf("path %+v beyond the %d that can be numbered", pa, maxPaths)
	}
}

// TestLatePathRecord: a report that a younger one overtook changes nothing.
func TestLatePathRecord(t *testing.T) {
	w := ethernet()
	w.join(t, 1)
	var late []byte
	w.filter = func(b []byte) []byte {
		if late == nil {
			late = append(late, b...)
			return b[:0]
		}
		return b
	}
	w.cut[0] = [2]bool{true, true}
	for late == nil || late[3] != typeData {
		late = nil
		w.run(time.Millisecond)
	}
	w.run(200 * time.Millisecond)
	use := w.ba.use
	_ = w.ba.paths[1].Receive(late, w.now)
	if use != w.ba.paths[1] || w.ba.use != use || w.ba.paths[0].echoed {
		t.Errorf("an old report moved b to path %d", w.ba.use.number)
	}
}

func TestPathRecord(t *testing.T) {
	for _, m := range []pathRecord{{1, 0, 512}, {maxPaths, 0xffff, 65535}, {3, 0x8001, 8972}} {
		b := appendPath(nil, &m)
		typ, body, rest, ok := parseControl(b)
		var got pathRecord
		if !ok || typ != recPath || len(rest) != 0 || !parsePath(body, &got) || got != m {
			t.Errorf("%+v became %+v", m, got)
		}
		if !parsePath(append(body, 1, 2, 3), &got) || got != m {
			t.Errorf("%+v with something after it became %+v", m, got)
		}
		for n := range body {
			if parsePath(body[:n], &got) {
				t.Errorf("%d bytes of %d are taken for whole", n, len(body))
			}
		}
	}
	for _, b := range [][]byte{{0, 0, 0, 1}, {maxPaths + 1, 0, 0, 1}} {
		var m pathRecord
		if parsePath(b, &m) || validControl(recPath, b) {
			t.Errorf("path number %d is taken", b[0])
		}
	}
}

// TestReplayedHelloIsNotHeard: a hello of the living pair, played again while
// the peer is silent, keeps neither the path nor the peer alive.
func TestReplayedHelloIsNotHeard(t *testing.T) {
	w := ethernet()
	var old [][]byte
	w.filter = func(b []byte) []byte {
		if b[3] == typeHello {
			old = append(old, append([]byte(nil), b...))
		}
		return b
	}
	w.join(t, 1)
	w.cut[0], w.cut[1] = [2]bool{true, true}, [2]bool{true, true}
	for range 400 {
		for _, b := range old {
			_ = w.ab.paths[0].Receive(b, w.now)
			_ = w.ba.paths[0].Receive(b, w.now)
		}
		w.run(time.Millisecond)
	}
	if w.ab.Up() || w.ba.Up() || w.ab.paths[0].hearing || w.ba.paths[0].hearing {
		t.Error("old hellos keep a silent peer alive")
	}
	w.cut[0] = [2]bool{}
	w.run(100 * time.Millisecond)
	if !w.ab.Up() || !w.ba.Up() || w.ab.Stats().Sessions != 1 {
		t.Errorf("after it: %+v", w.ab.Stats())
	}
}

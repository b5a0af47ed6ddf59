// SPDX-License-Identifier: Apache-2.0

package flowdiff

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

func addr(s string) conntrack.Addr { return conntrack.AddrFrom(netip.MustParseAddr(s)) }

func flow(port uint16, change ...func(f *conntrack.Flow)) conntrack.Flow {
	f := conntrack.Flow{Family: conntrack.IPv4, Proto: unix.IPPROTO_TCP, Timeout: 100,
		Status: conntrack.SeenReply | conntrack.Assured | conntrack.Confirmed, TCP: conntrack.TCP{State: conntrack.TCPEstablished}}
	f.Orig = conntrack.Tuple{Src: addr("10.0.0.1"), Dst: addr("192.0.2.1"), SrcPort: port, DstPort: 80}
	f.Reply = conntrack.Tuple{Src: addr("192.0.2.1"), Dst: addr("10.0.0.1"), SrcPort: 80, DstPort: port}
	for _, c := range change {
		c(&f)
	}
	return f
}

func rules() Rules {
	return Rules{Policy: conntrack.DefaultPolicy(), Written: true, After: 3 * time.Second,
		Passes: func(f *conntrack.Flow) bool { return f.Orig.Dst != addr("192.0.2.99") }}
}

func TestJudge(t *testing.T) {
	marked := flow(1, func(f *conntrack.Flow) { f.Mark = 7 })
	f := flow(1)
	state := func(s conntrack.TCPState) conntrack.Flow { return flow(1, func(f *conntrack.Flow) { f.TCP.State = s }) }
	view := func(f conntrack.Flow) ViewFlow { return ViewFlow{Peer: "r2", Flow: f, Age: time.Minute} }
	commitAtTakeover, notMine := rules(), flow(1, func(f *conntrack.Flow) { f.Orig.Dst = addr("192.0.2.99") })
	commitAtTakeover.Written = false
	young, former := view(f), view(f)
	young.Age, former.Former = time.Second, true
	syn := flow(1, func(f *conntrack.Flow) { f.Status, f.TCP.State = conntrack.Confirmed, conntrack.TCPSynSent })
	over := state(conntrack.TCPTimeWait)
	closing := state(conntrack.TCPLastAck)
	for name, c := range map[string]struct {
		kernel *conntrack.Flow
		held   Held
		rules  *Rules
		want   []string
	}{
		"nowhere":                       {},
		"own flow as it is":             {kernel: &f, held: Held{Own: f, HasOwn: true}},
		"own flow on its way to end":    {kernel: &closing, held: Held{Own: f, HasOwn: true}},
		"own flow with another mark":    {kernel: &f, held: Held{Own: marked, HasOwn: true}, want: []string{"own: mark 7, in the kernel table 0"}},
		"own flow that is over":         {kernel: &over, held: Held{Own: f, HasOwn: true}, want: []string{"own: state open, in the kernel table over"}},
		"own flow without an entry":     {held: Held{Own: f, HasOwn: true}, want: []string{"own: missing in the kernel table"}},
		"own flow whose death waits":    {held: Held{Own: f, HasOwn: true, OwnWaits: true}},
		"entry without own flow":        {kernel: &f, want: []string{"own: missing, the kernel table has it"}},
		"entry that is not of age":      {kernel: &syn},
		"entry that is over":            {kernel: &over},
		"entry of the router's own":     {kernel: &notMine},
		"view and its entry":            {kernel: &f, held: Held{Views: []ViewFlow{view(f)}}},
		"view with another mark":        {kernel: &f, held: Held{Views: []ViewFlow{view(marked)}}, want: []string{"view r2: mark 7, in the kernel table 0"}},
		"view without an entry":         {held: Held{Views: []ViewFlow{view(f)}}, want: []string{"view r2: missing in the kernel table"}},
		"young in the view":             {held: Held{Views: []ViewFlow{young}}},
		"of a former session":           {held: Held{Views: []ViewFlow{former}}},
		"in a view, policy says no":     {held: Held{Views: []ViewFlow{view(syn)}}},
		"written at takeover only":      {held: Held{Views: []ViewFlow{view(f)}}, rules: &commitAtTakeover},
		"own flows come before views":   {kernel: &f, held: Held{Own: f, HasOwn: true, Views: []ViewFlow{view(marked)}}},
		"own flow in an absent entry's": {held: Held{Own: f, HasOwn: true, OwnWaits: true, Views: []ViewFlow{view(f)}}},
	} {
		r := rules()
		if c.rules != nil {
			r = *c.rules
		}
		var got []string
		for _, d := range r.judge(c.kernel, &c.held) {
			got = append(got, strings.TrimSpace(d.Copy+" "+d.Peer)+": "+strings.Join(d.What, "; "))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// world is a kernel table and copies that tests fill.
type world struct {
	kernel map[conntrack.Key]conntrack.Flow
	own    map[conntrack.Key]conntrack.Flow
	order  []conntrack.Key
	gets   func(n int) // called before the nth Get
	n      int
}

func (w *world) DumpSlice(_ int, fn func(*conntrack.Flow) error) (bool, error) {
	for _, f := range w.kernel {
		if err := fn(&f); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *world) Get(k *conntrack.Key, f *conntrack.Flow) (found bool, _ error) {
	if w.n++; w.gets != nil {
		w.gets(w.n)
	}
	*f, found = w.kernel[*k]
	return found, nil
}

func (w *world) Look(keys []conntrack.Key, held []Held) {
	for i, k := range keys {
		held[i] = Held{}
		held[i].Own, held[i].HasOwn = w.own[k]
	}
}

func (w *world) Keys(source int, _ uint32, _ int, fn func(k *conntrack.Key)) (uint32, bool) {
	for k := range w.own {
		if source == 0 {
			fn(&k)
		}
	}
	return 0, source == 0
}

func newWorld(n int) *world {
	w := &world{kernel: map[conntrack.Key]conntrack.Flow{}, own: map[conntrack.Key]conntrack.Flow{}}
	for i := range n {
		f := flow(uint16(i))
		w.kernel[f.Key()], w.own[f.Key()] = f, f
		w.order = append(w.order, f.Key())
	}
	return w
}

func run(t *testing.T, w *world) (r Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var err error
		if r, err = Run(context.Background(), w, w, rules); err != nil {
			t.Fatal(err)
		}
	})
	return r
}

func ports(r Result) (out []uint16) {
	for _, d := range r.Differences {
		out = append(out, d.Flow.Orig.SrcPort)
	}
	slices.Sort(out)
	return out
}

func TestRun(t *testing.T) {
	w := newWorld(3000)
	if r := run(t, w); len(r.Differences) != 0 || r.Kernel != 3000 || r.Copies != 3000 || w.n != 0 {
		t.Errorf("nothing differs: %+v, %d questions", r, w.n)
	}
	delete(w.kernel, w.order[5])
	delete(w.own, w.order[700])
	m := w.own[w.order[2900]]
	m.Mark = 1
	w.own[w.order[2900]] = m
	if diff := cmp.Diff([]uint16{5, 700, 2900}, ports(run(t, w))); diff != "" {
		t.Errorf("three differ (-want +got):\n%s", diff)
	}
}

// TestChangesAreNone: what differed while it changed is no difference.
func TestChangesAreNone(t *testing.T) {
	w := newWorld(10)
	for _, k := range w.order[:5] {
		delete(w.own, k) // told a moment later
	}
	w.gets = func(n int) {
		if n == 5 { // the last of the second look, after it was looked at
			for _, k := range w.order[1:5] {
				w.own[k] = w.kernel[k]
			}
		}
	}
	r := run(t, w)
	if diff := cmp.Diff([]uint16{0}, ports(r)); diff != "" {
		t.Errorf("one differs for good (-want +got):\n%s", diff)
	}
}

// TestManyDifferences: the work stays bounded, and what was left out is counted.
func TestManyDifferences(t *testing.T) {
	w := newWorld(maxSecond + 500)
	clear(w.own)
	if r := run(t, w); len(r.Differences) != maxSecond || r.More != 500 {
		t.Errorf("%d differ, %d more", len(r.Differences), r.More)
	}
}

func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := newWorld(10)
	clear(w.own)
	if _, err := Run(ctx, w, w, rules); err == nil {
		t.Error("it went on")
	}
}

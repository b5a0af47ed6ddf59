// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var (
	peer4, own4 = netip.MustParseAddr("192.168.255.2"), netip.MustParseAddr("192.168.255.1")
	peer6, own6 = netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fe80::1")
	far4, far6  = netip.MustParseAddr("192.168.255.77"), netip.MustParseAddr("fe80::77")
)

func value(n byte) (v [16]byte) {
	for i := range v {
		v[i] = n + byte(i)
	}
	return v
}

var theirs, mine, spare, other = value(1), value(50), value(100), value(200)

// looseGate is one that is attached nowhere.
func looseGate(t testing.TB, o GateOptions) *Gate {
	t.Helper()
	o.Interface, o.Port, o.Log = "none0", gatePort, logger(t)
	g, err := OpenGate(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	if mode, why := g.Mode(); mode != "" || why != `interface "none0" is not there` {
		t.Errorf("mode %q (%s)", mode, why)
	}
	return g
}

// live tells of one pair by each family, of which the last window had 5000
// alone.
func live(g *Gate) {
	bits := new([64]uint64)
	bits[5000/64%64] = 1 << (5000 % 64)
	var peers []GatePeer
	for _, a := range []netip.Addr{peer4, peer6} {
		peers = append(peers, GatePeer{Addr: a, Paired: true, Theirs: theirs, Mine: mine, Offered: true, Spare: spare, Highest: 5000, Received: bits})
	}
	g.Tell(peers, []GateKey{{77, stampKey}})
}

const xdpDrop, xdpPass = 1, 2

// judge runs the program over a packet and gives the counters that moved.
func (g *Gate) judge(t testing.TB, packet []byte) (verdict uint32, moved map[string]uint64) {
	t.Helper()
	before := g.counters(t)
	verdict, err := g.coll.Programs["tandem_sync"].Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		t.Fatal(err)
	}
	moved = map[string]uint64{}
	for k, n := range g.counters(t) {
		if n != before[k] {
			moved[k] = n - before[k]
		}
	}
	return verdict, moved
}

func (g *Gate) counters(t testing.TB) (m map[string]uint64) {
	t.Helper()
	b, err := json.Marshal(g.Stats())
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func data(seq uint64) dgram {
	return dgram{kind: 2, sequence: seq, sender: theirs, receiver: mine}
}

func edited(d dgram, fn func(b []byte) []byte) dgram { d.edit = fn; return d }

func set(at int, v byte) func(b []byte) []byte {
	return func(b []byte) []byte { b[at] = v; return b }
}

// TestGate: each reason, and what passes, by both families.
func TestGate(t *testing.T) {
	hello := func(s, r [16]byte) dgram { return dgram{kind: 1, sequence: 6000, sender: s, receiver: r} }
	swap := func(from, to dgram) dgram { from.sender, from.receiver = to.receiver, to.sender; return from }
	for _, tc := range []struct {
		name string
		d    dgram
		edit func(f *frame)
		want string // the one counter that moves
	}{
		{"another fragment", data(6000), func(f *frame) { f.fragment = fragmentOf(f, 0, true) }, "dropped_fragment"},
		{"routed", data(6000), func(f *frame) { f.hops = 254 }, "dropped_hops"},
		{"another source port", data(6000), func(f *frame) { f.sport = 3780 }, "dropped_stranger"},
		{"shorter than a header", edited(data(6000), func(b []byte) []byte { return b[:51] }), nil, "dropped_short"},
		{"empty", edited(data(6000), func(b []byte) []byte { return nil }), nil, "dropped_short"},
		{"shorter than it says", data(6000), func(f *frame) { f.cut = 20 }, "dropped_short"},
		{"no magic", edited(data(6000), set(0, 0)), nil, "dropped_version"},
		{"another version", edited(data(6000), set(2, 2)), nil, "dropped_version"},
		{"type 0", edited(data(6000), set(3, 0)), nil, "dropped_type"},
		{"type 4", edited(data(6000), set(3, 4)), nil, "dropped_type"},
		{"sealed", edited(data(6000), set(4, 1)), nil, "dropped_seal"},
		{"another trailer", edited(data(6000), set(6, 16)), nil, "dropped_seal"},
		{"data of a stranger", data(6000), stranger, "dropped_session"},
		{"their session is another", dgram{kind: 2, sequence: 6000, sender: other, receiver: mine}, nil, "dropped_session"},
		{"my session is another", dgram{kind: 2, sequence: 6000, sender: theirs, receiver: spare}, nil, "dropped_session"},
		{"no session", dgram{kind: 2, sequence: 6000}, nil, "dropped_session"},
		{"reflected data", swap(data(6000), data(0)), nil, "dropped_session"},
		{"received before", data(5000), nil, "dropped_replay"},
		{"too old", data(904), nil, "dropped_replay"},
		{"number 0", data(0), nil, "dropped_replay"},
		{"hello of a stranger", hello(other, [16]byte{}), stranger, "dropped_stranger"},
		{"call of a stranger", dgram{kind: 3}, stranger, "dropped_stranger"},
		{"reflected hello", hello(spare, theirs), nil, "dropped_reflected"},
		{"reflected hello of the pair", hello(mine, theirs), nil, "dropped_reflected"},
		{"recorded hello of the pair", dgram{kind: 1, sequence: 5000, sender: theirs, receiver: mine}, nil, "dropped_replay"},

		{"data", data(6000), nil, "passed_data"},
		{"data overtaken on the way", data(4999), nil, "passed_data"},
		{"the oldest that may come", data(905), nil, "passed_data"},
		{"with a priority tag", data(6000), func(f *frame) { f.tags = []uint16{0xe000} }, "passed_data"},
		{"the shortest", edited(data(6000), func(b []byte) []byte { return b[:52] }), nil, "passed_data"},
		{"hello to nobody", hello(other, [16]byte{}), nil, "passed_hello"},
		{"hello that answers a spare", hello(other, spare), nil, "passed_hello"},
		{"hello of the pair", hello(theirs, mine), nil, "passed_hello"},
		{"call of a peer", dgram{kind: 3}, nil, "passed_call"},
		{"of a VLAN", data(1), func(f *frame) { f.tags = []uint16{7} }, "passed_other"},
		{"of a VLAN behind a priority tag", data(1), func(f *frame) { f.tags = []uint16{0, 7} }, "passed_other"},
		{"another port", data(1), func(f *frame) { f.dport = 3780 }, "passed_other"},
		{"TCP", data(1), func(f *frame) { f.proto = unix.IPPROTO_TCP }, "passed_other"},
		{"a later fragment", data(1), func(f *frame) { f.fragment = fragmentOf(f, 8, true) }, "passed_other"},
		{"half a UDP header", edited(data(1), func(b []byte) []byte { return nil }), func(f *frame) { f.cut = 4 }, "passed_other"},
	} {
		for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
			t.Run(tc.name+" by "+name, func(t *testing.T) {
				f := frame{payload: tc.d.bytes()}
				if v6 {
					f.src, f.dst = peer6, own6
				}
				if tc.edit != nil {
					tc.edit(&f)
				}
				judged(t, f, tc.want)
			})
		}
	}
}

func stranger(f *frame) {
	if f.src == peer6 {
		f.src = far6
	} else {
		f.src = far4
	}
}

// fragmentOf makes a fragment at that byte of either family.
func fragmentOf(f *frame, at uint16, more bool) uint16 {
	if f.src == peer6 {
		f.extensions = []byte{unix.IPPROTO_FRAGMENT}
		if more {
			return at | 1
		}
		return at
	}
	field := at / 8
	if more {
		field |= 0x2000
	}
	return field
}

// judged holds one packet against a gate with a live pair.
func judged(t *testing.T, f frame, want string) {
	t.Helper()
	g := looseGate(t, GateOptions{})
	live(g)
	verdict, moved := g.judge(t, f.bytes())
	if d := cmp.Diff(map[string]uint64{want: 1}, moved); d != "" {
		t.Errorf("counters (-want +got):\n%s", d)
	}
	expect := uint32(xdpPass)
	if want[:4] == "drop" {
		expect = xdpDrop
	}
	if verdict != expect {
		t.Errorf("verdict %d, want %d", verdict, expect)
	}
}

// TestGateExtensions: no header before UDP leads around the gate.
func TestGateExtensions(t *testing.T) {
	const hop, route, frag, ah, dst = unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_AH, unix.IPPROTO_DSTOPTS
	for _, tc := range []struct {
		name string
		f    frame
		want string
	}{
		{"IPv4 options", frame{options: 10}, "dropped_session"},
		{"hop by hop", frame{src: peer6, dst: own6, extensions: []byte{hop}}, "dropped_session"},
		{"five", frame{src: peer6, dst: own6, extensions: []byte{hop, dst, route, ah, dst}}, "dropped_session"},
		{"an atomic fragment", frame{src: peer6, dst: own6, extensions: []byte{dst, frag}}, "dropped_fragment"},
		{"deeper than it looks", frame{src: peer6, dst: own6, extensions: []byte{dst, dst, dst, dst, dst, dst}}, "passed_unseen"},
		{"a report of listeners", frame{src: peer6, dst: own6, extensions: []byte{hop}, proto: unix.IPPROTO_ICMPV6}, "passed_other"},
		{"cut in a header", frame{src: peer6, dst: own6, extensions: []byte{dst}, cut: 68}, "passed_other"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.f.payload = dgram{kind: 2, sequence: 1}.bytes()
			judged(t, tc.f, tc.want)
		})
	}
}

// TestGateSealed: with a key, what is not sealed does not pass, nor what is
// sealed with another, nor what has not its stamp.
func TestGateSealed(t *testing.T) {
	g := looseGate(t, GateOptions{Sealed: true})
	live(g)
	sealed := dgram{kind: 2, sequence: 6000, sender: theirs, receiver: mine, sealed: true}
	hello := dgram{kind: 1, sequence: 1, sender: other, sealed: true}
	moved := func(d dgram, want string) {
		t.Helper()
		if _, moved := g.judge(t, frame{payload: d.bytes()}.bytes()); moved[want] != 1 {
			t.Errorf("%+v moved %v, want %s", d, moved, want)
		}
	}
	moved(data(6000), "dropped_seal")
	moved(sealed, "passed_data")
	moved(hello, "passed_hello")
	moved(dgram{kind: 3, sealed: true, sender: value(7)}, "passed_call")
	moved(edited(sealed, func(b []byte) []byte { return b[:63] }), "dropped_short")
	moved(edited(sealed, set(5, 78)), "dropped_key")
	for i := range byte(200) { // each with its own stamp
		s := sealed
		s.sequence, s.receiver = 7000+uint64(i), mine
		moved(s, "passed_data")
		moved(edited(s, func(b []byte) []byte { b[7] ^= 1 + i; return b }), "dropped_forged")
	}
	moved(edited(hello, func(b []byte) []byte { b[7]++; return b }), "dropped_forged")
	// Invented, 8 bits are guessed now and then.
	passed := 0
	for i := range 1000 {
		d := dgram{kind: 2, sequence: 8000 + uint64(i), sender: theirs, receiver: mine, sealed: true, edit: set(7, 0)}
		if verdict, _ := g.judge(t, frame{payload: d.bytes()}.bytes()); verdict == xdpPass {
			passed++
		}
	}
	if passed > 20 { // 4 are to be expected
		t.Errorf("of 1,000 invented datagrams %d passed", passed)
	}
	// Keys change as in a rotation.
	g.Tell(g.told, []GateKey{{78, stampKey}})
	moved(sealed, "dropped_key")
	moved(edited(sealed, func(b []byte) []byte { b[5], b[7] = 78, 0; b[7] = byte(sipHash(stampKey[:], b[:48])); return b }), "passed_data")
}

// TestGateFollowsSessions: a pair that is over does not pass, nor does its
// window judge the next one.
func TestGateFollowsSessions(t *testing.T) {
	g := looseGate(t, GateOptions{})
	pass := func(p GatePeer, seq uint64) bool {
		t.Helper()
		verdict, _ := g.judge(t, frame{src: p.Addr, dst: own4, payload: dgram{kind: 2, sequence: seq, sender: p.Theirs, receiver: p.Mine}.bytes()}.bytes())
		return verdict == xdpPass
	}
	all := new([64]uint64)
	for i := range all {
		all[i] = ^uint64(0)
	}
	one := GatePeer{Addr: peer4, Paired: true, Theirs: theirs, Mine: mine, Highest: 9000, Received: all}
	two := GatePeer{Addr: peer4, Paired: true, Theirs: theirs, Mine: spare, Highest: 2, Received: new([64]uint64)}
	if pass(one, 9001) {
		t.Error("data pass before there is a pair")
	}
	g.Tell([]GatePeer{one}, nil)
	if !pass(one, 9001) || pass(one, 9000) || pass(two, 1) {
		t.Error("the first pair is not judged as it was told")
	}
	g.Tell([]GatePeer{two}, nil)
	if pass(one, 9001) || !pass(two, 1) {
		t.Error("the second pair is not judged as it was told")
	}
	elsewhere := two
	elsewhere.Addr = far4
	if pass(elsewhere, 1) {
		t.Error("a pair passes from another address")
	}
	g.Tell([]GatePeer{{Addr: peer4}}, nil)
	if pass(two, 1) {
		t.Error("a pair passes that was given up")
	}
	g.Tell(nil, nil)
	if _, moved := g.judge(t, frame{payload: dgram{kind: 1, sequence: 1, sender: other}.bytes()}.bytes()); moved["dropped_stranger"] != 1 {
		t.Errorf("a hello of a peer that was removed: %v", moved)
	}
	for _, m := range []string{"tandem_pairs", "tandem_named", "tandem_peers"} {
		var key, v []byte
		for it := g.coll.Maps[m].Iterate(); it.Next(&key, &v); {
			t.Errorf("%s still holds %x", m, key)
		}
	}
	// More pairs than windows: the rest pass without.
	var many []GatePeer
	for i := range byte(100) {
		many = append(many, GatePeer{Addr: netip.AddrFrom4([4]byte{10, 0, 0, i}), Paired: true, Theirs: value(i), Mine: mine, Highest: 9000, Received: all})
	}
	g.Tell(many, nil)
	passed := 0
	for _, p := range many {
		if pass(p, 9000) {
			passed++
		}
	}
	if passed != len(many)-g.windows.Len() {
		t.Errorf("%d recorded datagrams of %d pairs pass, want %d", passed, len(many), len(many)-g.windows.Len())
	}
}

// TestGateTellCosts: it is called for each batch, with the Node's lock held.
func TestGateTellCosts(t *testing.T) {
	g := looseGate(t, GateOptions{})
	peers := []GatePeer{{Addr: peer4, Paired: true, Theirs: theirs, Mine: mine, Received: new([64]uint64)}}
	g.Tell(peers, nil)
	if n := testing.AllocsPerRun(100, func() {
		peers[0].Highest++
		peers[0].Received[peers[0].Highest/64%64] |= 1 << (peers[0].Highest % 64)
		g.Tell(peers, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestGateBuckets: hellos come at their rate, and a flood of them, whatever it
// invents, leaves the true peer its share: all of it if the flood knows no more
// than a few sessions.
func TestGateBuckets(t *testing.T) {
	hello := func(s, r [16]byte) []byte {
		return frame{payload: dgram{kind: 1, sequence: 1, sender: s, receiver: r}.bytes()}.bytes()
	}
	run := func(g *Gate, packet []byte, n uint32) {
		t.Helper()
		if _, _, err := g.coll.Programs["tandem_sync"].Benchmark(packet, int(n), nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("rate", func(t *testing.T) {
		g := looseGate(t, GateOptions{})
		live(g)
		begin := time.Now()
		run(g, hello(other, [16]byte{}), 100_000)
		s := g.Stats()
		most := helloBurst + uint64(time.Since(begin)/helloEvery) + 1
		// More than 100,000 if a signal interrupted them: they are begun again.
		if s.PassedHello < helloBurst || s.PassedHello > most || s.PassedHello+s.DroppedRate < 100_000 {
			t.Errorf("of 100,000 hellos in %v %d passed, want %d to %d", time.Since(begin), s.PassedHello, helloBurst, most)
		}
		// Another bucket is not touched, nor is the one of those that name ours.
		run(g, hello(other, spare), 1)
		passed := 0
		for i := range byte(16) {
			if v, _ := g.judge(t, hello(value(i*3), [16]byte{})); v == xdpPass {
				passed++
			}
		}
		if passed < 10 || g.Stats().PassedHello < s.PassedHello+1 {
			t.Errorf("of 16 other sessions %d passed", passed)
		}
	})
	t.Run("strangers", func(t *testing.T) {
		g := looseGate(t, GateOptions{Discover: true})
		begin := time.Now()
		for i := range 3000 { // calls, and hellos to whoever called
			d := dgram{kind: 3 - 2*byte(i%2)}
			run(g, frame{src: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), payload: d.bytes()}.bytes(), 1)
		}
		most := uint64(256 * (strangerBurst + int(time.Since(begin)/strangerEvery) + 1))
		if s := g.Stats(); s.PassedCall < 100 || s.PassedHello < 100 || s.PassedCall+s.PassedHello > most || s.DroppedRate+most < 3000 {
			t.Errorf("of 3,000 strangers at most %d should pass: %+v", most, s)
		}
	})
}

// BenchmarkGate is the time of one run of the program, by what becomes of the
// datagram.
func BenchmarkGate(b *testing.B) {
	sealed := dgram{kind: 2, sequence: 6000, sender: theirs, receiver: mine, sealed: true}
	replayed := sealed
	replayed.sequence = 10
	for _, tc := range []struct {
		name string
		f    frame
	}{
		{"other traffic", frame{payload: sealed.bytes(), dport: 53}},
		{"routed", frame{payload: sealed.bytes(), hops: 64}},
		{"forged", frame{payload: edited(sealed, set(7, ^sealed.bytes()[7])).bytes()}},
		{"replayed", frame{payload: replayed.bytes()}},
		{"data", frame{payload: sealed.bytes()}},
		{"hello, too many", frame{payload: dgram{kind: 1, sequence: 1, sender: other, sealed: true}.bytes()}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			g := looseGate(b, GateOptions{Sealed: true})
			live(g)
			packet := tc.f.bytes()
			var sum time.Duration // of means, as the kernel took them
			for b.Loop() {
				_, mean, err := g.coll.Programs["tandem_sync"].Benchmark(packet, 10_000, nil)
				if err != nil {
					b.Fatal(err)
				}
				sum += mean
			}
			b.ReportMetric(float64(sum.Nanoseconds())/float64(b.N), "ns/datagram")
		})
	}
}

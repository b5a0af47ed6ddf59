// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math/rand/v2"
	"testing"
	"time"
)

// churnWorld carries packets between the two ends of a churn and translates
// as a router does; time is a number.
type churnWorld struct {
	m     *churnMachine
	now   int64
	out   map[[2]uint16]uint16 // client and server port to port at the VIP
	back  map[[2]uint16]uint16
	next  uint16
	wire  []onWire
	chaos func(*segment) (copies int)
}

type onWire struct {
	to int
	s  segment
}

func newChurnWorld(cfg ChurnConfig) *churnWorld {
	return &churnWorld{m: newChurnMachine(cfg, testMachine(), 7, 0), out: map[[2]uint16]uint16{}, back: map[[2]uint16]uint16{}, next: 30000}
}

func (w *churnWorld) send(from int, p *packets) {
	for _, s := range p.seg[:p.n] {
		s.payload = append([]byte(nil), s.payload...)
		copies := 1
		if w.chaos != nil {
			copies = w.chaos(&s)
		}
		if from == sideLAN {
			k := [2]uint16{s.srcPort, s.dstPort}
			if w.out[k] == 0 {
				w.next++
				w.out[k], w.back[[2]uint16{w.next, s.dstPort}] = w.next, s.srcPort
			}
			s.src, s.srcPort = w.m.vip, w.out[k]
		} else {
			s.dst, s.dstPort = w.m.addr[sideLAN], w.back[[2]uint16{s.dstPort, s.srcPort}]
		}
		for range copies {
			w.wire = append(w.wire, onWire{1 - from, s})
		}
	}
}

// run lets time pass in steps of a millisecond until nothing is left to do.
func (w *churnWorld) run(t *testing.T, limit time.Duration) {
	t.Helper()
	for end := w.now + int64(limit); !w.m.over(); w.now += int64(time.Millisecond) {
		if w.now > end {
			t.Fatalf("not over after %s: %d pending, %v, %v", limit, w.m.pending, w.m.res, w.m.res.Missing)
		}
		for {
			var p packets
			side, ok := w.m.due(w.now, &p)
			if !ok {
				break
			}
			w.send(side, &p)
		}
		for len(w.wire) > 0 {
			in := w.wire[0]
			w.wire = w.wire[1:]
			var p packets
			if isChurn(in.to, &in.s) {
				w.m.receive(in.to, &in.s, w.now, &p)
			}
			w.send(in.to, &p)
		}
	}
}

var churnCases = map[string]ChurnConfig{
	"at once":        {Rate: 2000, Total: 500, Words: 1},
	"wordless":       {Rate: 2000, Total: 500},
	"living":         {Rate: 2000, Total: 500, Words: 4, Life: 80 * time.Millisecond},
	"never ended":    {Rate: 2000, Total: 500, Words: 2, Life: -1},
	"wordless, kept": {Rate: 2000, Total: 500, Life: -1},
	"UDP":            {UDP: true, Rate: 2000, Total: 500, Words: 1},
	"UDP, many":      {UDP: true, Rate: 2000, Total: 500, Words: 9},
}

func TestChurnMachine(t *testing.T) {
	for name, cfg := range churnCases {
		cfg.Stamps = true
		w := newChurnWorld(cfg)
		w.run(t, 5*time.Second)
		r := w.m.res
		if err := r.Whole(&cfg); err != nil || r.Resent+r.Late != 0 {
			t.Errorf("%s: %v: %+v", name, err, r)
		}
		if len(r.At) != cfg.Total {
			t.Errorf("%s: %d stamps", name, len(r.At))
		}
		if alive := map[bool]int{true: cfg.Total}[cfg.Life < 0]; w.m.alive != alive {
			t.Errorf("%s: %d alive at the end, want %d", name, w.m.alive, alive)
		}
	}
}

// A wire that loses and doubles one packet in twenty changes nothing but time.
func TestChurnMachineOnBadWire(t *testing.T) {
	for name, cfg := range churnCases {
		for seed := range uint64(10) {
			chance := rand.New(rand.NewPCG(seed, 1))
			w := newChurnWorld(cfg)
			w.chaos = func(*segment) int { return []int{0, 2, 1}[min(chance.IntN(20), 2)] }
			w.run(t, time.Minute)
			r := w.m.res
			r.Late = 0
			if err := r.Whole(&cfg); err != nil || r.Resent == 0 {
				t.Fatalf("%s, seed %d: %v: %+v", name, seed, err, r)
			}
		}
	}
}

// What must not be counted as whole is not.
func TestChurnMachineNotices(t *testing.T) {
	cfg := ChurnConfig{Rate: 2000, Total: 200, Words: 2, Life: 50 * time.Millisecond}
	for name, c := range map[string]struct {
		chaos  func(i int, s *segment)
		figure func(ChurnResult) int
	}{
		"resets":       {func(_ int, s *segment) { s.flags |= tcpRST }, func(r ChurnResult) int { return r.Client.Reset + r.Server.Reset }},
		"wrong bytes":  {func(_ int, s *segment) { s.payload[9] ^= 1 }, func(r ChurnResult) int { return r.Bad }},
		"wrong place":  {func(_ int, s *segment) { s.seq += 1 << 31 }, func(r ChurnResult) int { return r.Bad }},
		"new port":     {func(_ int, s *segment) { s.srcPort ^= 1 << 14 }, func(r ChurnResult) int { return r.Moved + r.Late }},
		"new address":  {func(_ int, s *segment) { s.dstPort ^= 1 }, func(r ChurnResult) int { return r.Late + r.Moved }},
		"other number": {func(_ int, s *segment) { s.seq += 1 << churnBits }, func(r ChurnResult) int { return r.Late + r.Bad + r.Moved }},
	} {
		w := newChurnWorld(cfg)
		n := 0
		w.chaos = func(s *segment) int {
			if n++; n%17 == 0 && len(s.payload) > 0 {
				c.chaos(n, s)
			}
			return 1
		}
		w.run(t, time.Minute)
		if c.figure(w.m.res) == 0 {
			t.Errorf("%s: %+v", name, w.m.res)
		}
	}
}

// Ports are fresh for as long as any router may remember them.
func TestChurnPorts(t *testing.T) {
	seen := map[[2]uint16]bool{}
	for n := range uint32(300_000) {
		l := life{n: n * 311}
		c, s := l.ports()
		if k := [2]uint16{c, s}; seen[k] || s < churnPorts || s >= churnPortsEnd || c < churnClients {
			t.Fatalf("life %d: ports %d, %d", l.n, c, s)
		} else {
			seen[k] = true
		}
	}
}

func TestChurnRefusals(t *testing.T) {
	for _, cfg := range []ChurnConfig{
		{}, {Rate: 2_000_000}, {Rate: 1, Words: 61}, {UDP: true, Rate: 1}, {Rate: 1, Total: -1}, {Rate: 1, Life: -1}, {Rate: 1, Life: -1, Total: churnMost + 1},
	} {
		if cfg.check() == nil {
			t.Errorf("accepted: %+v", cfg)
		}
	}
}

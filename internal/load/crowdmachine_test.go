// SPDX-License-Identifier: Apache-2.0

package load

import (
	"net"
	"net/netip"
	"testing"
)

// translator stands between two stations of a machine and does what the
// routers do, in a map: SNAT to the VIP with other ports, DNAT from it.
type translator struct {
	m    *crowdMachine
	out  map[[2]uint16]uint16 // LAN port and server port to port at the VIP
	back map[[2]uint16]uint16
	next uint16
	drop func(*segment) bool
}

func newTranslator(m *crowdMachine) *translator {
	return &translator{m: m, out: map[[2]uint16]uint16{}, back: map[[2]uint16]uint16{}, next: 40000}
}

// forward gives a packet as it arrives at the other side.
func (x *translator) forward(from int, s segment) segment {
	dnat := s.dstPort/1000 == 21 || s.srcPort/1000 == 21
	switch {
	case !dnat && from == sideLAN:
		k := [2]uint16{s.srcPort, s.dstPort}
		if x.out[k] == 0 {
			x.next++
			x.out[k] = x.next
			x.back[[2]uint16{x.next, s.dstPort}] = s.srcPort
		}
		s.src, s.srcPort = x.m.vip, x.out[k]
	case !dnat:
		s.dst, s.dstPort = x.m.addr[sideLAN], x.back[[2]uint16{s.dstPort, s.srcPort}]
	case from == sideWAN:
		s.dst = x.m.addr[sideLAN]
	default:
		s.src = x.m.vip
	}
	return s
}

// run lets a round happen: every undone flow is spoken to, answers are carried
// back and forth until there are none.
func (x *translator) run() {
	var payload [crowdPayload]byte
	for i := range x.m.flows {
		if x.m.flows[i].done {
			continue
		}
		s, side := x.m.speak(i, x.m.serverFirst(i), &payload)
		for hop := 0; hop < 8; hop++ {
			if x.drop != nil && x.drop(&s) {
				break
			}
			arrived := x.forward(side, s)
			arrived.payload = append([]byte(nil), s.payload...)
			side = 1 - side
			answer, ok := x.m.receive(side, &arrived, &payload)
			if !ok {
				break
			}
			s = answer
		}
	}
}

func testMachine() *crowdMachine {
	st := func(a, gw string) Station {
		return Station{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Addr: netip.MustParseAddr(a), Gateway: netip.MustParseAddr(gw)}
	}
	return newCrowdMachine(&CrowdConfig{
		LAN: st("10.0.0.50", "10.0.0.1"), WAN: st("203.0.113.50", "203.0.113.1"),
		VIP: netip.MustParseAddr("203.0.113.1"), DNATPort: 21000,
		UDPSNAT: 300, UDPDNAT: 200, TCPSNAT: 250, TCPDNAT: 150,
	})
}

func (x *translator) round(t *testing.T, round, want int) {
	t.Helper()
	x.m.begin(round)
	x.run()
	if x.m.res.Answered != want || x.m.left != len(x.m.flows)-want {
		t.Fatalf("round %d: %d answered, %d left, want %d: %v", round, x.m.res.Answered, x.m.left, want, x.m.res)
	}
}

func TestCrowdAnswers(t *testing.T) {
	x := newTranslator(testMachine())
	for round := range 5 {
		x.round(t, round, len(x.m.flows))
	}
	if x.m.res.Moved+x.m.res.Bad+x.m.res.Resets != 0 {
		t.Errorf("%v", x.m.res)
	}
}

// What is lost is made good by speaking again, at every step of an exchange.
func TestCrowdLoss(t *testing.T) {
	x := newTranslator(testMachine())
	for round := range 4 {
		x.m.begin(round)
		for pass := range 4 {
			n := 0
			x.drop = func(*segment) bool { n++; return n%(pass+2) == 0 && pass < 3 }
			x.run()
		}
		if x.m.left != 0 {
			t.Fatalf("round %d: %d left, %v", round, x.m.left, x.m.res)
		}
	}
}

// A translation that was lost and made anew is not the flow.
func TestCrowdNoticesNewTranslation(t *testing.T) {
	x := newTranslator(testMachine())
	x.round(t, 0, len(x.m.flows))
	x.round(t, 1, len(x.m.flows))
	clear(x.out)
	clear(x.back)
	// DNAT needs no table here; the 550 flows through SNAT must fail.
	x.round(t, 2, 350)
	if x.m.res.Moved == 0 {
		t.Error("nothing moved")
	}
}

func TestCrowdReset(t *testing.T) {
	x := newTranslator(testMachine())
	x.round(t, 0, len(x.m.flows))
	const i = 399 // the last TCP flow
	s, side := x.m.bare(i, true)
	s.flags = tcpRST
	s = x.forward(side, s)
	x.m.begin(1)
	if _, reply := x.m.receive(1-side, &s, nil); reply || x.m.res.Resets != 1 {
		t.Errorf("reset: %v", x.m.res)
	}
	x.run()
	if x.m.left != 1 {
		t.Errorf("%d left, want the flow that was reset", x.m.left)
	}
}

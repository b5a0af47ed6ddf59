// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// oracle says in the plainest way what the gate should count a packet as, given
// what live told it: "hello" for one that is for the buckets.
func oracle(b []byte, sealed bool) string {
	be := binary.BigEndian
	protocol, at := uint16(0), 12
	for tags := 0; ; tags++ {
		if tags == 3 || len(b) < at+4 {
			return "passed_other"
		}
		protocol = be.Uint16(b[at:])
		if protocol != 0x8100 && protocol != 0x88a8 {
			break
		}
		if be.Uint16(b[at+2:])&0xfff != 0 {
			return "passed_other"
		}
		at += 4
	}
	b = b[at+2:]
	switch {
	case protocol == 0x0800 && len(b) >= 20:
		if b[9] != unix.IPPROTO_UDP || be.Uint16(b[6:])&0x1fff != 0 {
			return "passed_other"
		}
		from, _ := netip.AddrFromSlice(b[12:16])
		header := int(b[0]&15) * 4
		if len(b) < header {
			return "passed_other"
		}
		return oracleUDP(b[header:], from, b[8], be.Uint16(b[6:])&0x2000 != 0, sealed)
	case protocol == 0x86dd && len(b) >= 40:
		from, _ := netip.AddrFromSlice(b[8:24])
		hops, next, fragment := b[7], b[6], false
		b = b[40:]
		for i := 0; ; i++ {
			if i == 6 {
				return "passed_unseen"
			}
			if next == unix.IPPROTO_UDP {
				return oracleUDP(b, from, hops, fragment, sealed)
			}
			size := 0
			if len(b) < 4 {
				return "passed_other"
			}
			switch next {
			case 0, 43, 60:
				size = 8 + 8*int(b[1])
			case 44:
				if be.Uint16(b[2:])&0xfff8 != 0 {
					return "passed_other"
				}
				size, fragment = 8, true
			case 51:
				size = 8 + 4*int(b[1])
			default:
				return "passed_other"
			}
			next = b[0]
			b = b[min(size, len(b)):]
		}
	}
	return "passed_other"
}

func oracleUDP(b []byte, from netip.Addr, hops byte, fragment, sealed bool) string {
	be := binary.BigEndian
	if len(b) < 8 || be.Uint16(b[2:]) != gatePort {
		return "passed_other"
	}
	port, size := be.Uint16(b), int(be.Uint16(b[4:]))
	trailer := 4
	if sealed {
		trailer = 16
	}
	b = b[8:]
	switch {
	case fragment:
		return "dropped_fragment"
	case hops != 255:
		return "dropped_hops"
	case port != gatePort:
		return "dropped_stranger"
	case size < 56 || len(b) < 48:
		return "dropped_short"
	case be.Uint16(b) != 0x7444 || b[2] != 1:
		return "dropped_version"
	case (b[4] == 1) != sealed || b[4] > 1 || int(b[6]) != trailer:
		return "dropped_seal"
	case size < 56+trailer:
		return "dropped_short"
	}
	if sealed {
		h := append([]byte(nil), b[:48]...)
		h[7] = 0
		if b[5] != 77 {
			return "dropped_key"
		}
		if byte(sipHash(stampKey[:], h)) != b[7] {
			return "dropped_forged"
		}
	}
	peer := from == peer4 || from == peer6
	seq, sender, receiver := be.Uint64(b[8:]), [16]byte(b[16:32]), [16]byte(b[32:48])
	replayed := seq == 0 || seq+4096 <= 5000 || seq == 5000
	pair := peer && sender == theirs && receiver == mine
	switch {
	case b[3] == 2 && !pair:
		return "dropped_session"
	case b[3] == 2 && replayed:
		return "dropped_replay"
	case b[3] == 2:
		return "passed_data"
	case b[3] != 1 && b[3] != 3:
		return "dropped_type"
	case !peer:
		return "dropped_stranger"
	case b[3] == 3:
		return "hello"
	case sender == mine || sender == spare:
		return "dropped_reflected"
	case pair && replayed:
		return "dropped_replay"
	}
	return "hello"
}

// TestGateOracle: the program agrees with the plain words on packets of every
// shape, whole ones and broken ones.
func TestGateOracle(t *testing.T) {
	seed := uint64(1)
	rng := rand.New(rand.NewPCG(seed, 5))
	seen := map[string]int{}
	for _, sealed := range []bool{false, true} {
		g := looseGate(t, GateOptions{Sealed: sealed})
		live(g)
		for i := range 4000 {
			packet := randomFrame(rng, sealed)
			want := oracle(packet, sealed)
			seen[want]++
			verdict, moved := g.judge(t, packet)
			if want == "hello" {
				if moved["passed_hello"]+moved["passed_call"]+moved["dropped_rate"] != 1 {
					t.Errorf("packet %d, sealed %v: %v, want a hello or call: %x", i, sealed, moved, packet)
				}
				continue
			}
			if moved[want] != 1 || len(moved) != 1 || (verdict == xdpDrop) != (want[:4] == "drop") {
				t.Errorf("packet %d, sealed %v: %v, verdict %d, want %s: %x", i, sealed, moved, verdict, want, packet)
			}
		}
	}
	t.Logf("%v", seen)
	if len(seen) < 16 {
		t.Errorf("only %d ways were taken: %v", len(seen), seen)
	}
}

// randomFrame is near to what passes, changed in none, one or two ways.
func randomFrame(rng *rand.Rand, sealed bool) []byte {
	pick := func(v ...[16]byte) [16]byte { return v[rng.IntN(len(v))] }
	d := dgram{kind: byte(2 - rng.IntN(2)*rng.IntN(2)), sequence: 4000 + uint64(rng.IntN(3000)), sender: theirs, receiver: mine, sealed: sealed}
	if rng.IntN(3) == 0 {
		d.sender, d.receiver = pick(theirs, mine, spare, other, [16]byte{}), pick(theirs, mine, spare, [16]byte{})
	}
	if rng.IntN(4) == 0 {
		d.kind, d.sequence = byte(rng.IntN(5)), uint64(rng.IntN(5002))
	}
	f := frame{payload: d.bytes()}
	if rng.IntN(2) == 0 {
		f.src, f.dst = peer6, own6
		for range rng.IntN(8) * rng.IntN(2) {
			f.extensions = append(f.extensions, []byte{0, 43, 60, 51, 44}[rng.IntN(5)])
		}
	} else if rng.IntN(4) == 0 {
		f.options = rng.IntN(11)
	}
	switch rng.IntN(16) {
	case 0:
		stranger(&f)
	case 1:
		f.tags = append(f.tags, uint16(rng.IntN(2))*0x2000, uint16(rng.IntN(2)))
	case 2:
		f.hops = byte(rng.IntN(256))
	case 3:
		f.sport = uint16(1 + rng.IntN(65535))
	case 4:
		f.dport = uint16(1 + rng.IntN(65535))
	case 5:
		f.cut = rng.IntN(len(f.payload) + 20)
	case 6:
		f.payload = f.payload[:rng.IntN(len(f.payload))]
	case 7:
		f.fragment = uint16(rng.Uint32())
	case 8:
		f.proto = []byte{unix.IPPROTO_TCP, unix.IPPROTO_ICMPV6}[rng.IntN(2)]
	}
	packet := f.bytes()
	if rng.IntN(3) == 0 { // any bit of the headers
		at := 12 + rng.IntN(min(len(packet)-12, 120))
		packet[at] ^= 1 << rng.IntN(8)
	}
	return packet[:max(14, len(packet))]
}

// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

var (
	meta4 = Meta{Src: netip.MustParseAddr("192.0.2.251"), Dst: Group4, TTL: 255}
	meta6 = Meta{Src: netip.MustParseAddr("fe80::c8"), Dst: Group6, TTL: 255}
	list4 = unhex("c0000201c0000202")
	list6 = unhex("fe80000000000000000000000000000120010db8000000000000000000000001")
	ones  = [8]byte{'1', '1', '1', '1'}
)

// asGroup is a virtual router that a is meant for.
func asGroup(a *Advert) *Config {
	return &Config{Version: a.Version, VRID: a.VRID, Interval: a.Interval, AuthType: a.AuthType, Auth: a.Auth}
}

// version3 is what matters of a virtual router of version 3.
var version3 = &Config{Version: 3, Interval: second}

// The vectors of the facts; holo-vrrp, keepalived and FRR made them.
var vectors = []struct {
	name string
	hex  string
	meta Meta
	want Advert
	sum  Checksum
}{
	{"v2", "210ac802000192edc0000201c00002020000000000000000", meta4,
		Advert{Version: 2, VRID: 10, Priority: 200, Interval: second, Addresses: list4, Checksum: ChecksumMessage}, ChecksumMessage},
	{"v2 text", "210ac80201012f8bc0000201c00002023131313100000000", meta4,
		Advert{Version: 2, VRID: 10, Priority: 200, AuthType: AuthText, Auth: ones, Interval: second, Addresses: list4, Checksum: ChecksumMessage}, ChecksumAuto},
	{"v3 IPv4 message", "310ac8020064828ac0000201c0000202", meta4,
		Advert{Version: 3, VRID: 10, Priority: 200, Interval: second, Addresses: list4, Checksum: ChecksumMessage}, ChecksumMessage},
	{"v3 IPv4 pseudo-header", "310ac8020064defbc0000201c0000202", meta4,
		Advert{Version: 3, VRID: 10, Priority: 200, Interval: second, Addresses: list4, Checksum: ChecksumPseudoHeader}, ChecksumAuto},
	{"v3 IPv4 priority 0, 1 cs", "310a000200014aeec0000201c0000202", meta4,
		Advert{Version: 3, VRID: 10, Priority: 0, Interval: centisecond, Addresses: list4, Checksum: ChecksumMessage}, ChecksumMessage},
	{"v3 IPv6", "310a640200643f5dfe80000000000000000000000000000120010db8000000000000000000000001", meta6,
		Advert{Version: 3, VRID: 10, Priority: 100, Interval: second, Addresses: list6, Checksum: ChecksumPseudoHeader}, ChecksumMessage},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			pdu := unhex(v.hex)
			if vrid, d := Peek(pdu); vrid != 10 || d != DropNone {
				t.Fatalf("Peek: VRID %d, drop %d", vrid, d)
			}
			var got Advert
			if d := Decode(pdu, v.meta, asGroup(&v.want), &got); d != DropNone {
				t.Fatalf("Decode: drop %d", d)
			}
			if diff := cmp.Diff(v.want, got); diff != "" {
				t.Errorf("Decode (-want +got):\n%s", diff)
			}
			if out := got.Append([]byte{0xee}, v.sum, v.meta); !bytes.Equal(out[1:], pdu) {
				t.Errorf("Append: %x, want %x", out[1:], pdu)
			}
		})
	}
}

// Each virtual router has an authentication of its own, with version 2 alone.
func TestAuthentication(t *testing.T) {
	plain, text := unhex(vectors[0].hex), unhex(vectors[1].hex)
	for _, c := range []struct {
		name string
		pdu  []byte
		typ  uint8
		auth [8]byte
		want Drop
	}{
		{"none wants none", plain, AuthNone, [8]byte{}, DropNone},
		{"none, given text", text, AuthNone, [8]byte{}, DropAuth},
		{"text, given none", plain, AuthText, ones, DropAuth},
		{"text, the same", text, AuthText, ones, DropNone},
		{"text, another", text, AuthText, [8]byte{'1', '1', '1', '2'}, DropSecret},
		{"text, longer", text, AuthText, [8]byte{'1', '1', '1', '1', '1'}, DropSecret},
	} {
		var a Advert
		if d := Decode(c.pdu, meta4, &Config{Version: 2, Interval: second, AuthType: c.typ, Auth: c.auth}, &a); d != c.want {
			t.Errorf("%s: drop %d, want %d", c.name, d, c.want)
		}
	}
	// What stands behind the addresses means nothing without authentication.
	noise := bytes.Clone(plain)
	noise[23] = 0xff
	resum(noise, meta4)
	var a Advert
	if d := Decode(noise, meta4, &Config{Version: 2, Interval: second}, &a); d != DropNone {
		t.Errorf("data behind type none: drop %d", d)
	}
}

// The TTL is 255 on a link; a peer by unicast may be further away, as far as
// the configuration says.
func TestMinimumTTL(t *testing.T) {
	for _, c := range []struct {
		ttl, least uint8
		want       Drop
	}{{255, 0, DropNone}, {254, 0, DropTTL}, {0, 0, DropTTL}, {254, 254, DropNone}, {253, 254, DropTTL}, {1, 1, DropNone}, {0, 1, DropTTL}} {
		m := meta4
		m.TTL, m.MinTTL = c.ttl, c.least
		var a Advert
		if d := Decode(unhex(vectors[3].hex), m, version3, &a); d != c.want {
			t.Errorf("TTL %d, at least %d: drop %d, want %d", c.ttl, c.least, d, c.want)
		}
	}
}

type received struct {
	pdu  []byte
	meta Meta
}

func resum(pdu []byte, m Meta) {
	pdu[6], pdu[7] = 0, 0
	s := ^fold(add(seed(pdu[0]>>4, ChecksumAuto, len(pdu), m), pdu))
	pdu[6], pdu[7] = byte(s>>8), byte(s)
}

// fault breaks a good advert in one place.
type fault struct {
	name string
	do   func(*received)
	sums bool // repair the checksum afterwards
	want Drop
}

// TestReceiveOrder breaks a good advert in two places at a time: the earlier
// check of RFC 9568 section 7.1 (as listed in the facts) must win.
func TestReceiveOrder(t *testing.T) {
	head := []fault{
		{"truncated", func(p *received) { p.pdu = p.pdu[:7] }, false, DropTruncated},
		{"version", func(p *received) { p.pdu[0] = 4<<4 | p.pdu[0]&15 }, true, DropVersion},
		{"type", func(p *received) { p.pdu[0] = p.pdu[0]&0xf0 | 2 }, true, DropType},
		{"group version", func(p *received) { p.pdu[0] = 2<<4 | p.pdu[0]&15 }, true, DropGroup},
		{"checksum", func(p *received) { p.pdu[6] ^= 0x55 }, false, DropSum},
		{"ttl", func(p *received) { p.meta.TTL = 254 }, false, DropTTL},
		{"count 0", func(p *received) { p.pdu[3] = 0; p.pdu = p.pdu[:8] }, true, DropCount},
		{"too short", func(p *received) { p.pdu[3] = 9 }, true, DropLength},
		{"too long", func(p *received) { p.pdu = append(p.pdu, make([]byte, 16)...) }, false, DropLength},
	}
	head3 := append(slices.Clone(head), fault{"interval 0", func(p *received) { p.pdu[4], p.pdu[5] = 0xf0, 0 }, true, DropZero})
	t.Run("v3 IPv4", func(t *testing.T) { inOrder(t, received{unhex(vectors[3].hex), meta4}, version3, head3) })
	t.Run("v3 IPv6", func(t *testing.T) {
		inOrder(t, received{unhex(vectors[5].hex), meta6}, version3,
			append(head3, fault{"first address", func(p *received) { p.pdu[8] = 0x20 }, true, DropLocal}))
	})
	head[3].do = func(p *received) { p.pdu[0] = 3<<4 | p.pdu[0]&15 }
	t.Run("v2", func(t *testing.T) {
		inOrder(t, received{unhex(vectors[1].hex), meta4}, &Config{Version: 2, Interval: second, AuthType: AuthText, Auth: ones}, append(slices.Clone(head),
			fault{"auth type", func(p *received) { p.pdu[4] = 2 }, true, DropAuth},
			fault{"password", func(p *received) { p.pdu[len(p.pdu)-8] ^= 1 }, true, DropSecret},
			fault{"interval 0", func(p *received) { p.pdu[5] = 0 }, true, DropZero}))
	})
}

func inOrder(t *testing.T, good received, c *Config, breaks []fault) {
	fresh := func() received { return received{bytes.Clone(good.pdu), good.meta} }
	run := func(p received) Drop {
		if _, d := Peek(p.pdu); d != DropNone {
			return d
		}
		var a Advert
		return Decode(p.pdu, p.meta, c, &a)
	}
	if d := run(fresh()); d != DropNone {
		t.Fatalf("the good one: drop %d", d)
	}
	for i, b := range breaks {
		p := fresh()
		b.do(&p)
		if b.sums {
			resum(p.pdu, p.meta)
		}
		if d := run(p); d != b.want {
			t.Errorf("%s: drop %d, want %d", b.name, d, b.want)
		}
		for _, later := range breaks[i+1:] {
			if later.want == b.want || (b.want == DropGroup && later.want == DropSum) {
				continue
			}
			p := fresh()
			later.do(&p)
			if later.sums || b.sums {
				resum(p.pdu, p.meta)
			}
			b.do(&p)
			if b.sums && len(p.pdu) >= 8 {
				resum(p.pdu, p.meta)
			}
			if d := run(p); d != b.want {
				t.Errorf("%s and %s: drop %d, want %d", b.name, later.name, d, b.want)
			}
		}
	}
}

func TestPadding(t *testing.T) {
	good := unhex(vectors[3].hex)
	for n, want := range map[int]Drop{0: DropNone, 1: DropNone, 10: DropNone, 11: DropLength} {
		var a Advert
		pdu := append(bytes.Clone(good), make([]byte, n)...)
		if d := Decode(pdu, meta4, version3, &a); d != want {
			t.Errorf("%d bytes of padding: drop %d, want %d", n, d, want)
		}
		if want == DropNone && !bytes.Equal(a.Addresses, list4) {
			t.Errorf("%d bytes of padding: addresses %x", n, a.Addresses)
		}
	}
}

func TestReservedBitsIgnored(t *testing.T) {
	pdu := unhex(vectors[2].hex)
	pdu[4] |= 0xf0
	pdu[6], pdu[7] = 0, 0
	s := ^fold(add(0, pdu))
	pdu[6], pdu[7] = byte(s>>8), byte(s)
	var a Advert
	if d := Decode(pdu, meta4, version3, &a); d != DropNone || a.Interval != second {
		t.Errorf("drop %d, interval %d", d, a.Interval)
	}
}

func TestLinkLocalFirst(t *testing.T) {
	a := Advert{Version: 3, VRID: 10, Priority: 1, Interval: second, Addresses: list6[16:]}
	var got Advert
	if d := Decode(a.Append(nil, ChecksumAuto, meta6), meta6, version3, &got); d != DropLocal {
		t.Errorf("drop %d, want DropLocal", d)
	}
	m := Meta{Src: meta6.Src, Dst: meta6.Dst, TTL: 255}
	sixAsMessage := unhex(vectors[5].hex)
	sixAsMessage[6], sixAsMessage[7] = 0, 0
	s := ^fold(add(0, sixAsMessage))
	sixAsMessage[6], sixAsMessage[7] = byte(s>>8), byte(s)
	if d := Decode(sixAsMessage, m, version3, &got); d != DropSum {
		t.Errorf("IPv6 without pseudo-header: drop %d, want DropSum", d)
	}
}

func TestCodecAllocatesNothing(t *testing.T) {
	pdu := unhex(vectors[3].hex)
	buf := make([]byte, 0, 64)
	var a Advert
	if n := testing.AllocsPerRun(100, func() {
		if Decode(pdu, meta4, version3, &a) == DropNone {
			buf = a.Append(buf[:0], ChecksumAuto, meta4)
		}
	}); n != 0 {
		t.Errorf("%v allocations per advert", n)
	}
}

// FuzzAdvert: what decodes is encoded to the same bytes (padding and reserved
// bits aside), and nothing panics.
func FuzzAdvert(f *testing.F) {
	for _, v := range vectors {
		f.Add(unhex(v.hex), v.want.Version, v.meta.Src.Is6())
	}
	f.Fuzz(func(t *testing.T, pdu []byte, version uint8, v6 bool) {
		m := meta4
		if v6 {
			m = meta6
		}
		if _, d := Peek(pdu); d != DropNone {
			return
		}
		var a Advert
		c := &Config{Version: version}
		if version == 2 && len(pdu) >= 24 { // the group that would take it
			c.Interval, c.AuthType, c.Auth = int64(pdu[5])*second, pdu[4], [8]byte(pdu[len(pdu)-8:])
		}
		if Decode(pdu, m, c, &a) != DropNone {
			return
		}
		out := a.Append(nil, a.Checksum, m)
		var b Advert
		if d := Decode(out, m, c, &b); d != DropNone {
			t.Fatalf("own advert %x is dropped: %d", out, d)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("decode(encode(a)) != a:\n%s", diff)
		}
		if version == 3 && pdu[4]&0xf0 == 0 && !bytes.Equal(out[:6], pdu[:6]) {
			t.Fatalf("encoded %x, from %x", out, pdu)
		}
	})
}

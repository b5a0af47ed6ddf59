// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	macA = [6]byte{2, 0, 0, 0, 0, 1}
	macB = [6]byte{2, 0, 0, 0, 0, 2}
)

var segments = map[string]segment{
	"udp": {src: [4]byte{10, 0, 0, 50}, dst: [4]byte{203, 0, 113, 50}, proto: protoUDP,
		srcPort: 2000, dstPort: 7000, payload: []byte("sixteen bytes ok")},
	"udp, odd length": {src: [4]byte{10, 0, 0, 50}, dst: [4]byte{203, 0, 113, 50}, proto: protoUDP,
		srcPort: 65535, dstPort: 1, payload: []byte("odd")},
	"tcp syn": {src: [4]byte{10, 0, 0, 50}, dst: [4]byte{203, 0, 113, 50}, proto: protoTCP,
		srcPort: 2000, dstPort: 7000, seq: 0xfffffff0, flags: tcpSYN, payload: []byte{}},
	"tcp data": {src: [4]byte{255, 255, 255, 255}, dst: [4]byte{203, 0, 113, 50}, proto: protoTCP,
		srcPort: 2000, dstPort: 7000, seq: 1, ack: 0x90000001, flags: tcpPSH | tcpACK, payload: []byte("sixteen bytes ok")},
}

func TestFrameSymmetry(t *testing.T) {
	for name, want := range segments {
		frame := build(nil, macB, macA, &want)
		var got segment
		if err := parse(frame, &got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(segment{})); d != "" {
			t.Errorf("%s: (-built +parsed)\n%s", name, d)
		}
		padded := append(bytes.Clone(frame), make([]byte, 20)...)
		if err := parse(padded, &got); err != nil {
			t.Errorf("%s, padded to Ethernet's minimum: %v", name, err)
		}
	}
}

// UDP 192.0.2.1:4000 to 192.0.2.2:53 with the payload "hello"; the checksums
// were computed apart from this package (RFC 1071).
func TestFrameKnownBytes(t *testing.T) {
	s := segment{src: [4]byte{192, 0, 2, 1}, dst: [4]byte{192, 0, 2, 2}, proto: protoUDP, srcPort: 4000, dstPort: 53, payload: []byte("hello")}
	want := "020000000002" + "020000000001" + "0800" +
		"45000021000040004011b6c8c0000201c0000202" + "0fa00035000d2829" + "68656c6c6f"
	if got := hex.EncodeToString(build(nil, macB, macA, &s)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestFrameRefusals(t *testing.T) {
	s := segments["tcp data"]
	good := build(nil, macB, macA, &s)
	flip := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"empty", nil, errShort},
		{"cut", good[:60], errShort},
		{"ARP", flip(13), errOther},
		{"options", func() []byte { b := bytes.Clone(good); b[14] = 0x46; return b }(), errOther},
		{"address", flip(26), errChecksum},
		{"sequence number", flip(38), errChecksum},
		{"payload", flip(len(good) - 1), errChecksum},
	} {
		var got segment
		if err := parse(c.frame, &got); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, s := range segments {
		f.Add(build(nil, macB, macA, &s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s segment
		if parse(b, &s) != nil {
			return
		}
		if s.proto == protoTCP && (s.flags&tcpSYN != 0 || b[46]>>4 != 5) {
			return // options are not kept
		}
		var again segment
		if err := parse(build(nil, macB, macA, &s), &again); err != nil {
			t.Fatalf("built from what was parsed: %v", err)
		}
		if d := cmp.Diff(s, again, cmp.AllowUnexported(segment{})); d != "" {
			t.Fatal(d)
		}
	})
}

func TestFramesAllocateNothing(t *testing.T) {
	in := segments["tcp data"]
	buf := make([]byte, 0, 256)
	var out segment
	if n := testing.AllocsPerRun(100, func() {
		if err := parse(build(buf, macB, macA, &in), &out); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

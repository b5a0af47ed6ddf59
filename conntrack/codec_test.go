// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// payloadOf gives the payload of the one message in b.
func payloadOf(t testing.TB, b []byte) message {
	t.Helper()
	m, rest, err := nextMessage(b)
	if err != nil || len(rest) != 0 {
		t.Fatalf("nextMessage: %v, %d bytes left", err, len(rest))
	}
	return m
}

// TestCodecSymmetry decodes what the encoder makes. The kernel rewrites the
// reply, so that here it is the plain inverse; TestRoundTrip has the kernel.
func TestCodecSymmetry(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			m := payloadOf(t, appendCreate(nil, &kind.flow, 99))
			if m.Seq != 99 || m.Type != msgNew || m.PortID != 0 || m.Flags != unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_EXCL {
				t.Errorf("header %+v", m)
			}
			var got Flow
			if err := got.decode(m.Payload); err != nil {
				t.Fatal(err)
			}
			want := kind.flow
			want.Reply = want.plainInverse()
			want.Status = want.createStatus()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := len(appendCreate(nil, &kind.flow, 1)); n > maxCreateSize {
				t.Errorf("create takes %d bytes, more than maxCreateSize", n)
			}
		})
	}
}

// TestLongestRequest has everything that a create can have.
func TestLongestRequest(t *testing.T) {
	f := tcp6(tuple("fd01::5", "2001:db8:1::1", 8443, 51000))
	f.Proto, f.Mark, f.Zone, f.SCTP = unix.IPPROTO_SCTP, 1, 1, SCTP{State: 4}
	f.ZoneDir = ZoneOrig
	if n := len(appendCreate(nil, &f, 1)); n > maxCreateSize {
		t.Errorf("create takes %d bytes, more than maxCreateSize", n)
	}
}

// TestCreateWireFormat fixes one request byte by byte.
func TestCreateWireFormat(t *testing.T) {
	f := tcp4(snat4)
	b := appendCreate(nil, &f, 0)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return // written down for little endian
	}
	want := []byte{
		228, 0, 0, 0, 0, 1, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, // nlmsghdr, nfgenmsg
		52, 0, 1, 0x80, // CTA_TUPLE_ORIG
		20, 0, 1, 0x80, 8, 0, 1, 0, 10, 0, 0, 7, 8, 0, 2, 0, 198, 51, 100, 9,
		28, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0, 6, 0, 2, 0, 0x9c, 0x40, 0, 0, 6, 0, 3, 0, 1, 0xbb, 0, 0,
		52, 0, 2, 0x80, // CTA_TUPLE_REPLY, not translated
		20, 0, 1, 0x80, 8, 0, 1, 0, 198, 51, 100, 9, 8, 0, 2, 0, 10, 0, 0, 7,
		28, 0, 2, 0x80, 5, 0, 1, 0, 6, 0, 0, 0, 6, 0, 2, 0, 1, 0xbb, 0, 0, 6, 0, 3, 0, 0x9c, 0x40, 0, 0,
		8, 0, 3, 0, 0, 0, 0, 0x0e, // CTA_STATUS
		8, 0, 7, 0, 0, 0, 1, 44, // CTA_TIMEOUT
		48, 0, 4, 0x80, 44, 0, 1, 0x80, // CTA_PROTOINFO
		5, 0, 1, 0, 3, 0, 0, 0, 5, 0, 2, 0, 7, 0, 0, 0, 5, 0, 3, 0, 9, 0, 0, 0,
		6, 0, 4, 0, 3, 0x0f, 0, 0, 6, 0, 5, 0, 3, 0x0f, 0, 0,
		40, 0, 6, 0x80, // CTA_NAT_SRC
		8, 0, 1, 0, 203, 0, 113, 1, 8, 0, 2, 0, 203, 0, 113, 1,
		20, 0, 3, 0x80, 6, 0, 1, 0, 0xc7, 0x38, 0, 0, 6, 0, 2, 0, 0xc7, 0x38, 0, 0,
	}
	if diff := cmp.Diff(want, b[:]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDecodeRefuses goes through what no kernel sends, and shows that a
// refused message leaves the Flow as it was.
func TestDecodeRefuses(t *testing.T) {
	f := tcp4(snat4)
	good := func() []byte { return append([]byte(nil), payloadOf(t, appendCreate(nil, &f, 1)).Payload...) }
	first := sizeofGenmsg // CTA_TUPLE_ORIG
	for _, c := range []struct {
		name   string
		mangle func(b []byte) []byte
	}{
		{"empty", func(b []byte) []byte { return nil }},
		{"shorter than nfgenmsg", func(b []byte) []byte { return b[:3] }},
		{"no attributes", func(b []byte) []byte { return b[:4] }},
		{"family of bridges", func(b []byte) []byte { b[0] = unix.AF_BRIDGE; return b }},
		{"family of other addresses", func(b []byte) []byte { b[0] = IPv6; return b }},
		{"tuple without addresses", func(b []byte) []byte { b[first+6] = 9; return b }},
		{"tuple without protocol", func(b []byte) []byte { b[first+26] = 9; return b }},
		{"attribute shorter than its header", func(b []byte) []byte { b[first] = 3; return b }},
		{"attribute of length zero", func(b []byte) []byte { b[first] = 0; return b }},
		{"attribute longer than the message", func(b []byte) []byte { b[first+1] = 0xff; return b }},
		{"cut within a header", func(b []byte) []byte { return b[:first+2] }},
		{"only one tuple", func(b []byte) []byte { return b[:first+52] }},
		{"nested longer than its parent", func(b []byte) []byte { b[first+4] = 60; return b }},
		{"address of five bytes", func(b []byte) []byte { b[first+8] = 9; return b }},
		{"port of one byte", func(b []byte) []byte { b[first+36] = 5; return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := tcp6(plain6)
			if err := got.decode(c.mangle(good())); err == nil {
				t.Fatalf("decoded to %+v", got)
			}
			if diff := cmp.Diff(tcp6(plain6), got); diff != "" {
				t.Errorf("refused, but changed:\n%s", diff)
			}
		})
	}
}

func TestNextMessageRefuses(t *testing.T) {
	for _, b := range [][]byte{
		nil,
		make([]byte, 15),
		make([]byte, 16), // length 0
		binary.NativeEndian.AppendUint32(nil, 16),
		append(binary.NativeEndian.AppendUint32(nil, 17), make([]byte, 12)...),
		append(binary.NativeEndian.AppendUint32(nil, 0xffffffff), make([]byte, 12)...),
	} {
		if m, _, err := nextMessage(b); err == nil {
			t.Errorf("nextMessage(%v) = %+v", b, m)
		}
	}
}

func TestCodecDoesNotAllocate(t *testing.T) {
	var b []byte
	for _, kind := range kinds {
		b = appendCreate(b, &kind.flow, 1)
	}
	var f Flow
	key := kinds[0].flow.Key()
	if n := testing.AllocsPerRun(100, func() {
		b = b[:0]
		for i := range kinds {
			b = appendCreate(b, &kinds[i].flow, 1)
		}
		for rest := b; len(rest) > 0; {
			m, r, err := nextMessage(rest)
			if err != nil || f.decode(m.Payload) != nil {
				t.Fatal("not decoded")
			}
			rest = r
		}
		b = appendKeyed(b[:0], msgDelete, &key, 1, 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDecode takes a datagram as the kernel sends it: messages, each a flow.
// What decodes must survive encoding and decoding again.
func FuzzDecode(f *testing.F) {
	var all []byte
	for _, kind := range kinds {
		b := appendCreate(nil, &kind.flow, 1)
		f.Add(b)
		all = append(all, b...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			m, rest, err := nextMessage(b)
			if err != nil {
				return
			}
			b = rest
			var first, second Flow
			if first.decode(m.Payload) != nil {
				continue
			}
			again := appendCreate(nil, &first, m.Seq)
			if len(again) > maxCreateSize {
				t.Fatalf("create takes %d bytes", len(again))
			}
			if err := second.decode(payloadOf(t, again).Payload); err != nil {
				t.Fatalf("encoded flow does not decode: %v", err)
			}
			if second.Orig.Src != first.Orig.Src || second.Orig.Dst != first.Orig.Dst || second.Proto != first.Proto ||
				second.Timeout != first.Timeout || second.Zone != first.Zone || second.Mark != first.Mark ||
				second.Status != first.createStatus() {
				t.Fatalf("%+v came back as %+v", first, second)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	f := tcp4(snat4)
	var buf []byte
	for b.Loop() {
		buf = appendCreate(buf[:0], &f, 1)
	}
}

func BenchmarkDecode(b *testing.B) {
	f := tcp4(snat4)
	payload := payloadOf(b, appendCreate(nil, &f, 1)).Payload
	for b.Loop() {
		if err := f.decode(payload); err != nil {
			b.Fatal(err)
		}
	}
}

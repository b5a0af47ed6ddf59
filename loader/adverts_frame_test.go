// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/maps"
)

// wire is an advert in its Ethernet frame. What is zero is as another router
// sends it by multicast.
type wire struct {
	to      []byte // MAC
	tags    []uint16
	src     netip.Addr
	pdu     []byte
	options int    // words of IPv4 options
	length  int    // of the PDU, as the IP header says; 0: as it is
	proto   byte   // of IPv4, next header of IPv6
	frag    uint16 // flags and offset of IPv4
	behind  []byte // padding
	cut     int    // bytes taken off the end
}

var (
	speaker   = []byte{2, 0, 0, 0, 0, 0x99}
	otherHost = []byte{2, 0, 0, 0, 0, 0x77}
	virtual10 = []byte{0, 0, 0x5e, 0, 1, 10}
)

func (w wire) bytes() []byte {
	if !w.src.IsValid() {
		w.src = peer4
	}
	w.proto, w.length = or(w.proto, unix.IPPROTO_IP+112), or(w.length, len(w.pdu))
	to := []byte{1, 0, 0x5e, 0, 0, 0x12}
	if w.src.Is6() {
		to = []byte{0x33, 0x33, 0, 0, 0, 0x12}
	}
	if w.to != nil {
		to = w.to
	}
	b := slices.Concat(to, speaker)
	for _, tci := range w.tags {
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 0), tci)
	}
	if w.src.Is4() {
		b = w.ipv4(append(b, 8, 0))
	} else {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(w.length))
		b = append(append(b, w.proto, 255), w.src.AsSlice()...)
		b = append(b, vrrp6.AsSlice()...)
	}
	b = slices.Concat(b, w.pdu, w.behind)
	return b[:len(b)-w.cut]
}

var vrrp4, vrrp6 = netip.MustParseAddr("224.0.0.18"), netip.MustParseAddr("ff02::12")

func (w *wire) ipv4(b []byte) []byte {
	words := 5 + w.options
	b = append(b, byte(0x40|words), 0xc0)
	b = binary.BigEndian.AppendUint16(b, uint16(4*words+w.length))
	b = binary.BigEndian.AppendUint16(append(b, 0, 1), w.frag)
	b = append(b, 255, w.proto, 0, 0) // nobody here looks at the header's checksum
	b = append(append(b, w.src.AsSlice()...), vrrp4.AsSlice()...)
	return append(b, slices.Repeat([]byte{1}, 4*w.options)...)
}

// told is the record of w with this payload.
func (w wire) told(payload []byte) maps.Advert {
	a := maps.Advert{TTL: 255, Family: unix.AF_INET, Src: peer4, Dst: vrrp4, Payload: payload}
	if w.src.Is6() {
		a.Family, a.Src, a.Dst = unix.AF_INET6, peer6, vrrp6
	}
	return a
}

var sameAdvert = cmp.Options{cmpopts.IgnoreFields(maps.Advert{}, "At", "IfIndex"), cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

// rungs are ways to take adverts, the same at their end.
var rungs = []struct{ name, way, tc string }{
	{"tcx", "tc", rungTCX}, {"clsact", "tc", rungClsact}, {"native", "xdp (native)", ""}, {"generic", "xdp (generic)", ""},
}

// TestAdvertFrames: the same records by each rung, and every frame goes on.
func TestAdvertFrames(t *testing.T) {
	for _, r := range rungs {
		t.Run(r.name, func(t *testing.T) { testAdvertFrames(t, r.name, r.way, r.tc) })
	}
}

func testAdvertFrames(t *testing.T, name, way, tc string) {
	c := newCable(t, 9000)
	a, ring := c.adverts(tc == "", tc, "sync0")
	why := ""
	if name == "generic" {
		c.undriven(a)
		why = "the driver of a veth hands the program on"
	}
	awaitWay(t, a, "sync0", way, why)
	var own, index = []byte(nil), uint32(0)
	c.in(c.here, func() {
		l := device(t, "sync0").Attrs()
		own, index = l.HardwareAddr, uint32(l.Index)
	})
	out, in := c.packetSocket(true, "sync0"), c.packetSocket(false, "sync0")

	small, whole4, whole6, most6 := advert(12), advert(8+4*255), advert(8+16*85), advert(8+16*255)
	padding := slices.Repeat([]byte{0xee}, 14)
	mark := advert(8)
	mark[1] = 99
	for _, tc := range []struct {
		name string
		w    wire
		told []byte // nil: not told
		move AdvertStats
	}{
		{"IPv4", wire{pdu: small}, small, AdvertStats{Copied: 1}},
		{"IPv4 with padding", wire{pdu: small, behind: padding}, small, AdvertStats{Copied: 1}},
		{"IPv4 with options", wire{pdu: small, options: 10, behind: padding}, small, AdvertStats{Copied: 1}},
		{"255 addresses", wire{pdu: whole4}, whole4, AdvertStats{Copied: 1}},
		{"255 addresses behind options", wire{pdu: whole4, options: 1}, whole4, AdvertStats{Copied: 1}},
		{"as many as a small record holds", wire{pdu: advert(136)}, advert(136), AdvertStats{Copied: 1}},
		{"one more", wire{pdu: advert(140)}, advert(140), AdvertStats{Copied: 1}},
		{"IPv6", wire{src: peer6, pdu: advert(40)}, advert(40), AdvertStats{Copied: 1}},
		{"IPv6 with padding", wire{src: peer6, pdu: advert(40), behind: padding}, advert(40), AdvertStats{Copied: 1}},
		{"85 addresses of IPv6", wire{src: peer6, pdu: whole6}, whole6, AdvertStats{Copied: 1}},
		{"longer than a record", wire{src: peer6, pdu: most6}, []byte{}, AdvertStats{Copied: 1, Malformed: 1}},
		{"no payload", wire{}, []byte{}, AdvertStats{Copied: 1, Malformed: 1}},
		{"shorter than it says", wire{pdu: small, length: 400}, []byte{}, AdvertStats{Copied: 1, Malformed: 1}},
		{"IPv6, shorter than it says", wire{src: peer6, pdu: small, length: 400}, []byte{}, AdvertStats{Copied: 1, Malformed: 1}},
		{"cut in the IP header", wire{cut: 1}, nil, AdvertStats{}},
		{"first fragment", wire{pdu: small, frag: 0x2000}, nil, AdvertStats{Fragment: 1}},
		{"last fragment", wire{pdu: small, frag: 3}, nil, AdvertStats{Fragment: 1}},
		{"may not be fragmented", wire{pdu: small, frag: 0x4000}, small, AdvertStats{Copied: 1}},
		{"another protocol", wire{pdu: small, proto: 17}, nil, AdvertStats{}},
		{"IPv6 behind an extension header", wire{src: peer6, pdu: slices.Concat([]byte{112, 0, 1, 4, 0, 0, 0, 0}, advert(40)), proto: unix.IPPROTO_ROUTING}, nil, AdvertStats{}},
		{"to this interface's MAC", wire{pdu: small, to: own}, small, AdvertStats{Copied: 1}},
		{"to all", wire{pdu: small, to: slices.Repeat([]byte{0xff}, 6)}, small, AdvertStats{Copied: 1}},
		{"to another host's MAC", wire{pdu: small, to: otherHost}, nil, AdvertStats{}},
		{"a fragment to another host's MAC", wire{pdu: small, frag: 3, to: otherHost}, nil, AdvertStats{}},
		{"to a virtual MAC", wire{pdu: small, to: virtual10}, nil, AdvertStats{}},
		{"of a VLAN", wire{pdu: small, tags: []uint16{7}}, nil, AdvertStats{}},
		{"with a priority tag", wire{pdu: small, tags: []uint16{6 << 13}}, small, AdvertStats{Copied: 1}},
		{"of a VLAN behind a priority tag", wire{pdu: small, tags: []uint16{6 << 13, 7}}, nil, AdvertStats{}},
	} {
		before := a.Stats()
		for _, w := range []wire{tc.w, {pdu: mark}} {
			if _, err := unix.Write(out, w.bytes()); err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			passed(t, in, tc.name)
		}
		want := []maps.Advert{wire{}.told(mark)}
		if tc.told != nil {
			want = []maps.Advert{tc.w.told(tc.told), want[0]}
		}
		got := readAdverts(t, ring, len(want))
		for i := range got {
			if got[i].IfIndex != index {
				t.Errorf("%s: told of interface %d, want %d", tc.name, got[i].IfIndex, index)
			}
		}
		if d := cmp.Diff(want, got, sameAdvert); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
		after := a.Stats()
		after.Copied -= before.Copied + 1
		after.Malformed -= before.Malformed
		after.Fragment -= before.Fragment
		if after != tc.move {
			t.Errorf("%s: counters moved by %+v, want %+v", tc.name, after, tc.move)
		}
	}
}

// passed waits until a frame of the speaker has reached the stack.
func passed(t *testing.T, fd int, what string) {
	t.Helper()
	buf := make([]byte, 10000)
	for end := time.Now().Add(patience); ; {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		unix.Poll(fds, 100)
		_, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if l, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && slices.Equal(l.Addr[:6], speaker) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: the frame did not pass", what)
		}
	}
}

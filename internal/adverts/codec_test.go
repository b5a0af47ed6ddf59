// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

var asValues = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

func TestCodecSymmetry(t *testing.T) {
	m := message{Type: msgAlarm, Cause: 3, Set: 4, Term: 5, At: -6, Value: 1 << 60, Group: 7, Kind: 8, Flags: 1,
		Peer: netip.MustParseAddr("fe80::1"), Tail: []byte("tail")}
	var got message
	if err := got.parse(m.append(nil)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got, asValues); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	h := hello{Protocol: 1, Room: 2, GateTimeout: 3, ReleaseTimeout: 4, StartupDelay: 5, GatePreempt: true, Ring: true, SecondPath: 2}
	var gotHello hello
	if err := gotHello.parse(h.append(nil)); err != nil || gotHello != h {
		t.Errorf("hello %+v, %v", gotHello, err)
	}
	g := wireGroup(behindMAC(200, 10*ms)[0])
	g.Source = netip.MustParseAddr("10.0.0.1")
	g.Wire = transport{Checksum: vrrp.ChecksumMessage, AuthType: vrrp.AuthText, Auth: [8]byte{'1'},
		Peers: []config.Peer{{Addr: netip.MustParseAddr("10.0.0.2"), TTL: 254}, {Addr: netip.MustParseAddr("2001:db8::2"), TTL: 255}}}
	var gotGroup group
	if err := gotGroup.parse(g.append(nil)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(g, gotGroup, asValues); diff != "" {
		t.Errorf("group (-want +got):\n%s", diff)
	}
}

func TestCodecRefusals(t *testing.T) {
	good := (&message{Type: msgGo}).append(nil)
	with := func(i int, b byte) []byte { c := bytes.Clone(good); c[i] = b; return c }
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:messageSize-1], "peer of 5 bytes": with(28, 5), "reserved": with(30, 1),
	} {
		var m message
		if m.parse(b) == nil {
			t.Errorf("message %s: accepted", name)
		}
	}
	var h hello
	for name, b := range map[string][]byte{"short": (&hello{}).append(nil)[:helloSize-1], "flag": (&hello{}).append(nil), "second path": (&hello{SecondPath: 3}).append(nil)} {
		if name == "flag" {
			b[28] = 2
		}
		if h.parse(b) == nil {
			t.Errorf("hello %s: accepted", name)
		}
	}
	raw := wireGroup(behindMAC(200, 10*ms)[0]).appendTo()
	for n := range raw {
		var g group
		if g.parse(raw[:n]) == nil {
			t.Errorf("group of %d of %d bytes: accepted", n, len(raw))
		}
	}
	var g group
	if g.parse(append(raw, 0)) == nil {
		t.Error("group with a byte too many: accepted")
	}
}

// named is what the daemon calls groups in a sync group.
func named(t testing.TB, groups []config.Group) *names {
	n, err := noNames(2).with(config.Set{Name: "MAIN", Groups: groups})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (g group) appendTo() []byte { return g.append(nil) }

func FuzzMessage(f *testing.F) {
	h := hello{Room: 1, Ring: true}
	for _, m := range []message{
		{Type: msgGo}, {Type: msgHello, Tail: h.append(nil)},
		{Type: msgGroup, Tail: wireGroup(behindMAC(1, 10*ms)[0]).appendTo()},
		{Type: msgAlarm, Kind: uint8(AlarmAddress), Peer: netip.MustParseAddr("10.0.0.1")},
	} {
		f.Add(m.append(nil))
	}
	names := named(f, groups(1, 10*ms))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m message
		if m.parse(b) != nil {
			return
		}
		if out := m.append(nil); len(out) != len(b) {
			t.Fatalf("%x becomes %x", b, out)
		}
		names.event(&m)
		var h hello
		if h.parse(m.Tail) == nil && !bytes.Equal(h.append(nil), m.Tail) {
			t.Fatalf("hello %x", m.Tail)
		}
		var g, again group
		if g.parse(m.Tail) == nil {
			if err := again.parse(g.append(nil)); err != nil {
				t.Fatalf("group %x: %v", m.Tail, err)
			}
		}
	})
}

func TestPacketIsWhatTheReceiverReads(t *testing.T) {
	src := netip.MustParseAddr("10.1.0.1")
	a := vrrp.Advert{Version: 3, VRID: 10, Priority: 200, Interval: int64(100 * ms), Addresses: []byte{10, 1, 0, 100}}
	buf := make([]byte, 0, 128)
	p := appendPacket(buf, &a, vrrp.ChecksumAuto, src, vrrp.Group4, 7)
	m, pdu, ok := parseIPv4(append(p, make([]byte, 14)...)) // Ethernet's padding behind it
	if !ok || m.TTL != 255 || m.Src != src || m.Dst != vrrp.Group4 || p[1] != classCS6 || headerSum(p[:20]) != 0 {
		t.Fatalf("packet %x: %+v", p, m)
	}
	var got vrrp.Advert
	if d := vrrp.Decode(pdu, m, &vrrp.Config{Version: 3}, &got); d != vrrp.DropNone || got.Priority != 200 {
		t.Errorf("decode: %d %+v", d, got)
	}
	for _, bad := range [][]byte{nil, p[:19], p[:len(p)-1], append([]byte{0x44}, p[1:]...), append([]byte{0x65}, p[1:]...)} {
		if _, _, ok := parseIPv4(bad); ok {
			t.Errorf("accepted %x", bad)
		}
	}
	if n := testing.AllocsPerRun(100, func() { appendPacket(buf[:0], &a, vrrp.ChecksumAuto, src, vrrp.Group4, 7) }); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

func TestHistogram(t *testing.T) {
	s, err := createShm(1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for us := range int64(1000) {
		observe(s.sent(), us*1000)
	}
	observe(s.sent(), 3e9)
	observe(s.sent(), -5)
	h := readHistogram(s.sent())
	if h.Count() != 1002 || h.Max != 3_000_000 || h.Quantile(0.5) != 500 || h.Quantile(1) != 3_000_000 || h.Buckets[0] != 12 {
		t.Errorf("%+v: count %d, p50 %d", h, h.Count(), h.Quantile(0.5))
	}
}

func TestSharedMemoryKeepsWhatWasPublished(t *testing.T) {
	n := named(t, groups(1, 10*ms))
	s, err := createShm(2)
	if err != nil {
		t.Fatal(err)
	}
	c := vrrp.Counters{MasterTransitions: 1, SendErrors: 99}
	s.publish(1, &groupCell{checksum: vrrp.ChecksumPseudoHeader, peerChecksum: vrrp.ChecksumMessage, state: vrrp.Active, priority: 200, activePriority: 201, active: netip.MustParseAddr("10.2.0.1"),
		activeInterval: 5, since: 6, flags: cellConflict | cellAddressesIn, counters: &c})
	s.publishInterface(1, &vrrp.InterfaceCounters{Truncated: 1, ReceiveDropped: 6})
	s.retire(n)
	st := s.status(n)
	want := GroupStatus{Name: "WAN", Set: "MAIN", Interface: "eth1", VRID: 20, State: vrrp.Active, Priority: 200, ActivePriority: 201,
		Active: netip.MustParseAddr("10.2.0.1"), ActiveInterval: 5, Since: 6, Conflict: true, AddressesIn: true, Counters: c,
		Checksum: vrrp.ChecksumPseudoHeader, PeerChecksum: vrrp.ChecksumMessage}
	if diff := cmp.Diff(want, st.Groups[1], asValues); diff != "" {
		t.Errorf("group (-want +got):\n%s", diff)
	}
	if got := st.Interfaces[1]; got.Name != "eth1" || got.Counters.Truncated != 1 || got.Counters.ReceiveDropped != 6 {
		t.Errorf("interface %+v", got)
	}
}

func TestPacket6(t *testing.T) {
	src := netip.MustParseAddr("fe80::1")
	vip := netip.MustParseAddr("fe80::100")
	a := vrrp.Advert{Version: 3, VRID: 10, Priority: 200, Interval: int64(100 * ms), Addresses: vip.AsSlice()}
	buf := make([]byte, 0, 128)
	p := appendPacket(buf, &a, vrrp.ChecksumAuto, src, vrrp.Group6, 0)
	const head = "6c000000" + "0018" + "70ff" + "fe800000000000000000000000000001" + "ff020000000000000000000000000012"
	if got := hex.EncodeToString(p[:ipv6Header]); got != head || len(p) != ipv6Header+24 {
		t.Errorf("header %s, want %s; %d bytes", got, head, len(p))
	}
	var got vrrp.Advert
	m := vrrp.Meta{Src: src, Dst: vrrp.Group6, TTL: p[7]}
	if d := vrrp.Decode(p[ipv6Header:], m, &vrrp.Config{Version: 3}, &got); d != vrrp.DropNone || got.Priority != 200 {
		t.Errorf("decode: %d %+v", d, got)
	}
	if n := testing.AllocsPerRun(100, func() { appendPacket(buf[:0], &a, vrrp.ChecksumAuto, src, vrrp.Group6, 0) }); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// What a raw socket says beside a packet, as the kernel lays it out.
func TestReadControl(t *testing.T) {
	cmsg := func(level, typ uint32, data ...byte) (c []byte) {
		c = binary.NativeEndian.AppendUint64(c, uint64(16+len(data)))
		c = binary.NativeEndian.AppendUint32(c, level)
		c = binary.NativeEndian.AppendUint32(c, typ)
		c = append(c, data...)
		return append(c, make([]byte, -len(c)&7)...)
	}
	dst := netip.MustParseAddr("fe80::5")
	stamp := binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, 3), 7)
	all := slices.Concat(cmsg(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, stamp...),
		cmsg(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, append(dst.AsSlice(), 9, 0, 0, 0)...),
		cmsg(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 254, 0, 0, 0))
	if got, want := readControl(all), (told{stamp: 3e9 + 7, dst: dst, hops: 254}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for n := range all { // cut anywhere it does not panic, and believes nothing by halves
		if got := readControl(all[:n]); got.hops != 0 && n < len(all)-4 {
			t.Errorf("of %d bytes: %+v", n, got)
		}
	}
}

// Who may speak to a group: by multicast anybody, by unicast its peers.
func TestMeant(t *testing.T) {
	a := netip.MustParseAddr
	peers := transport{Peers: []config.Peer{{Addr: a("10.0.0.2"), TTL: 250}, {Addr: a("2001:db8::2"), TTL: 64}}}
	for _, c := range []struct {
		transport
		src, dst string
		want     bool
		floor    uint8
	}{
		{transport{}, "10.0.0.9", "224.0.0.18", true, 0},
		{transport{}, "fe80::9", "ff02::12", true, 0},
		{transport{}, "10.0.0.9", "10.0.0.1", false, 0},
		{transport{}, "10.0.0.9", "224.0.0.1", false, 0},
		{peers, "10.0.0.2", "10.0.0.1", true, 250},
		{peers, "2001:db8::2", "2001:db8::1", true, 64},
		{peers, "10.0.0.3", "10.0.0.1", false, 0},
		{peers, "10.0.0.2", "224.0.0.18", false, 0},
	} {
		g, m := group{Wire: c.transport}, vrrp.Meta{Src: a(c.src), Dst: a(c.dst), TTL: 255}
		if got := g.meant(&m); got != c.want || m.MinTTL != c.floor {
			t.Errorf("%v from %s to %s: %v, floor %d; want %v, %d", c.Peers, c.src, c.dst, got, m.MinTTL, c.want, c.floor)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

const floodFlows = 100_000

// flood sends IPv6 packets of many tuples, which the router forwards without
// NAT. Sender and receiver answer nothing by themselves.
type flood struct {
	l       *lab
	forward sender
	back    sender
}

// sender writes frames into one interface.
type sender struct {
	fd       int
	dst, src net.HardwareAddr
	ip       [32]byte // source and destination
}

func newFlood(l *lab) *flood {
	f := &flood{l: l}
	quiet := "table ip6 quiet { chain i { type filter hook input priority 0; meta l4proto { tcp, udp } drop; }; }"
	l.in(l.client, func() { nft(l.t, quiet) })
	l.in(l.server, func() { nft(l.t, quiet) })
	f.forward = f.sender(l.client, "in", "fd01::2", "fd02::2")
	f.back = f.sender(l.server, "out", "fd02::2", "fd01::2")
	if !l.answers("-6", "fd02::2") { // neighbours on both sides
		l.t.Error("a ping is not answered")
	}
	l.in(l.router, func() { // none but the flood's, and those stay for the test
		run(l.t, "conntrack", "-F")
		run(l.t, "sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=600", "net.netfilter.nf_conntrack_tcp_timeout_syn_sent=600")
	})
	return f
}

func (f *flood) sender(ns netns.NsHandle, routerPort, src, dst string) (s sender) {
	s.dst = f.mac(f.l.router, routerPort)
	s.src = f.mac(ns, "eth0")
	a, b := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(s.ip[:16], a[:])
	copy(s.ip[16:], b[:])
	f.l.in(ns, func() {
		var err error
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			f.l.t.Errorf("packet socket: %v", err)
			return
		}
		index, err := net.InterfaceByName("eth0")
		if err != nil {
			f.l.t.Error(err)
			return
		}
		if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Ifindex: index.Index}); err != nil {
			f.l.t.Errorf("bind packet socket: %v", err)
		}
	})
	f.l.t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

func (f *flood) mac(ns netns.NsHandle, name string) (mac net.HardwareAddr) {
	f.l.in(ns, func() {
		i, err := net.InterfaceByName(name)
		if err != nil {
			f.l.t.Error(err)
			return
		}
		mac = i.HardwareAddr
	})
	return mac
}

// frame builds an IPv6 packet with a UDP or TCP header and a right checksum.
func (s *sender) frame(b []byte, proto uint8, sport, dport uint16, tcpFlags byte) []byte {
	b = append(append(append(b[:0], s.dst...), s.src...), 0x86, 0xdd)
	var l4 []byte
	if proto == unix.IPPROTO_UDP {
		l4 = []byte{0, 0, 0, 0, 0, 8, 0, 0}
	} else {
		l4 = make([]byte, 20)
		l4[12], l4[13], l4[14] = 5<<4, tcpFlags, 0xff
	}
	b = append(b, 0x60, 0, 0, 0, 0, byte(len(l4)), proto, 64)
	b = append(b, s.ip[:]...)
	binary.BigEndian.PutUint16(l4, sport)
	binary.BigEndian.PutUint16(l4[2:], dport)
	sum := uint32(len(l4)) + uint32(proto)
	for _, part := range [][]byte{s.ip[:], l4} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	at := 16
	if proto == unix.IPPROTO_UDP {
		at = 6
	}
	binary.BigEndian.PutUint16(l4[at:], ^uint16(sum))
	return append(b, l4...)
}

// ports gives the i-th tuple's ports.
func ports2(i int) (sport, dport uint16) { return uint16(1024 + i%50_000), uint16(2000 + i/50_000) }

// send sends one packet of each of n flows, once or until the router's table
// holds them all: a veth's backlog may drop.
func (f *flood) send(n int, packet func(b []byte, i int) []byte, s *sender) {
	buf := make([]byte, 0, 128)
	for i := range n {
		buf = packet(buf, i)
		for unix.Send(s.fd, buf, 0) == unix.ENOBUFS {
			time.Sleep(time.Millisecond)
		}
	}
}

// open sends each flow's first packet until the router has n entries of proto.
func (f *flood) open(n int, proto uint8, flags byte) {
	f.l.t.Helper()
	for range 5 {
		f.send(n, func(b []byte, i int) []byte {
			sport, dport := ports2(i)
			return f.forward.frame(b, proto, sport, dport, flags)
		}, &f.forward)
		if f.entries() >= n {
			return
		}
	}
	f.l.t.Fatalf("the router has %d entries, want %d", f.entries(), n)
}

func (f *flood) entries() (n int) {
	f.l.in(f.l.router, func() {
		t, err := conntrack.Open()
		if err != nil {
			f.l.t.Error(err)
			return
		}
		defer t.Close()
		count, _, err := t.Count()
		if err != nil {
			f.l.t.Error(err)
		}
		n = int(count)
	})
	return n
}

// settled waits until no more records come, and those that came are told.
func settled(c *Capture) Stats {
	for last := c.Stats(); ; {
		time.Sleep(100 * time.Millisecond)
		c.reader.mu.Lock()
		unread := c.ring.Pending()
		c.reader.mu.Unlock()
		current := c.Stats()
		if !unread && current.Packets == last.Packets && current.Told == last.Told {
			return current
		}
		last = current
	}
}

func TestFloodTellsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		proto uint8
		flags byte
	}{"SYN": {unix.IPPROTO_TCP, 0x02}, "one-way UDP": {unix.IPPROTO_UDP, 0}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			f := newFlood(l)
			capture, sink := l.capture(Options{Policy: conntrack.DefaultPolicy()})
			before := capture.Stats().Packets.Told
			f.open(floodFlows, c.proto, c.flags)
			s := settled(capture)
			if told := s.Packets.Told - before; told != 0 || sink.count() != 0 {
				t.Errorf("%d records, %d calls for %d flows; want none", told, sink.count(), floodFlows)
			}
			if s.Packets.Young < floodFlows {
				t.Errorf("only %d packets were judged: %+v", s.Packets.Young, s.Packets)
			}
			t.Logf("%+v", s.Packets)
		})
	}
}

func TestExchangesAreToldOnce(t *testing.T) {
	l := newLab(t)
	f := newFlood(l)
	capture, sink := l.capture(Options{Policy: conntrack.DefaultPolicy()})
	before := capture.Stats().Packets.Told
	f.open(floodFlows, unix.IPPROTO_UDP, 0)
	for range 10 { // answers, until all arrived; a second one would make its flow ASSURED
		missing := sink.missing(floodFlows)
		f.send(len(missing), func(b []byte, i int) []byte {
			sport, dport := ports2(missing[i])
			return f.back.frame(b, unix.IPPROTO_UDP, dport, sport, 0)
		}, &f.back)
		if settled(capture); sink.count() >= floodFlows {
			break
		}
	}
	s := settled(capture)
	told := s.Packets.Told - before
	if told < floodFlows || told > floodFlows*110/100 {
		t.Errorf("%d records for %d exchanges: %+v", told, floodFlows, s.Packets)
	}
	if n := sink.count(); n != floodFlows {
		t.Errorf("the sink knows %d flows, want %d", n, floodFlows)
	}
	t.Logf("%+v", s)
}

// missing gives the numbers of a flood's flows that were not told.
func (m *memory) missing(n int) (out []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := map[[2]uint16]bool{}
	for k, e := range m.flows {
		told[[2]uint16{k.SrcPort, k.DstPort}] = e.told > 0
	}
	for i := range n {
		if sport, dport := ports2(i); !told[[2]uint16{sport, dport}] {
			out = append(out, i)
		}
	}
	return out
}

// count gives the flows that were told because of a packet.
func (m *memory) count() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.flows {
		if e.told > 0 {
			n++
		}
	}
	return n
}

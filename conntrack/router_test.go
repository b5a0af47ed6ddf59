// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// router is a namespace that forwards between two TUN devices, which the test
// writes packets into and reads them from:
//
//	client 10.0.0.7 -- lan [namespace] wan -- server 198.51.100.9
//	                       10.0.0.1   203.0.113.1
//
// Every flow is tracked, what goes out by wan and has no entry is SNATed to
// ports 20000-20999, and INVALID packets are counted and accepted.
type router struct {
	t        testing.TB
	table    *Table
	lan, wan int
	nft      *nftables.Conn
	chain    *nftables.Chain
}

func newRouter(t testing.TB) *router {
	t.Helper()
	newNamespace(t)
	for name, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1",
	} {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	r := &router{t: t, table: openTable(t)}
	r.lan = r.tun("lan", "10.0.0.1/24", nil)
	r.wan = r.tun("wan", "203.0.113.1/24", &net.IPNet{IP: net.IP{198, 51, 100, 0}, Mask: net.CIDRMask(24, 32)})
	r.rules()
	return r
}

func (r *router) must(what string, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

// tun makes a device that is up and has an address; it goes with the test.
func (r *router) tun(name, address string, route *net.IPNet) int {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	r.must("open /dev/net/tun", err)
	r.t.Cleanup(func() { unix.Close(fd) })
	ifr, err := unix.NewIfreq(name)
	r.must("name device", err)
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	r.must("make device", unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr))
	link, err := netlink.LinkByName(name)
	r.must("find device", err)
	a, err := netlink.ParseAddr(address)
	r.must("parse address", err)
	r.must("add address", netlink.AddrAdd(link, a))
	r.must("set device up", netlink.LinkSetUp(link))
	if route != nil {
		r.must("add route", netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: route}))
	}
	return fd
}

func (r *router) rules() {
	c, err := nftables.New()
	r.must("open nftables", err)
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "tandem_test"})
	r.chain = c.AddChain(&nftables.Chain{Name: "invalid", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: table, Chain: r.chain, Exprs: []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binary.NativeEndian.AppendUint32(nil, expr.CtStateBitINVALID)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Counter{},
	}})
	c.AddChain(&nftables.Chain{Name: "dnat", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	snat := c.AddChain(&nftables.Chain{Name: "snat", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	c.AddRule(&nftables.Rule{Table: table, Chain: snat, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte("wan"), make([]byte, 13)...)},
		&expr.Immediate{Register: 1, Data: []byte{203, 0, 113, 1}},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, 20000)},
		&expr.Immediate{Register: 3, Data: binary.BigEndian.AppendUint16(nil, 20999)},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, RegProtoMax: 3, Specified: true},
	}})
	r.must("install rules", c.Flush())
	r.nft = c
}

// invalid is how many INVALID packets there were.
func (r *router) invalid() uint64 {
	r.t.Helper()
	rules, err := r.nft.GetRules(r.chain.Table, r.chain)
	r.must("read rules", err)
	for _, e := range rules[0].Exprs {
		if c, ok := e.(*expr.Counter); ok {
			return c.Packets
		}
	}
	r.t.Fatal("no counter")
	return 0
}

// pass writes a packet into one device and gives what comes out of the other,
// nil if nothing does.
func (r *router) pass(in, out int, packet []byte) *seen {
	r.t.Helper()
	_, err := unix.Write(in, packet)
	r.must("write packet", err)
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(500 * time.Millisecond); ; {
		late := time.Now().After(deadline) // it is there once the write returned: a last look
		fds := []unix.PollFd{{Fd: int32(out), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 20); n == 0 || err == unix.EINTR {
			if late {
				return nil
			}
			continue
		}
		n, err := unix.Read(out, buf)
		r.must("read packet", err)
		if n >= 20 && buf[0]>>4 == 4 {
			return parsePacket(buf[:n])
		}
	}
}

func (r *router) toServer(packet []byte) *seen { r.t.Helper(); return r.pass(r.lan, r.wan, packet) }
func (r *router) toClient(packet []byte) *seen { r.t.Helper(); return r.pass(r.wan, r.lan, packet) }

// seen is what a test looks at in a packet; the ports are the id twice for
// ICMP, and zero where there are none.
type seen struct {
	Src, Dst         Addr
	Proto            uint8
	Flags            uint8 // of TCP
	SrcPort, DstPort uint16
}

func parsePacket(b []byte) *seen {
	s := &seen{Proto: b[9]}
	copy(s.Src[:], b[12:16])
	copy(s.Dst[:], b[16:20])
	if s.Proto == unix.IPPROTO_TCP {
		s.Flags = b[33]
	}
	switch s.Proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP:
		s.SrcPort, s.DstPort = binary.BigEndian.Uint16(b[20:]), binary.BigEndian.Uint16(b[22:])
	case unix.IPPROTO_ICMP:
		s.SrcPort = binary.BigEndian.Uint16(b[24:])
		s.DstPort = s.SrcPort
	}
	return s
}

// want compares a packet that came out with a tuple.
func (r *router) want(what string, got *seen, want Tuple) {
	r.t.Helper()
	if got == nil {
		r.t.Errorf("%s: nothing came out", what)
		return
	}
	if (Tuple{got.Src, got.Dst, got.SrcPort, got.DstPort}) != want {
		r.t.Errorf("%s: %+v came out, want %+v", what, *got, want)
	}
}

// ip builds an IPv4 packet of a tuple's addresses.
func ip(t Tuple, proto uint8, payload []byte) []byte {
	b := append([]byte{0x45, 0}, binary.BigEndian.AppendUint16(nil, uint16(20+len(payload)))...)
	b = append(b, 0, 1, 0x40, 0, 64, proto, 0, 0)
	b = append(append(b, t.Src[:4]...), t.Dst[:4]...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, payload...)
}

// Flags of a segment.
const (
	rst = 0x04
	ack = 0x10
)

func tcp(t Tuple, flags uint8, seq, acked uint32, window uint16, size int) []byte {
	b := binary.BigEndian.AppendUint16(nil, t.SrcPort)
	b = binary.BigEndian.AppendUint16(b, t.DstPort)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, acked)
	b = append(b, 5<<4, flags)
	b = binary.BigEndian.AppendUint16(b, window)
	b = append(b, make([]byte, 4+size)...)
	binary.BigEndian.PutUint16(b[16:], pseudo(t, unix.IPPROTO_TCP, b))
	return ip(t, unix.IPPROTO_TCP, b)
}

func udp(t Tuple) []byte {
	b := binary.BigEndian.AppendUint16(nil, t.SrcPort)
	b = binary.BigEndian.AppendUint16(b, t.DstPort)
	b = append(b, 0, 12, 0, 0, 't', 'e', 's', 't')
	binary.BigEndian.PutUint16(b[6:], pseudo(t, unix.IPPROTO_UDP, b))
	return ip(t, unix.IPPROTO_UDP, b)
}

func ping(t Tuple) []byte {
	b := []byte{uint8(t.DstPort >> 8), uint8(t.DstPort), 0, 0, uint8(t.SrcPort >> 8), uint8(t.SrcPort), 0, 1}
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return ip(t, unix.IPPROTO_ICMP, b)
}

// sctpData is a packet with one DATA chunk.
func sctpData(t Tuple, vtag uint32) []byte {
	b := binary.BigEndian.AppendUint16(nil, t.SrcPort)
	b = binary.BigEndian.AppendUint16(b, t.DstPort)
	b = binary.BigEndian.AppendUint32(b, vtag)
	b = append(b, 0, 0, 0, 0)
	b = append(b, 0, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 't', 'e', 's', 't')
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return ip(t, unix.IPPROTO_SCTP, b)
}

func checksum(b []byte) uint16 { return fold(sum(0, b)) }

func pseudo(t Tuple, proto uint8, b []byte) uint16 {
	s := sum(sum(0, t.Src[:4]), t.Dst[:4]) + uint32(proto) + uint32(len(b))
	return fold(sum(s, b))
}

func sum(s uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

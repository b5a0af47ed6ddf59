// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/tandem-ha/tandem/vrrp"
)

// The messages between the daemon and its child, one per SOCK_SEQPACKET
// record. Both ends are the same binary, so there is no version to negotiate;
// the hello still carries one, against a binary replaced under a running
// daemon.
//
//	 0 type | 1 cause | 2-3 set | 4-7 term | 8-15 at | 16-23 value
//	24-25 group | 26 kind | 27 flags | 28 peer length (0, 4, 16) | 29-31 zero
//	32-47 peer | 48.. tail
//
// Integers are big endian. Only msgHello, msgGroup and msgChange have a tail.
//
// Sets, groups and ports are named by slots below hello.Room, which the daemon
// gives: a set's are free again when msgEnded was read.
const (
	messageSize    = 48
	maxMessage     = 64 << 10
	protocolNumber = 2
)

type messageType uint8

// From the daemon.
const (
	msgHello  messageType = iota + 1
	msgGroup              // a member of the set that msgBegin forms; Value: its port
	msgBegin              // the set of the groups told since the last one; Flags: vouched for
	msgGo                 // with the sets that have begun
	msgChange             // Group: what may change while it runs
	msgEnd                // Set
	msgFenced
	msgReleased
	msgTakeOver // Value: until when the fence stands
	msgHandOver
	msgAllow
	msgAnnounce
	msgStop
	msgTrack // Group; Value: priority in force
	msgAside // Flags: on
)

// From the child.
const (
	msgReady messageType = iota + 64
	msgPromoting
	msgAddressesIn
	msgDemoting
	msgAddressesOut
	msgChanged
	msgWouldPreempt
	msgAlarm
	msgRefused
	msgRival
	msgEnded
)

const (
	flagOn    = 1 << 0 // msgTrack: a fault
	flagLoose = 1 << 1 // msgTrack: the group's own interface may be down
)

// message is one record of either direction; unused fields are zero.
type message struct {
	Type  messageType
	Cause uint8
	Set   uint16
	Term  uint32
	At    int64
	Value int64
	Group uint16
	Kind  uint8
	Flags uint8
	Peer  netip.Addr
	Tail  []byte
}

var errMessage = errors.New("parse a message of the adverts socket")

// append writes m behind b. It does not allocate when b has room.
func (m *message) append(b []byte) []byte {
	var h [messageSize]byte
	h[0], h[1] = byte(m.Type), m.Cause
	binary.BigEndian.PutUint16(h[2:], m.Set)
	binary.BigEndian.PutUint32(h[4:], m.Term)
	binary.BigEndian.PutUint64(h[8:], uint64(m.At))
	binary.BigEndian.PutUint64(h[16:], uint64(m.Value))
	binary.BigEndian.PutUint16(h[24:], m.Group)
	h[26], h[27] = m.Kind, m.Flags
	switch {
	case m.Peer.Is4():
		a := m.Peer.As4()
		h[28] = 4
		copy(h[32:], a[:])
	case m.Peer.Is6():
		a := m.Peer.As16()
		h[28] = 16
		copy(h[32:], a[:])
	}
	return append(append(b, h[:]...), m.Tail...)
}

// parse reads b into m; m.Tail points into b.
func (m *message) parse(b []byte) error {
	if len(b) < messageSize {
		return fmt.Errorf("%w: %d bytes, want at least %d", errMessage, len(b), messageSize)
	}
	if b[29]|b[30]|b[31] != 0 {
		return fmt.Errorf("%w: reserved bytes are not zero", errMessage)
	}
	var peer netip.Addr
	switch b[28] {
	case 0:
	case 4:
		peer = netip.AddrFrom4([4]byte(b[32:36]))
	case 16:
		peer = netip.AddrFrom16([16]byte(b[32:48]))
	default:
		return fmt.Errorf("%w: peer of %d bytes", errMessage, b[28])
	}
	*m = message{
		Type:  messageType(b[0]),
		Cause: b[1],
		Set:   binary.BigEndian.Uint16(b[2:]),
		Term:  binary.BigEndian.Uint32(b[4:]),
		At:    int64(binary.BigEndian.Uint64(b[8:])),
		Value: int64(binary.BigEndian.Uint64(b[16:])),
		Group: binary.BigEndian.Uint16(b[24:]),
		Kind:  b[26],
		Flags: b[27],
		Peer:  peer,
		Tail:  b[messageSize:],
	}
	return nil
}

// hello is the tail of msgHello: what holds for the whole child.
type hello struct {
	Protocol       uint16
	Room           uint16 // slots of groups, of sets, and of ports
	GateTimeout    int64  // ns
	ReleaseTimeout int64  // ns
	StartupDelay   int64  // ns
	GatePreempt    bool
	Ring           bool
	SecondPath     uint8 // vrrp.SecondPath of the set that is vouched for
}

const helloSize = 31

func (h *hello) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, h.Protocol)
	b = binary.BigEndian.AppendUint16(b, h.Room)
	b = binary.BigEndian.AppendUint64(b, uint64(h.GateTimeout))
	b = binary.BigEndian.AppendUint64(b, uint64(h.ReleaseTimeout))
	b = binary.BigEndian.AppendUint64(b, uint64(h.StartupDelay))
	return append(b, bit(h.GatePreempt), bit(h.Ring), h.SecondPath)
}

func (h *hello) parse(b []byte) error {
	if len(b) != helloSize {
		return fmt.Errorf("%w: hello of %d bytes, want %d", errMessage, len(b), helloSize)
	}
	if b[28] > 1 || b[29] > 1 {
		return fmt.Errorf("%w: hello with a flag above 1", errMessage)
	}
	if b[30] > uint8(vrrp.SecondPathHold) {
		return fmt.Errorf("%w: second path %d is unknown", errMessage, b[30])
	}
	*h = hello{
		Protocol:       binary.BigEndian.Uint16(b),
		Room:           binary.BigEndian.Uint16(b[2:]),
		GateTimeout:    int64(binary.BigEndian.Uint64(b[4:])),
		ReleaseTimeout: int64(binary.BigEndian.Uint64(b[12:])),
		StartupDelay:   int64(binary.BigEndian.Uint64(b[20:])),
		GatePreempt:    b[28] == 1,
		Ring:           b[29] == 1,
		SecondPath:     b[30],
	}
	return nil
}

// group is the tail of msgGroup and msgChange.
type group struct {
	Interface    string
	VRID         uint8
	Priority     uint8
	Version      uint8
	Preempt      bool
	Interval     int64 // ns
	PreemptDelay int64 // ns
	Source       netip.Addr
	Addresses    []address
	Wire         transport
	Place        placing
}

// address is one virtual address and the interface that carries it.
type address struct {
	Prefix    netip.Prefix
	Interface string
}

func (g *group) append(b []byte) []byte {
	b = appendString(b, g.Interface)
	b = append(b, g.VRID, g.Priority, g.Version, bit(g.Preempt))
	b = binary.BigEndian.AppendUint64(b, uint64(g.Interval))
	b = binary.BigEndian.AppendUint64(b, uint64(g.PreemptDelay))
	b = appendAddr(b, g.Source)
	b = appendAddresses(b, g.Addresses)
	return g.Place.append(g.Wire.append(b))
}

func (g *group) parse(b []byte) error {
	r := reader{b: b}
	var n group
	n.Interface = r.string()
	n.VRID, n.Priority, n.Version = r.u8(), r.u8(), r.u8()
	n.Preempt = r.bool()
	n.Interval, n.PreemptDelay = int64(r.u64()), int64(r.u64())
	n.Source = r.addr()
	n.Addresses = r.addresses()
	n.Wire.parse(&r)
	n.Place.parse(&r)
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("%w: group", errMessage)
	}
	*g = n
	return nil
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func appendString(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func appendAddr(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	return append(append(b, byte(len(raw))), raw...)
}

func appendAddresses(b []byte, list []address) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(list)))
	for _, a := range list {
		b = appendAddr(b, a.Prefix.Addr())
		b = append(b, byte(a.Prefix.Bits()))
		b = appendString(b, a.Interface)
	}
	return b
}

// reader takes values off the front of b; after the first short one it
// returns zeroes and stays bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) bool() bool {
	v := r.u8()
	r.bad = r.bad || v > 1
	return v == 1
}

func (r *reader) string() string { return string(r.take(int(r.u8()))) }

func (r *reader) addr() netip.Addr {
	switch n := r.u8(); n {
	case 0:
		return netip.Addr{}
	case 4, 16:
		a, _ := netip.AddrFromSlice(r.take(int(n)))
		return a
	default:
		r.bad = true
		return netip.Addr{}
	}
}

func (r *reader) addresses() (out []address) {
	count := int(r.u16())
	for i := 0; i < count && !r.bad; i++ {
		a, bits := r.addr(), int(r.u8())
		p := netip.PrefixFrom(a, bits)
		r.bad = r.bad || !p.IsValid()
		out = append(out, address{Prefix: p, Interface: r.string()})
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// Places in a datagram, see docs/protocol.md.
const (
	dgVersion, dgType, dgSeal = 2, 3, 4
	dgKeyID, dgTrailer        = 5, 6
	dgSequence                = 8
	dgSender, dgReceiver      = 16, 32
	dgRecords                 = 48
)

// datagram is a payload and how it comes.
type datagram struct {
	payload []byte
	src     netip.Addr // invalid: the peer's
	port    uint16     // 0: the link's
	ttl     byte       // 0: 255
}

// tapped is one direction of the sync link: what a router sends there is kept,
// and more can be sent in its name.
type tapped struct {
	from, to *netlab.Router
	in, out  int // packet sockets: what comes into the switch; from inside the router
	seen     [][]byte
	rng      *rand.Rand
}

func tap(t *testing.T, l *netlab.Lab, from, to *netlab.Router) *tapped {
	t.Helper()
	w := &tapped{from: from, to: to, rng: rand.New(rand.NewPCG(uint64(from.Index), 7))}
	var err error
	if w.in, err = l.Switch.PacketSocket("sync."+from.Name, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.in) })
	if w.out, err = from.NS.PacketSocket("eth2", nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.out) })
	return w
}

// settle takes what was sent so far, the latest being a heartbeat of now.
func (w *tapped) settle(t *testing.T) {
	t.Helper()
	time.Sleep(200 * time.Millisecond)
	before := len(w.seen)
	eventually(t, 10*time.Second, "datagrams of "+w.from.Name, func() bool {
		w.take()
		return len(w.seen) > max(before, 2)
	})
}

// take takes what waits.
func (w *tapped) take() {
	buf := make([]byte, 2048)
	for {
		n, _, err := unix.Recvfrom(w.in, buf, unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return // nothing more waits
		}
		if n > 42+dgRecords && buf[12] == 8 && buf[13] == 0 && buf[23] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(buf[36:]) == 3781 {
			size := int(binary.BigEndian.Uint16(buf[38:])) - 8
			w.seen = append(w.seen, append([]byte(nil), buf[42:42+size]...))
		}
	}
}

// last is the newest datagram of the session, as a copy.
func (w *tapped) last() []byte { return append([]byte(nil), w.seen[len(w.seen)-1]...) }

// forge changes the newest datagram and closes it again.
func (w *tapped) forge(edit func(b []byte) []byte) datagram {
	b := w.last()
	b = edit(b[:len(b)-4])
	return datagram{payload: binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))}
}

func (w *tapped) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(w.rng.Uint32())
	}
	return b
}

// send puts a datagram on the wire out of the router's own interface.
func (w *tapped) send(t *testing.T, d *datagram) {
	t.Helper()
	src, port, ttl := d.src, d.port, d.ttl
	if !src.IsValid() {
		src = w.from.Addr(2).Addr()
	}
	if port == 0 {
		port = 3781
	}
	if ttl == 0 {
		ttl = 255
	}
	udp := binary.BigEndian.AppendUint16(nil, port)
	udp = binary.BigEndian.AppendUint16(udp, 3781)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(d.payload)))
	udp = append(append(udp, 0, 0), d.payload...) // no checksum (RFC 768)
	const fragment = 1480
	for at := 0; at < len(udp); at += fragment {
		part := udp[at:min(at+fragment, len(udp))]
		frame := ipFrame([6]byte(w.to.MAC(2)), [6]byte(w.from.MAC(2)), src, w.to.Addr(2).Addr(), unix.IPPROTO_UDP, ttl, part)
		field := uint16(at / 8)
		if at+len(part) < len(udp) {
			field |= 0x2000 // more fragments
		}
		binary.BigEndian.PutUint16(frame[20:], field)
		binary.BigEndian.PutUint16(frame[24:], 0)
		binary.BigEndian.PutUint16(frame[24:], checksum(frame[14:34]))
		if _, err := unix.Write(w.out, frame); err != nil {
			t.Fatal(err)
		}
	}
}

// ipFrame is an IPv4 packet in its Ethernet frame.
func ipFrame(dstMAC, srcMAC [6]byte, src, dst netip.Addr, proto, ttl byte, payload []byte) []byte {
	b := append(append(append([]byte(nil), dstMAC[:]...), srcMAC[:]...), 8, 0, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(payload)))
	b = append(b, 0, 0, 0x40, 0, ttl, proto, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[24:], checksum(b[14:34]))
	b = append(b, payload...)
	for len(b) < 60 {
		b = append(b, 0)
	}
	return b
}

// checksum is RFC 1071's.
func checksum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		sum += uint32(v) << (8 * (1 - i&1))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bare is the yardstick of every commit: batches of 300 messages, each a copy of
// one template with addresses and ports put in, one write per batch, one read
// for the acknowledgement of the last message. It is fixed; do not improve it.
type Bare struct {
	fd       int
	template []byte
	batch    []byte
	answer   [8192]byte
	// Where the template has the three addresses and their ports.
	client, public, server, sport, nport, dport [2]int
}

// bareFlow is a TCP connection through SNAT.
type bareFlow struct {
	client, public, server [4]byte
	sport, nport, dport    uint16
}

const bareBatch = 300

// OpenBare opens a socket in the network namespace of the calling thread.
func OpenBare() (*Bare, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20); err != nil {
		return nil, err
	}
	l := &Bare{fd: fd}
	l.build()
	return l, nil
}

// Close closes the socket.
func (l *Bare) Close() { unix.Close(l.fd) }

func attr(typ uint16, payload ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(payload)))
	b = append(binary.NativeEndian.AppendUint16(b, typ), payload...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func nest(typ uint16, parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return attr(typ|unix.NLA_F_NESTED, all...)
}

// build writes the message once, with the attributes that Apply sends too,
// and marks what changes by bytes that occur nowhere else.
func (l *Bare) build() {
	client, public := []byte{0xc1, 0xc2, 0xc3, 0xc4}, []byte{0xd1, 0xd2, 0xd3, 0xd4}
	sport, nport := []byte{0xe1, 0xe2}, []byte{0xf1, 0xf2}
	server, dport := []byte{0xa1, 0xa2, 0xa3, 0xa4}, []byte{0xb1, 0xb2}
	b := binary.NativeEndian.AppendUint16([]byte{0, 0, 0, 0}, unix.NFNL_SUBSYS_CTNETLINK<<8)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, unix.AF_INET, 0, 0, 0)
	for _, part := range [][]byte{
		nest(1, nest(1, attr(1, client...), attr(2, server...)), nest(2, attr(1, 6), attr(2, sport...), attr(3, dport...))),
		nest(2, nest(1, attr(1, server...), attr(2, client...)), nest(2, attr(1, 6), attr(2, dport...), attr(3, sport...))),
		attr(3, 0, 0, 0, 0x0e),            // SEEN_REPLY, ASSURED, CONFIRMED
		attr(7, 0, 0, 3600>>8, 3600&0xff), // timeout
		nest(4, nest(1, attr(1, 3), attr(2, 7), attr(3, 7), // ESTABLISHED, both scales
			attr(4, 3, 0x0f), attr(5, 3, 0x0f))), // flags, mask
		nest(6, attr(1, public...), attr(2, public...), nest(3, attr(1, nport...), attr(2, nport...))),
	} {
		b = append(b, part...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	l.template = b
	l.client, l.public, l.server = find(b, client), find(b, public), find(b, server)
	l.sport, l.nport, l.dport = find(b, sport), find(b, nport), find(b, dport)
}

// find gives the two places of a pattern.
func find(b, pattern []byte) (at [2]int) {
	n := 0
	for i := 0; i+len(pattern) <= len(b); i++ {
		if string(b[i:i+len(pattern)]) == string(pattern) {
			at[n] = i
			n++
		}
	}
	return at
}

// Create writes n flows, those of Place, into the kernel table.
func (l *Bare) Create(n int) error {
	return l.create(n, func(i int) (f bareFlow) {
		f.client, f.public, f.sport, f.nport = Place(i)
		f.server, f.dport = [4]byte{198, 51, 100, 9}, 443
		return f
	})
}

// create writes n flows.
func (l *Bare) create(n int, flow func(i int) bareFlow) error {
	size := len(l.template)
	if l.batch == nil {
		l.batch = make([]byte, bareBatch*size)
	}
	for i := 0; i < n; i += bareBatch {
		count := min(bareBatch, n-i)
		for j := range count {
			f := flow(i + j)
			l.put(l.batch[j*size:(j+1)*size], &f)
		}
		last := l.batch[(count-1)*size:]
		binary.NativeEndian.PutUint16(last[6:], unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
		if err := l.ask(l.batch[:count*size]); err != nil {
			return err
		}
	}
	return nil
}

// put makes m the message that creates f.
func (l *Bare) put(m []byte, f *bareFlow) {
	copy(m, l.template)
	for k := range 2 {
		copy(m[l.client[k]:], f.client[:])
		copy(m[l.public[k]:], f.public[:])
		copy(m[l.server[k]:], f.server[:])
		binary.BigEndian.PutUint16(m[l.sport[k]:], f.sport)
		binary.BigEndian.PutUint16(m[l.nport[k]:], f.nport)
		binary.BigEndian.PutUint16(m[l.dport[k]:], f.dport)
	}
}

// Flush empties the kernel table of the namespace: a DELETE without a tuple.
func (l *Bare) Flush() error {
	b := binary.NativeEndian.AppendUint32(nil, 20)
	b = binary.NativeEndian.AppendUint16(b, unix.NFNL_SUBSYS_CTNETLINK<<8|2)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	return l.ask(append(b, 0, 0, 0, 0, 0, 0, 0, 0, unix.AF_UNSPEC, 0, 0, 0))
}

// ask writes and reads one answer: a refusal of any message comes first.
func (l *Bare) ask(b []byte) error {
	if err := retry(func() error { _, err := unix.Write(l.fd, b); return err }); err != nil {
		return fmt.Errorf("bare loop: write: %w", err)
	}
	if err := retry(func() error { _, err := unix.Read(l.fd, l.answer[:]); return err }); err != nil {
		return fmt.Errorf("bare loop: read: %w", err)
	}
	if errno := int32(binary.NativeEndian.Uint32(l.answer[16:])); errno != 0 {
		return fmt.Errorf("bare loop: refused: %w", unix.Errno(-errno))
	}
	return nil
}

func retry(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}

// Place of flow i: client address and port, translated port and address. One
// public address has 50,000 ports here.
func Place(i int) (client, public [4]byte, sport, nport uint16) {
	n := uint32(i / 50_000)
	client, public = [4]byte{10, 0, 0, 7}, [4]byte{203, 0, 113, 1}
	binary.BigEndian.PutUint32(client[:], binary.BigEndian.Uint32(client[:])+n)
	binary.BigEndian.PutUint32(public[:], binary.BigEndian.Uint32(public[:])+n)
	return client, public, uint16(10_000 + i%50_000), uint16(60_000 - i%50_000)
}

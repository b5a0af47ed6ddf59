// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// ICMP echo, RFC 792 and RFC 4443 section 4.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
	echoLen                  = 16 // header and 8 bytes that name this request
)

// Ping sends one ICMP echo request and waits for the answer to just that one.
func Ping(ctx context.Context, to netip.Addr, timeout time.Duration) error {
	network, request, reply := "ip4:icmp", byte(echoRequest4), byte(echoReply4)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", echoRequest6, echoReply6
	}
	c, err := net.DialIP(network, nil, &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()})
	if err != nil {
		return fmt.Errorf("no way to %s: %w", to, rootOf(err))
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(timeout))
	id := rand.Uint64()
	if _, err := c.Write(echo(request, id)); err != nil {
		return fmt.Errorf("no way to %s: %w", to, rootOf(err))
	}
	buf := make([]byte, 256)
	for {
		n, _, err := c.ReadFromIP(buf) // Read would keep the IPv4 header
		var late net.Error
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &late) && late.Timeout():
			return fmt.Errorf("%s did not answer within %s", to, timeout)
		case err != nil:
			return fmt.Errorf("no answer of %s: %w", to, rootOf(err))
		case answers(buf[:n], reply, id):
			return nil
		}
	}
}

// rootOf is the kernel's word without the socket's addresses around it.
func rootOf(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}

// echo is a message of 16 bytes: type, code, checksum, identifier, sequence,
// and the 64 bits again that identifier and sequence are part of. The kernel
// writes the checksum of ICMPv6 (RFC 3542 section 3.1).
func echo(typ byte, id uint64) []byte {
	b := make([]byte, echoLen)
	b[0] = typ
	binary.BigEndian.PutUint32(b[4:], uint32(id))
	binary.BigEndian.PutUint64(b[8:], id)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// answers says whether b is the answer.
func answers(b []byte, reply byte, id uint64) bool {
	return len(b) >= echoLen && b[0] == reply && b[1] == 0 &&
		binary.BigEndian.Uint32(b[4:]) == uint32(id) && binary.BigEndian.Uint64(b[8:]) == id
}

// checksum is RFC 1071's.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Kinds of TCP connection.
const (
	kindSteady = iota + 1
	kindIdle
	kindBulk
	kindUDP
	kindPing
)

var kindName = map[int]string{kindSteady: "steady", kindIdle: "idle", kindBulk: "bulk", kindUDP: "udp", kindPing: "ping"}

// conn is one TCP connection, both ends of it.
type conn struct {
	meter
	kind, id       int
	back           bool // bulk: from the server to the client
	path           string
	client, server net.Conn
	round          uint64 // idle: exchanges so far
	closing        *atomic.Bool
}

func (c *conn) String() string { return fmt.Sprintf("%s %d over %s", kindName[c.kind], c.id, c.path) }

// broke notes the end of a connection, unless it was us who ended it.
func (c *conn) broke(what string, err error) {
	if !c.closing.Load() {
		c.fail(fmt.Errorf("%s: %s: %w", c, what, err))
	}
}

func (c *conn) stream(dir int) uint64 { return stream(c.kind, c.id, dir) }

// messageLen is the size of a request and of a response: number and payload.
const messageLen = 128

func (c *conn) put(b []byte, dir int, n uint64) {
	binary.BigEndian.PutUint64(b, n)
	fill(b[8:], c.stream(dir), n*(messageLen-8))
}

func (c *conn) check(b []byte, dir int, n uint64) error {
	if got := binary.BigEndian.Uint64(b); got != n {
		return fmt.Errorf("message %d came when %d was due", got, n)
	}
	return verifyFast(b[8:], c.stream(dir), n*(messageLen-8))
}

// converse is the client of a steady conversation: a request each period, the
// response checked. The time from request to response is the standstill.
func (c *conn) converse(period time.Duration, seen *arrivals) {
	b := make([]byte, messageLen)
	for n := uint64(0); ; n++ {
		next := time.Now().Add(period)
		sent := clock()
		c.put(b, toServer, n)
		if _, err := c.client.Write(b); err != nil {
			c.broke("write request", err)
			return
		}
		if _, err := io.ReadFull(c.client, b); err != nil {
			c.broke("read response", err)
			return
		}
		if err := c.check(b, toClient, n); err != nil {
			c.broke("check response", err)
			return
		}
		now := clock()
		c.hit(now, sent)
		seen.add(now)
		if c.closing.Load() {
			return
		}
		time.Sleep(time.Until(next))
	}
}

// answer is the server of steady and idle conversations.
func (c *conn) answer() {
	b := make([]byte, messageLen)
	for n := uint64(0); ; n++ {
		if _, err := io.ReadFull(c.server, b); err != nil {
			c.broke("read request", err)
			return
		}
		if err := c.check(b, toServer, n); err != nil {
			c.broke("check request", err)
			return
		}
		c.put(b, toClient, n)
		if _, err := c.server.Write(b); err != nil {
			c.broke("write response", err)
			return
		}
	}
}

// exchange makes an idle connection speak once.
func (c *conn) exchange(timeout time.Duration) {
	if _, _, err := c.read(); err != nil {
		return
	}
	b := make([]byte, messageLen)
	sent := clock()
	_ = c.client.SetDeadline(time.Now().Add(timeout))
	c.put(b, toServer, c.round)
	if _, err := c.client.Write(b); err != nil {
		c.broke("write after idling", err)
		return
	}
	if _, err := io.ReadFull(c.client, b); err != nil {
		c.broke("read after idling", err)
		return
	}
	if err := c.check(b, toClient, c.round); err != nil {
		c.broke("check after idling", err)
		return
	}
	c.round++
	c.hit(clock(), sent)
}

// chunk is what a bulk transfer writes at once.
const chunk = 8 << 10

// pour writes a stream at a rate in bytes per second.
func (c *conn) pour(w net.Conn, rate int) {
	b := make([]byte, chunk)
	period := time.Duration(float64(time.Second) * chunk / float64(rate))
	next := time.Now()
	for offset := uint64(0); !c.closing.Load(); offset += chunk {
		fill(b, c.stream(toServer), offset)
		if _, err := w.Write(b); err != nil {
			c.broke("write", err)
			return
		}
		if next = next.Add(period); time.Until(next) < -time.Second {
			next = time.Now() // after a standstill: go on, do not catch up for ever
		}
		time.Sleep(time.Until(next))
	}
}

// drink reads and checks a stream.
func (c *conn) drink(r net.Conn, seen *arrivals) {
	b := make([]byte, 64<<10)
	last := clock()
	for offset := uint64(0); ; {
		n, err := r.Read(b)
		if n > 0 {
			if bad := verifyFast(b[:n], c.stream(toServer), offset); bad != nil {
				c.broke("check", bad)
				return
			}
			now := clock()
			c.hit(now, last)
			seen.add(now)
			last, offset = now, offset+uint64(n)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) || !c.closing.Load() {
				c.broke("read", err)
			}
			return
		}
	}
}

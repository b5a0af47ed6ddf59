// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of socket buffers in bytes, before the kernel doubles them.
const (
	// sendBuffer bounds one sendmsg; 300 replaces of IPv6 flows with both
	// translations need 150 kB.
	sendBuffer = 4 << 20
	// answerBuffer holds a refusal (768 B of socket buffer) for each message
	// of a batch: an answer that does not fit is lost.
	answerBuffer = 4 << 20
	// readBuffer is at least NLMSG_GOODSIZE of a dump (32 KiB).
	readBuffer = 64 << 10
)

// answerTimeout bounds the wait for an answer, which the kernel has put into
// the socket before sendmsg returns. It only ever passes if one got lost.
const answerTimeout = 5 * time.Second

var errNoAnswer = fmt.Errorf("wait for the kernel's answer: none within %v", answerTimeout)

// conn is one netlink socket of NETLINK_NETFILTER, connected to the kernel, so
// that no other process can write to it.
type conn struct {
	fd   int
	port uint32
	seq  uint32
	buf  []byte // of read
	rest []byte // of buf, not yet parsed
}

// dial opens a socket in the network namespace of the caller's thread.
func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", os.NewSyscallError("socket", err))
	}
	c := &conn{fd: fd, buf: make([]byte, readBuffer)}
	if err := c.setup(); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up netlink socket: %w", err)
	}
	return c, nil
}

func (c *conn) setup() error {
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Bind(c.fd, kernel); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Connect(c.fd, kernel); err != nil {
		return os.NewSyscallError("connect", err)
	}
	name, err := unix.Getsockname(c.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	c.port = name.(*unix.SockaddrNetlink).Pid
	// Without CAP_ACK a refusal echoes the whole request.
	if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return os.NewSyscallError("setsockopt NETLINK_CAP_ACK", err)
	}
	tv := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	return os.NewSyscallError("setsockopt SO_RCVTIMEO", unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
}

func (c *conn) close() error { return os.NewSyscallError("close", unix.Close(c.fd)) }

// nextSeq reserves n sequence numbers and gives the first.
func (c *conn) nextSeq(n uint32) uint32 {
	s := c.seq + 1
	c.seq += n
	return s
}

// send hands messages to the kernel, which carries them out before it
// returns. A netlink socket takes all or nothing.
func (c *conn) send(b []byte) error {
	for {
		if _, err := unix.Write(c.fd, b); err != unix.EINTR {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// receive gives the next message; its payload is valid until the next call.
func (c *conn) receive() (m message, err error) {
	for len(c.rest) == 0 {
		n, err := unix.Read(c.fd, c.buf)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return m, errNoAnswer
		}
		if err != nil {
			return m, os.NewSyscallError("recvmsg", err)
		}
		c.rest = c.buf[:n]
	}
	m, c.rest, err = nextMessage(c.rest)
	if err != nil {
		c.rest = nil
	}
	return m, err
}

// ours says whether a sequence number is one of the n from first.
func ours(seq, first, n uint32) bool { return seq-first < n }

// forceBuffer enlarges a socket buffer beyond the host's limit, or up to it
// without CAP_NET_ADMIN. It gives what the kernel granted.
func forceBuffer(fd, force, plain, size int) (int, error) {
	get := unix.SO_RCVBUF
	if force == unix.SO_SNDBUFFORCE {
		get = unix.SO_SNDBUF
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size); err != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size); err != nil {
			return 0, os.NewSyscallError("setsockopt", err)
		}
	}
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, get)
	return n, os.NewSyscallError("getsockopt", err)
}

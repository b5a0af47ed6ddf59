// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// stampArrivals has the kernel note when each packet arrived, so that a
// goroutine that was late to read it does not count as a gap.
func stampArrivals(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		if setErr == nil {
			setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
		}
	})
	if err == nil {
		err = setErr
	}
	if err != nil {
		return fmt.Errorf("ask for receive times: %w", err)
	}
	return nil
}

// receive reads one packet and the CLOCK_MONOTONIC time of its arrival, given
// the offset of CLOCK_REALTIME.
func receive(c *net.UDPConn, b, oob []byte, offset int64) (n int, from netip.AddrPort, at int64, err error) {
	n, oobn, _, from, err := c.ReadMsgUDPAddrPort(b, oob)
	if err != nil {
		return 0, from, 0, err
	}
	at = clock()
	msgs, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, from, at, nil
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			sec := int64(binary.NativeEndian.Uint64(m.Data))
			nsec := int64(binary.NativeEndian.Uint64(m.Data[8:]))
			at = sec*1e9 + nsec - offset
		}
	}
	return n, from, at, nil
}

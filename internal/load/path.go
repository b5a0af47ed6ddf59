// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// Place is a network namespace: Run calls fn on a thread inside of it. Sockets
// opened there stay there.
type Place interface {
	Run(fn func() error) error
}

// Path is a way that connections take through the routers: the client dials
// Dial, the server listens on Listen, at the same port. Where they differ
// something in between translates the destination.
type Path struct {
	Name           string // e.g. "snat"
	Client, Server Place
	Listen, Dial   netip.Addr
	Port           uint16 // the first of some that this path may use
}

func (p *Path) listen(port uint16) (l *net.TCPListener, err error) {
	err = p.Server.Run(func() error {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Listen, port)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on path %s: %w", p.Name, err)
	}
	return l, nil
}

// pair makes one connection and returns both ends. Nothing is sent on it: who
// is who follows from the order.
func (p *Path) pair(l *net.TCPListener, port uint16, timeout time.Duration) (client, server net.Conn, err error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: -1}
	err = p.Client.Run(func() error {
		client, err = d.Dial("tcp", netip.AddrPortFrom(p.Dial, port).String())
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("connect on path %s: %w", p.Name, err)
	}
	if err := l.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, nil, err
	}
	s, err := l.AcceptTCP()
	if err != nil {
		client.Close()
		return nil, nil, fmt.Errorf("accept on path %s: %w", p.Name, err)
	}
	if err := s.SetKeepAlive(false); err != nil {
		return nil, nil, err
	}
	return client, s, nil
}

// udp opens a socket; remote may be invalid. The kernel stamps what arrives.
func udp(pl Place, local netip.AddrPort, remote netip.AddrPort) (c *net.UDPConn, err error) {
	err = pl.Run(func() error {
		var to *net.UDPAddr
		var from *net.UDPAddr
		if local.IsValid() {
			from = net.UDPAddrFromAddrPort(local)
		}
		if remote.IsValid() {
			to = net.UDPAddrFromAddrPort(remote)
			c, err = net.DialUDP("udp", from, to)
		} else {
			c, err = net.ListenUDP("udp", from)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open UDP socket: %w", err)
	}
	return c, stampArrivals(c)
}

// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/arp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Station is a switch port without a kernel behind it: whatever plays it reads
// and writes frames on Iface, inside NS. Nothing answers there by itself, not
// even ARP.
type Station struct {
	NS    *Namespace
	Iface string
	MAC   net.HardwareAddr
	lab   *Lab
	port  string
}

// Station plugs one into a switch; name is at most six letters, and unique.
func (l *Lab) Station(sw, name string) (*Station, error) {
	n := l.Switch
	s := &Station{NS: n, Iface: "st-" + name, port: sw + "." + name, lab: l, MAC: stationMAC(name)}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: s.port}, PeerName: s.Iface, PeerHardwareAddr: s.MAC}
	if err := n.nl.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add station %q: %w", s.port, err)
	}
	p, err := n.nl.LinkByName(s.port)
	if err != nil {
		return nil, fmt.Errorf("find port %q: %w", s.port, err)
	}
	br, err := n.nl.LinkByName(sw)
	if err != nil {
		return nil, fmt.Errorf("find switch %q: %w", sw, err)
	}
	if err := n.nl.LinkSetMaster(p, br); err != nil {
		return nil, fmt.Errorf("plug %q: %w", s.port, err)
	}
	l.ports.set(p.Attrs().Index, s.port)
	for _, name := range []string{s.port, s.Iface} {
		if err := n.setUp(name, true); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{s.port, s.Iface} {
		if err := n.awaitUp(name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close unplugs the station.
func (s *Station) Close() error {
	p, err := s.NS.nl.LinkByName(s.port)
	if err != nil {
		return fmt.Errorf("find port %q: %w", s.port, err)
	}
	return s.NS.nl.LinkDel(p)
}

func stationMAC(name string) net.HardwareAddr {
	hw := net.HardwareAddr{0x02, 's', 0, 0, 0, 0}
	for i := range len(name) {
		hw[2+i%4] ^= name[i] + byte(i)
	}
	return hw
}

// WhoHas asks on a switch, as a host with an empty ARP cache would, who has an
// address, and returns every hardware address that answers within the time.
func (l *Lab) WhoHas(sw string, ip netip.Addr, wait time.Duration) (answers []net.HardwareAddr, err error) {
	s, err := l.Station(sw, fmt.Sprintf("q%d", labCount.Add(1)))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	fd, err := s.NS.PacketSocket(s.Iface, nil)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := s.ask(fd, ip); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	buf := make([]byte, 2048)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		tv := unix.NsecToTimeval(max(int64(time.Until(end)), 1000))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return nil, err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil || n < 42 || buf[12] != 0x08 || buf[13] != 0x06 {
			continue
		}
		var p arp.Packet
		if p.UnmarshalBinary(buf[14:n]) != nil || p.Operation != arp.OperationReply || p.SenderIP != ip {
			continue
		}
		if hw := p.SenderHardwareAddr.String(); !seen[hw] {
			seen[hw] = true
			answers = append(answers, append(net.HardwareAddr(nil), p.SenderHardwareAddr...))
		}
	}
	return answers, nil
}

func (s *Station) ask(fd int, ip netip.Addr) error {
	// A probe (RFC 5227): without a sender address it teaches nobody anything.
	broadcast := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	p, err := arp.NewPacket(arp.OperationRequest, s.MAC, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), ip)
	if err != nil {
		return fmt.Errorf("make ARP request: %w", err)
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode ARP request: %w", err)
	}
	frame := append(append(append(make([]byte, 0, 64), broadcast...), s.MAC...), 0x08, 0x06)
	if _, err := unix.Write(fd, append(frame, b...)); err != nil {
		return fmt.Errorf("send ARP request: %w", err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
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

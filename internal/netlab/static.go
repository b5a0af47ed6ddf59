// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"golang.org/x/sys/unix"
)

// HoldVIPs gives the router both virtual addresses by hand and announces them
// by gratuitous ARP: a failover without any daemon, the lab's own control.
func (r *Router) HoldVIPs() error {
	for i, vip := range []netip.Prefix{LANVIP, WANVIP} {
		iface := fmt.Sprintf("eth%d", i)
		if err := r.NS.Address(iface, vip); err != nil {
			return err
		}
		if err := r.announce(iface, r.MAC(i), vip.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// DropVIPs undoes HoldVIPs.
func (r *Router) DropVIPs() error {
	for i, vip := range []netip.Prefix{LANVIP, WANVIP} {
		if err := r.NS.RemoveAddress(fmt.Sprintf("eth%d", i), vip); err != nil {
			return fmt.Errorf("drop %s from %s: %w", vip, r.Name, err)
		}
	}
	return nil
}

func (r *Router) announce(iface string, hw net.HardwareAddr, ip netip.Addr) error {
	fd, err := r.NS.PacketSocket(iface, nil)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	broadcast := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	p, err := arp.NewPacket(arp.OperationRequest, hw, ip, broadcast, ip)
	if err != nil {
		return fmt.Errorf("make gratuitous ARP: %w", err)
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode gratuitous ARP: %w", err)
	}
	frame := append(append(append(make([]byte, 0, 64), broadcast...), hw...), 0x08, 0x06)
	if _, err := unix.Write(fd, append(frame, b...)); err != nil {
		return fmt.Errorf("announce %s on %s of %s: %w", ip, iface, r.Name, err)
	}
	return nil
}

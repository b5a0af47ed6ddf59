// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"encoding/binary"
	"slices"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/vip"
)

// placing is how a group's addresses are put in and announced.
type placing struct {
	VirtualMAC bool
	Excluded   []address // put in, not advertised
	Timing     vip.Timing
}

func wirePlacing(g *config.Group) placing {
	return placing{
		VirtualMAC: g.VirtualMAC,
		Excluded:   wireAddresses(g.Excluded, g.Interface),
		Timing: vip.Timing{
			Interval: int64(g.GARP.Interval), Delay: int64(g.GARP.Delay), Refresh: int64(g.GARP.Refresh),
			Repeat: g.GARP.Repeat, RefreshRepeat: g.GARP.RefreshRepeat,
		},
	}
}

func wireAddresses(list []config.Address, iface string) (out []address) {
	for _, a := range list {
		if a.Interface != "" {
			out = append(out, address{a.Prefix, a.Interface})
		} else {
			out = append(out, address{a.Prefix, iface})
		}
	}
	return out
}

// installed are the addresses that go in, in the order of config's Installed.
func (g *group) installed() []address { return slices.Concat(g.Addresses, g.Place.Excluded) }

// device is the group's virtual MAC; nil: it has none.
func (g *group) device() *vip.MAC {
	if !g.Place.VirtualMAC {
		return nil
	}
	m := &vip.MAC{Parent: g.Interface, VRID: g.VRID, V6: g.v6()}
	for _, a := range g.installed() {
		m.Hosts6 = m.Hosts6 || (a.Interface == g.Interface && a.Prefix.Addr().Is6())
	}
	return m
}

func (p *placing) append(b []byte) []byte {
	b = append(b, bit(p.VirtualMAC))
	for _, v := range []int64{p.Timing.Interval, p.Timing.Delay, p.Timing.Refresh} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(p.Timing.Repeat))
	b = binary.BigEndian.AppendUint16(b, uint16(p.Timing.RefreshRepeat))
	return appendAddresses(b, p.Excluded)
}

func (p *placing) parse(r *reader) {
	p.VirtualMAC = r.bool()
	p.Timing = vip.Timing{
		Interval: int64(r.u64()), Delay: int64(r.u64()), Refresh: int64(r.u64()),
		Repeat: int(r.u16()), RefreshRepeat: int(r.u16()),
	}
	p.Excluded = r.addresses()
}

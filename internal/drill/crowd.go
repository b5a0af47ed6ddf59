// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"net/netip"

	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// Crowd makes n further flows at two stations of a lab: half UDP and a quarter
// TCP through SNAT, a tenth UDP and the rest TCP through DNAT.
func Crowd(l *netlab.Lab, n int) (*load.Crowd, error) {
	cfg := load.CrowdConfig{UDPSNAT: n / 2, TCPSNAT: n / 4, UDPDNAT: n / 10}
	cfg.TCPDNAT = n - cfg.UDPSNAT - cfg.TCPSNAT - cfg.UDPDNAT
	return CrowdOf(l, cfg)
}

// CrowdOf makes a crowd of flows of chosen kinds; stations and addresses are
// filled in. A lab has room for one at a time, and its stations stay.
func CrowdOf(l *netlab.Lab, cfg load.CrowdConfig) (_ *load.Crowd, err error) {
	cfg.VIP, cfg.DNATPort = netlab.WANVIP.Addr(), netlab.DNATCrowdFirst
	if cfg.LAN, err = station(l, netlab.LAN, "crowdl", netlab.LANCrowd.Addr(), netlab.LANVIP.Addr()); err != nil {
		return nil, err
	}
	if cfg.WAN, err = station(l, netlab.WAN, "crowdw", netlab.WANCrowd.Addr(), netlab.WANVIP.Addr()); err != nil {
		return nil, err
	}
	return load.NewCrowd(cfg)
}

func station(l *netlab.Lab, sw, name string, addr, gateway netip.Addr) (load.Station, error) {
	s, err := l.Station(sw, name)
	if err != nil {
		return load.Station{}, err
	}
	filter, err := load.StationFilter(addr)
	if err != nil {
		return load.Station{}, err
	}
	fd, err := s.NS.PacketSocket(s.Iface, filter)
	if err != nil {
		return load.Station{}, err
	}
	return load.Station{FD: fd, MAC: s.MAC, Addr: addr, Gateway: gateway}, nil
}

// Stations plugs in two stations for connections that come and go
// (Crowd.Churn). A lab has room for one crowd at a time.
func Stations(l *netlab.Lab) (*load.Crowd, error) {
	lan, err := station(l, netlab.LAN, "crowdl", netlab.LANCrowd.Addr(), netlab.LANVIP.Addr())
	if err != nil {
		return nil, err
	}
	wan, err := station(l, netlab.WAN, "crowdw", netlab.WANCrowd.Addr(), netlab.WANVIP.Addr())
	if err != nil {
		return nil, err
	}
	return load.NewStations(lan, wan, netlab.WANVIP.Addr()), nil
}

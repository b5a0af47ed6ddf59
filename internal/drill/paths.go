// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// Paths are the two ways through a lab's routers: LAN to WAN with the source
// translated, and WAN to the virtual address with the destination translated.
// A lab with IPv6 has the same two of it.
func Paths(l *netlab.Lab) []load.Path {
	paths := []load.Path{
		{Name: "snat", Client: l.Client, Server: l.Server, Port: netlab.DNATHostFirst,
			Listen: netlab.ServerAddr.Addr(), Dial: netlab.ServerAddr.Addr()},
		{Name: "dnat", Client: l.Server, Server: l.Client, Port: netlab.DNATHostFirst,
			Listen: netlab.ClientAddr.Addr(), Dial: netlab.WANVIP.Addr()},
	}
	if !l.IPv6() {
		return paths
	}
	return append(paths, []load.Path{
		{Name: "snat6", Client: l.Client, Server: l.Server, Port: netlab.DNATHostFirst,
			Listen: netlab.ServerAddr6.Addr(), Dial: netlab.ServerAddr6.Addr()},
		{Name: "dnat6", Client: l.Server, Server: l.Client, Port: netlab.DNATHostFirst,
			Listen: netlab.ClientAddr6.Addr(), Dial: netlab.WANVIP6.Addr()},
	}...)
}

// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"fmt"
	"time"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// configTemplate is the guide's pair in tandem's words.
const configTemplate = `# Written by tandem-lab.
[node]
name = %q

[vrrp.group.LAN]
interface = "eth0"
vrid = 10
address = [%q]
priority = %d
advertise-interval = %q

[vrrp.group.WAN]
interface = "eth1"
vrid = 20
address = [%q]
priority = %d
advertise-interval = %q

[vrrp.sync-group.MAIN]
member = ["LAN", "WAN"]

[conntrack-sync]
failover-mechanism.vrrp.sync-group = "MAIN"
accept-protocol = ["tcp", "udp", "icmp"]
ignore-address = ["10.0.0.2", "10.0.0.3"]
authentication = "none"

[conntrack-sync.interface.eth2]
peer = [%q]
listen-address = %q

[control]
socket = %q
`

// Config is the configuration of one router of a lab.
func Config(r *netlab.Router, socket string, interval time.Duration) string {
	priority, own, peer := 200, "192.168.255.1", "192.168.255.2"
	if r.Index == 2 {
		priority, own, peer = 100, peer, own
	}
	every := interval.String()
	return fmt.Sprintf(configTemplate, r.Name, netlab.LANVIP, priority, every,
		netlab.WANVIP, priority, every, peer, own, socket)
}

// ActiveDown is RFC 9568's Active_Down_Interval of a priority: three intervals
// and Skew_Time.
func ActiveDown(priority int, interval time.Duration) time.Duration {
	return 3*interval + time.Duration(256-priority)*interval/256
}

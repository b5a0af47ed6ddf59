// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"fmt"
	"strings"
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
ignore-address = [%s]
authentication = "none"

[conntrack-sync.interface.eth2]
peer = [%s]
listen-address = %q

[control]
socket = %q
`

// Config is the configuration of one router of a lab.
func Config(r *netlab.Router, socket string, interval time.Duration) string {
	priority := 200 / r.Index
	var lan, peers []string
	for _, o := range r.All() {
		lan = append(lan, fmt.Sprintf("%q", o.Addr(0).Addr()))
		if o.Index != r.Index {
			peers = append(peers, fmt.Sprintf("%q", o.Addr(2).Addr()))
		}
	}
	every := interval.String()
	return fmt.Sprintf(configTemplate, r.Name, netlab.LANVIP, priority, every,
		netlab.WANVIP, priority, every, strings.Join(lan, ", "), strings.Join(peers, ", "), r.Addr(2).Addr(), socket)
}

// ActiveDown is RFC 9568's Active_Down_Interval of a priority: three intervals
// and Skew_Time.
func ActiveDown(priority int, interval time.Duration) time.Duration {
	return 3*interval + time.Duration(256-priority)*interval/256
}

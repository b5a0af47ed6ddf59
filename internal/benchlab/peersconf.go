// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"fmt"
	"os"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// keepalivedConf is the guide's pair in keepalived's words. VRRPv3, since
// version 2 has whole seconds only.
const keepalivedConf = `# Written by tandem-lab.
global_defs {
	router_id %[1]s
	script_user root
	vrrp_version 3
}
vrrp_sync_group MAIN {
	group {
		LAN
		WAN
	}
	notify_master "%[2]s primary"
	notify_backup "%[2]s backup"
	notify_fault "%[2]s fault"
}
vrrp_instance LAN {
	state BACKUP
	interface eth0
	virtual_router_id 10
	priority %[3]d
	advert_int %[4]g
	virtual_ipaddress {
		%[5]s
	}
}
vrrp_instance WAN {
	state BACKUP
	interface eth1
	virtual_router_id 20
	priority %[3]d
	advert_int %[4]g
	virtual_ipaddress {
		%[6]s
	}
}
`

// conntrackdConf: FTFW over UDP, room for two million flows, buffers of 16 MiB.
const conntrackdConf = `# Written by tandem-lab.
Sync {
	Mode FTFW {
		DisableExternalCache %[1]s
	}
	UDP {
		IPv4_address %[2]s
		IPv4_Destination_Address %[3]s
		Port 3780
		Interface eth2
		SndSocketBuffer 16777216
		RcvSocketBuffer 16777216
		Checksum on
	}
}
General {
	HashSize 524288
	HashLimit 4000000
	LogFile off
	Syslog off
	LockFile %[4]s
	UNIX {
		Path %[5]s
	}
	NetlinkBufferSize 16777216
	NetlinkBufferSizeMaxGrowth 67108864
	Filter From Userspace {
		Protocol Accept {
			TCP
			UDP
			ICMP
		}
		Address Ignore {
			IPv4_address 127.0.0.1
			IPv4_address 10.0.0.2
			IPv4_address 10.0.0.3
			IPv4_address 192.168.255.1
			IPv4_address 192.168.255.2
		}
	}
}
`

// notifyScript does what conntrackd's manual has a primary and a backup do; the
// first line counts, the last one says that it is done.
const notifyScript = `#!/bin/sh
# Written by tandem-lab.
echo "$1" >>'%[2]ss'
c() { conntrackd -C '%[1]s' "$@"; }
case "$1" in
primary) c -c; c -f; c -R; c -B ;;
backup) c -t; c -n ;;
fault) c -t ;;
esac
echo "$1" >'%[2]s'
`

func (p *peers) write(r *netlab.Router) error {
	priority, peer := 200, p.lab.Other(r).Addr(2).Addr()
	if r.Index == 2 {
		priority = 100
	}
	direct := "Off"
	if p.direct {
		direct = "On"
	}
	script := p.path(r, "notify.sh")
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{"keepalived.conf", fmt.Sprintf(keepalivedConf, r.Name, script, priority, p.opts.Advert.Seconds(), netlab.LANVIP, netlab.WANVIP), 0o600},
		{"conntrackd.conf", fmt.Sprintf(conntrackdConf, direct, r.Addr(2).Addr(), peer, p.path(r, "lock"), p.path(r, "ctl")), 0o600},
		{"notify.sh", fmt.Sprintf(notifyScript, p.path(r, "conntrackd.conf"), p.path(r, "role")), 0o700},
	} {
		if err := os.WriteFile(p.path(r, f.name), []byte(f.text), f.mode); err != nil {
			return fmt.Errorf("write %s of %s: %w", f.name, r.Name, err)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/tandem-ha/tandem/conntrack"
)

// Config is a validated configuration. Every field has its final value:
// defaults are filled in, durations are durations, names are resolved.
type Config struct {
	Path    string
	Node    Node
	VRRP    VRRP
	Sync    *Sync // nil: election without copy
	Hooks   Hooks
	Capture Capture
	Control Control
	Metrics Metrics
	Log     Log

	lines map[string]int // for Where
}

// Where is the place of a key in the file, as every refusal begins:
// "/etc/tandem/tandem.toml:7: vrrp.group.LAN.interface". A key that the file
// leaves out has the line of its table.
func (c *Config) Where(key ...string) string {
	if line := c.line(key); line != 0 {
		return fmt.Sprintf("%s:%d: %s", c.Path, line, toml.Key(key))
	}
	return fmt.Sprintf("%s: %s", c.Path, toml.Key(key))
}

// line is where a key stands, or else its table; 0 when neither does.
func (c *Config) line(key []string) int {
	for n := len(key); n > 0; n-- {
		if line := c.lines[toml.Key(key[:n]).String()]; line != 0 {
			return line
		}
	}
	return 0
}

// Node is [node].
type Node struct{ Name string }

// VRRP is [vrrp].
type VRRP struct {
	Groups       []Group     // in the order of the file
	SyncGroups   []SyncGroup // in the order of the file
	StartupDelay time.Duration
}

// Group is [vrrp.group.NAME].
type Group struct {
	Name           string
	Description    string
	Disable        bool
	Interface      string
	VRID           uint8
	Addresses      []Address
	Priority       uint8 // 1-255
	AdvertInterval time.Duration
	NoPreempt      bool
	PreemptDelay   time.Duration
	Version        int // 2 or 3

	HelloSource netip.Addr // invalid: the interface's primary address; IPv6: its link-local one
	Checksum    string     // of version 3 over IPv4: one of the Checksum words, "": auto
	Password    string     // of version 2, at most 8 bytes; "": no authentication
	Peers       []Peer     // by unicast; empty: multicast
	NoAccept    bool       // accept-mode = false: packets to the virtual addresses themselves are dropped

	Excluded   []Address // put in, not advertised; of any family
	VirtualMAC bool
	GARP       GARP

	Track   Track
	Check   *HealthCheck // nil: none
	Scripts Scripts
}

// Peer is another router of a group, which adverts go to by unicast.
type Peer struct {
	Addr netip.Addr
	TTL  uint8 // the least TTL or hop limit of its adverts: its own ttl-minimum, else the group's peer-ttl-minimum
}

// Address is one virtual address and the interface that carries it.
type Address struct {
	Prefix    netip.Prefix
	Interface string // the group's when the file names none
}

// SyncGroup is [vrrp.sync-group.NAME].
type SyncGroup struct {
	Name    string
	Member  []string
	Check   *HealthCheck // nil: none
	Scripts Scripts
}

// CommitMode is conntrack-sync's commit.
type CommitMode string

// Commit modes.
const (
	CommitContinuous CommitMode = "continuous"
	CommitTakeover   CommitMode = "takeover"
)

// SecondPath is conntrack-sync's second-path: what a timeout of the adverts
// does while the Active says over the sync link that it is well.
type SecondPath string

// Second paths.
const (
	SecondPathOff   SecondPath = "off"   // nothing
	SecondPathAlarm SecondPath = "alarm" // an alarm; the takeover goes on
	SecondPathHold  SecondPath = "hold"  // an alarm, and one more interval
)

// Sync is [conntrack-sync].
type Sync struct {
	SyncGroup   string       // failover-mechanism.vrrp.sync-group
	Group       string       // failover-mechanism.vrrp.group
	External    bool         // failover-mechanism.external
	Addresses   []netip.Addr // failover-mechanism.address: what the other election moves
	SecondPath  SecondPath
	Policy      conntrack.Policy
	Commit      CommitMode
	CommitAfter time.Duration
	FenceLimit  time.Duration
	Rate        int64  // bytes/s of flow records to each peer
	KeyFile     string // empty: authentication = "none"
	Links       []Link // in the order of the file: the first that works is used
}

// Link is [conntrack-sync.interface.NAME].
type Link struct {
	Interface string
	Peer      []netip.Addr // empty: found on the link
	Listen    netip.Addr   // invalid: the interface's first address
	Group     netip.Addr   // mcast-group; invalid: the default of the family
	Port      uint16       // default 3781
	XDP       string       // auto, off
}

// Capture is [capture].
type Capture struct {
	Mode      string   // auto, tc, tracing, netlink
	Advert    string   // auto, tc, socket, xdp
	Interface []string // names or patterns with *
	Exclude   []string
}

// Control is [control].
type Control struct{ Socket string }

// Metrics is [metrics].
type Metrics struct{ Listen []string }

// Log is [log].
type Log struct{ Level string }

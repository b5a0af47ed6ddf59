// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// DefaultPort of replication, UDP. conntrackd may still hold 3780.
const DefaultPort = 3781

// Bounds of [conntrack-sync].
const (
	defaultCommitAfter = 2 * time.Second
	maxCommitAfter     = time.Hour
	defaultFenceLimit  = 5 * time.Second
	minFenceLimit      = 100 * time.Millisecond
	maxFenceLimit      = time.Minute
	defaultRate        = 50e6
	minRate, maxRate   = 100e3, 10e9
)

func readSync(t *table) *Sync {
	defer t.finish()
	s := &Sync{
		Policy:      readPolicy(t),
		Commit:      CommitMode(t.choice("commit", string(CommitContinuous), string(CommitContinuous), string(CommitTakeover))),
		CommitAfter: t.duration("commit-after", defaultCommitAfter, 0, maxCommitAfter, 0),
		FenceLimit:  t.duration("fence-limit", defaultFenceLimit, minFenceLimit, maxFenceLimit, 0),
		Rate:        t.rate("rate", defaultRate),
		SecondPath:  SecondPath(t.choice("second-path", string(SecondPathAlarm), string(SecondPathOff), string(SecondPathAlarm), string(SecondPathHold))),
	}
	readFailover(s, t)
	readAuthentication(s, t)
	links := t.table("interface")
	for _, l := range links.tables() {
		s.Links = append(s.Links, readLink(l))
	}
	if !t.has("interface") || links != nil && len(links.raw) == 0 {
		t.fault("interface", "missing: name the link to the peer, as a table [conntrack-sync.interface.eth2]")
	}
	t.later("expectations are", "expect-sync")
	return s
}

// readAuthentication insists on a key, or that "none" is said aloud.
func readAuthentication(s *Sync, t *table) {
	t.choice("authentication", "", "none")
	s.KeyFile = t.text("key-file", "", "an absolute path", filepath.IsAbs)
	switch {
	case t.has("authentication") && t.has("key-file"):
		t.fault("authentication", `"none" beside a key-file: keep one of the two lines`)
	case !t.has("authentication") && !t.has("key-file"):
		t.fault("authentication", `missing: write key-file = "/etc/tandem/sync.key" (tandem sync key new draws a key), `+
			`or authentication = "none" to say that nobody but the peer can reach the link`)
	}
}

// protocols are the names of accept-protocol.
var protocols = map[string]uint8{
	"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP, "icmp6": unix.IPPROTO_ICMPV6,
	"sctp": unix.IPPROTO_SCTP, "dccp": unix.IPPROTO_DCCP, "gre": unix.IPPROTO_GRE, "udplite": unix.IPPROTO_UDPLITE,
	"esp": unix.IPPROTO_ESP,
}

var protocolNames = []string{"tcp", "udp", "icmp", "icmp6", "sctp", "dccp", "gre", "udplite", "esp", "all"}

func readPolicy(t *table) conntrack.Policy {
	p := conntrack.DefaultPolicy()
	names, ok := t.list("accept-protocol")
	if ok && len(names) == 0 {
		t.fault("accept-protocol", "empty list: must be some of %s", oneOf(protocolNames))
	}
	if ok && !slices.Contains(names, "all") {
		p.Protocols = [256]bool{}
	}
	for _, name := range names {
		if !slices.Contains(protocolNames, name) {
			t.refuse("accept-protocol", name, "must be some of %s", oneOf(protocolNames))
			continue
		}
		if name != "all" {
			p.Protocols[protocols[name]] = true
		}
	}
	p.Ignore = t.prefixes("ignore-address")
	w := t.table("replicate-when")
	defer w.finish()
	p.TCP = readWhen(w, "tcp", "assured")
	p.Other = readWhen(w, "other", "replied")
	return p
}

func readWhen(t *table, name, def string) conntrack.When {
	switch t.choice(name, def, "new", "replied", "assured") {
	case "new":
		return conntrack.WhenNew
	case "replied":
		return conntrack.WhenReplied
	}
	return conntrack.WhenAssured
}

// prefixes gives addresses and prefixes, host bits cleared.
func (t *table) prefixes(name string) (out []netip.Prefix) {
	l, _ := t.list(name)
	for _, s := range l {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			t.refuse(name, s, `must be an address or a prefix, as "10.0.0.2" or "10.0.0.0/24"`)
			continue
		}
		out = append(out, p.Masked())
	}
	return out
}

// checkSync holds conntrack-sync against the groups.
func checkSync(root *table, c *Config) {
	if c.Sync == nil {
		return
	}
	key := func(k ...string) []string { return append([]string{"conntrack-sync"}, k...) }
	s := c.Sync
	if s.SyncGroup != "" && !slices.ContainsFunc(c.VRRP.SyncGroups, func(g SyncGroup) bool { return g.Name == s.SyncGroup }) {
		root.d.fault(key("failover-mechanism", "vrrp", "sync-group"), "%q: no such sync group: %s", s.SyncGroup,
			known("sync groups", c.VRRP.SyncGroups, func(g SyncGroup) string { return g.Name }))
	}
	if s.External {
		checkExternal(root, c)
	}
	if s.Group != "" {
		checkFollowed(root, c, key("failover-mechanism", "vrrp", "group"))
	}
	checkLinks(root, c)
}

// known lists what there is, for an error.
func known[T any](what string, all []T, name func(T) string) string {
	if len(all) == 0 {
		return "the file has no " + what
	}
	words := make([]string, len(all))
	for i := range all {
		words[i] = name(all[i])
	}
	return fmt.Sprintf("must be %s", oneOf(words))
}

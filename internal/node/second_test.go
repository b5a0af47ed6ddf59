// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/vrrp"
)

// An Active says that its adverts leave only while it is so, of every group.
func TestSending(t *testing.T) {
	const interval = 100 * time.Millisecond
	cfg := &config.Config{Sync: &config.Sync{SyncGroup: "MAIN"}}
	cfg.VRRP.SyncGroups = []config.SyncGroup{{Name: "MAIN", Member: []string{"LAN", "WAN"}}}
	for _, name := range []string{"LAN", "WAN", "OTHER"} {
		cfg.VRRP.Groups = append(cfg.VRRP.Groups, config.Group{Name: name, AdvertInterval: interval})
	}
	group := func(name string, state vrrp.State, sent, errors uint64) adverts.GroupStatus {
		return adverts.GroupStatus{Name: name, State: state, Counters: vrrp.Counters{SentAdvertisements: sent, SendErrors: errors}}
	}
	d := &daemon{cfg: cfg, tracking: newTracking(cfg, nil, nil), election: newElection("MAIN", nil, nil)}
	s := &sending{d: d, seen: map[string]sent{}}
	for i, look := range []struct {
		at       time.Duration
		lan, wan adverts.GroupStatus
		want     bool
	}{
		{0, group("LAN", vrrp.Backup, 7, 0), group("WAN", vrrp.Backup, 7, 0), false},
		{50, group("LAN", vrrp.Active, 7, 0), group("WAN", vrrp.Active, 7, 0), false}, // nothing was sent as Active yet
		{100, group("LAN", vrrp.Active, 8, 0), group("WAN", vrrp.Active, 8, 0), true},
		{350, group("LAN", vrrp.Active, 8, 0), group("WAN", vrrp.Active, 8, 0), false},
		{375, group("LAN", vrrp.Active, 9, 0), group("WAN", vrrp.Active, 8, 0), false}, // one of two
		{400, group("LAN", vrrp.Active, 10, 0), group("WAN", vrrp.Active, 9, 0), true},
		{500, group("LAN", vrrp.Active, 10, 0), group("WAN", vrrp.Active, 9, 0), true},   // within two intervals
		{550, group("LAN", vrrp.Active, 11, 0), group("WAN", vrrp.Active, 10, 1), false}, // refused by the kernel
		{600, group("LAN", vrrp.Active, 12, 0), group("WAN", vrrp.Active, 11, 1), true},
		{650, group("LAN", vrrp.Initialize, 12, 0), group("WAN", vrrp.Initialize, 11, 1), false},
	} {
		groups := []adverts.GroupStatus{look.lan, look.wan, group("OTHER", vrrp.Backup, 0, 9)}
		if got := s.look(groups, int64(time.Hour+look.at*time.Millisecond)); got != look.want {
			t.Errorf("look %d: %t, want %t", i, got, look.want)
		}
	}
}

// Heartbeats are frequent enough that a word is not older than an interval.
func TestHeartbeat(t *testing.T) {
	for interval, want := range map[time.Duration]time.Duration{time.Second: 50 * time.Millisecond, 100 * time.Millisecond: 50 * time.Millisecond,
		40 * time.Millisecond: 20 * time.Millisecond, 10 * time.Millisecond: 5 * time.Millisecond} {
		cfg := &config.Config{Sync: &config.Sync{Group: "LAN"}}
		cfg.VRRP.Groups = []config.Group{{Name: "LAN", AdvertInterval: interval}, {Name: "OTHER", AdvertInterval: 10 * time.Millisecond}}
		if got := (&daemon{cfg: cfg, tracking: newTracking(cfg, nil, nil), election: newElection("LAN", nil, nil)}).heartbeat(); got != want {
			t.Errorf("adverts each %v: a heartbeat each %v, want %v", interval, got, want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
)

// TestReadiness: nothing is called safe that is not.
func TestReadiness(t *testing.T) {
	good := control.SyncPeer{Name: "r2", Heard: true, Role: control.RoleBackup, Complete: true, PeerComplete: true}
	heard := time.Unix(1000, 0)
	for _, tt := range []struct {
		name, role string
		peer       func(*control.SyncPeer)
		want       string
	}{
		{"active, whole", control.RoleActive, func(*control.SyncPeer) {}, "If r1 failed now, its connections would live on"},
		{"backup, whole", control.RoleBackup, func(*control.SyncPeer) {}, "If the Active failed now, its connections would live on"},
		{"fault here", control.RoleInitialize, func(*control.SyncPeer) {}, "LOST:\n  r1 cannot take over: eth0 is down"},
		{"fault there", control.RoleActive, func(p *control.SyncPeer) { p.Role = control.RoleInitialize }, "LOST:\n  r2 cannot take over"},
		{"never heard", control.RoleActive, func(p *control.SyncPeer) { p.Heard = false }, "LOST:\n  all of them, since r2 was never heard"},
		{"silent", control.RoleActive, func(p *control.SyncPeer) { p.Heard, p.LastHeard = false, heard }, "LOST:\n  those made since"},
		{"deaf", control.RoleActive, func(p *control.SyncPeer) { p.PeerComplete = false }, "may not hear this node"},
		{"behind", control.RoleActive, func(p *control.SyncPeer) { p.PeerComplete, p.BacklogFlows = false, 7 }, "7 are still to be sent"},
		{"joining", control.RoleBackup, func(p *control.SyncPeer) { p.Complete = false }, "the copy of r2's flows is not complete yet"},
		{"no room", control.RoleBackup, func(p *control.SyncPeer) { p.Uncommitted = 101 }, "no room for 101 flows of r2's"},
	} {
		p := good
		tt.peer(&p)
		s := control.Status{Node: "r1", Now: heard.Add(time.Minute), Table: &control.KernelTable{Max: 100},
			Sets: []control.Set{{Name: "MAIN", Role: tt.role, Reason: "eth0 is down"}},
			Sync: &control.SyncStatus{Peers: []control.SyncPeer{p}}}
		if got := readiness(&s); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q in it", tt.name, got, tt.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"
	"testing"

	"github.com/tandem-ha/tandem/internal/control"
)

// member is a group of sync group MAIN as a Backup has it.
func member(name string, priority uint8, active string, activePriority uint8) control.VRRPGroup {
	return control.VRRPGroup{Name: name, Set: "MAIN", Role: control.RoleBackup, EffectivePriority: priority, ActiveAddress: active, ActivePriority: activePriority}
}

func TestPriorityOrder(t *testing.T) {
	as := func(role string, g control.VRRPGroup) control.VRRPGroup { g.Role = role; return g }
	of := func(set string, g control.VRRPGroup) control.VRRPGroup { g.Set = set; return g }
	lan := member("LAN", 100, "10.0.0.2", 200)
	for _, tt := range []struct {
		name   string
		groups []control.VRRPGroup
		want   string // in the alarm's text; "": no alarm
	}{
		{"both lower", []control.VRRPGroup{lan, member("WAN", 100, "203.0.113.2", 200)}, ""},
		{"both higher", []control.VRRPGroup{member("LAN", 200, "10.0.0.2", 100), member("WAN", 200, "203.0.113.2", 100)}, ""},
		{"both equal", []control.VRRPGroup{member("LAN", 100, "10.0.0.2", 100), member("WAN", 100, "203.0.113.2", 100)}, ""},
		{"nobody heard in one", []control.VRRPGroup{lan, member("WAN", 200, "", 0)}, ""},
		{"priority 0 heard last in one", []control.VRRPGroup{lan, member("WAN", 200, "203.0.113.2", 0)}, ""},
		{"Active here", []control.VRRPGroup{as(control.RoleActive, lan), as(control.RoleActive, member("WAN", 200, "203.0.113.2", 100))}, ""},
		{"of different sets", []control.VRRPGroup{lan, of("WAN", member("WAN", 200, "203.0.113.2", 100))}, ""},
		{"crossed", []control.VRRPGroup{lan, member("WAN", 200, "203.0.113.2", 100)}, "in group WAN (200 to 100) and not in group LAN (100 to 200)"},
		{"equal and higher", []control.VRRPGroup{member("LAN", 100, "10.0.0.2", 100), member("WAN", 200, "203.0.113.2", 100)}, "in group WAN (200 to 100) and not in group LAN (100 to 100)"},
		{"the third", []control.VRRPGroup{lan, member("WAN", 100, "203.0.113.2", 200), member("DMZ", 101, "172.16.0.2", 100)}, "in group DMZ (101 to 100) and not in group LAN"},
	} {
		o := order{}
		if got := o.look(tt.groups); len(got) != 0 {
			t.Errorf("%s, at the first look: %+v", tt.name, got)
		}
		got := o.look(tt.groups)
		if tt.want == "" {
			if len(got) != 0 {
				t.Errorf("%s: %+v", tt.name, got)
			}
			continue
		}
		if len(got) != 1 || got[0].Kind != "priority-order" || got[0].About != "MAIN" || !strings.Contains(got[0].Text, tt.want) {
			t.Errorf("%s: %+v, want one alarm with %q", tt.name, got, tt.want)
		}
	}
}

// A flood of lower adverts, each from another address, is no order of priorities.
func TestPriorityOrderOfStrays(t *testing.T) {
	o := order{}
	for _, address := range []string{"10.0.0.101", "10.0.0.102", "10.0.0.103"} {
		if got := o.look([]control.VRRPGroup{member("LAN", 100, address, 50), member("WAN", 100, "203.0.113.2", 200)}); len(got) != 0 {
			t.Errorf("%s: %+v", address, got)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// Each router is the better one of one group: whichever is the Backup says so, and
// what to do.
func TestPriorityOrder(t *testing.T) {
	crossed := func(router, text string) string {
		head, wan, _ := strings.Cut(text, "[vrrp.group.WAN]")
		mine, others := "priority = 200", "priority = 100"
		if router == "r2" {
			mine, others = others, mine
		}
		return head + "[vrrp.group.WAN]" + strings.Replace(wan, mine, others, 1)
	}
	p := drill.PrepareForTest(t, netlab.Options{}, drill.PairOptions{Edit: crossed})
	start(t, p, p.Lab.Routers()...)
	var alarm control.Alarm
	eventually(t, 15*time.Second, "an alarm of the Backup", func() bool {
		for _, r := range p.Lab.Routers() {
			st, err := p.Client(r).Status(t.Context())
			if err != nil {
				continue // it starts
			}
			for _, a := range st.Alarms {
				if a.Kind == "priority-order" && st.Sets[0].Role == control.RoleBackup {
					alarm = a
					return true
				}
			}
		}
		return false
	})
	t.Log(alarm.Text)
	if alarm.About != "MAIN" || !strings.Contains(alarm.Text, "(200 to 100)") || !strings.Contains(alarm.Text, "(100 to 200)") {
		t.Errorf("the alarm says %+v", alarm)
	}
}

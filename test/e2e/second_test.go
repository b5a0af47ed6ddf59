// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/netlab"
)

const unheard = "though it says over the sync link that it is Active and sends them"

// The adverts do not pass, the sync link does: the Backup says so before, with
// "hold" after one more interval, and takes over. Both are Active then, and both
// say that, too. When the network heals one remains.
func TestSecondPath(t *testing.T) {
	const interval = 300 * time.Millisecond
	down := drill.ActiveDown(100, interval)
	for _, tt := range []struct {
		mode     string
		after    time.Duration // of the last advert, at least
		atMost   time.Duration
		doubtful bool
	}{
		{"off", down, down + interval, false},
		{"alarm", down, down + interval, true},
		{"hold", down + interval, down + 2*interval, true},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{Interval: interval,
				Edit: within("[conntrack-sync]", fmt.Sprintf("second-path = %q", tt.mode))})
			r1, r2 := p.Lab.R1, p.Lab.R2
			mute(t, r1, netlab.LAN, netlab.WAN)
			st, err := p.AwaitRole(t.Context(), r2, control.RoleActive, 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			var silent int
			if _, err := fmt.Sscanf(st.Last.Reason, "the Active was silent for %d ms", &silent); err != nil {
				t.Fatalf("r2 took over because %q", st.Last.Reason)
			}
			if d := time.Duration(silent+1) * time.Millisecond; d < tt.after || d > tt.atMost {
				t.Errorf("r2 took over after %v of silence, want %v to %v", d, tt.after, tt.atMost)
			}
			if got := told(t, p, r2, event.Alarm, unheard); got != tt.doubtful {
				t.Errorf("r2 told of an Active that is heard over the sync link alone: %t", got)
			}
			for _, r := range p.Lab.Routers() {
				eventually(t, 10*time.Second, "alarm of two Actives on "+r.Name, func() bool {
					s := ask(t, p, r)
					return s.Sync.TwoActives == 1 && alarmed(&s, "two-actives")
				})
			}
			eventually(t, 5*time.Second, fmt.Sprintf("an alarm second-path on r2: %t", tt.doubtful), func() bool {
				s := ask(t, p, r2)
				return alarmed(&s, "second-path") == tt.doubtful
			})
			unmute(t, r1, netlab.LAN, netlab.WAN)
			for r, role := range map[*netlab.Router]string{r1: control.RoleActive, r2: control.RoleBackup} {
				if _, err := p.AwaitRole(t.Context(), r, role, 10*time.Second); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range p.Lab.Routers() {
				eventually(t, 10*time.Second, "no alarm on "+r.Name, func() bool {
					s := ask(t, p, r)
					return !alarmed(&s, "two-actives") && !alarmed(&s, "second-path")
				})
			}
		})
	}
}

// An Active that is really gone is not vouched for: neither when it loses power
// nor when its advert process hangs while the rest of it lives.
func TestSecondPathBelievesNoDead(t *testing.T) {
	hold := within("[conntrack-sync]", `second-path = "hold"`)
	for name, kill := range map[string]func(t *testing.T, p *drill.Pair){
		"power cut": func(t *testing.T, p *drill.Pair) {
			if _, err := p.Lab.R1.PowerOff(); err != nil {
				t.Fatal(err)
			}
		},
		"adverts process hangs": func(t *testing.T, p *drill.Pair) {
			st := ask(t, p, p.Lab.R1)
			freeze(t, st.Adverts.PID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			// An advert process is missed after two intervals and some heartbeats of 50 ms:
			// of 100 ms, three and more would leave the machine no time to be late.
			p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{Interval: 300 * time.Millisecond, Edit: hold})
			r2 := p.Lab.R2
			kill(t, p)
			st, err := p.AwaitRole(t.Context(), r2, control.RoleActive, 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if told(t, p, r2, event.Alarm, unheard) {
				t.Errorf("r2 believed the dead: %s", st.Last.Reason)
			}
		})
	}
}

func mute(t *testing.T, r *netlab.Router, switches ...string) {
	t.Helper()
	for _, sw := range switches {
		if err := r.Mute(sw); err != nil {
			t.Fatal(err)
		}
	}
}

func unmute(t *testing.T, r *netlab.Router, switches ...string) {
	t.Helper()
	for _, sw := range switches {
		if err := r.Unmute(sw); err != nil {
			t.Fatal(err)
		}
	}
}

func alarmed(s *control.Status, kind string) (yes bool) {
	for _, a := range s.Alarms {
		yes = yes || a.Kind == kind
	}
	return yes
}

// told says whether a router's daemon has an event of a kind with such a text.
func told(t *testing.T, p *drill.Pair, r *netlab.Router, kind event.Kind, text string) (yes bool) {
	t.Helper()
	err := p.Client(r).Events(t.Context(), nil, false, func(e event.Event) error {
		yes = yes || e.Kind == kind && strings.Contains(e.Text, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return yes
}

// freeze stops a process until the end of the test.
func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) })
	eventually(t, 5*time.Second, "the process stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, state, _ := strings.Cut(string(stat), ") ")
		return err == nil && strings.HasPrefix(state, "T")
	})
}

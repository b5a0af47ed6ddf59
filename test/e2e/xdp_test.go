// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
	"github.com/tandem-ha/tandem/loader"
)

func withXDP(_, text string) string {
	return strings.Replace(text, "[control]\n", "[capture]\nadvert = \"xdp\"\n[control]\n", 1)
}

var underXDP = load.Mix{Steady: 10, Idle: 5, Bulk: 4, UDP: 20}

// The pair with adverts by XDP, behind virtual MACs too: the Active loses power,
// and no connection breaks; it comes back, by XDP again, and takes its role.
func TestAdvertsByXDP(t *testing.T) {
	both := func(r, text string) string { return withXDP(r, withVirtualMACs(r, text)) }
	for name, edit := range map[string]func(router, text string) string{"plain": withXDP, "virtual MAC": both} {
		t.Run(name, func(t *testing.T) {
			s := play(t, netlab.Options{}, drill.PairOptions{Edit: edit}, underXDP, 1000)
			r1, r2 := s.Lab.R1, s.Lab.R2
			s.takenBy(r1, "xdp (native)", "")
			s.takenBy(r2, "xdp (native)", "")
			at, err := r1.PowerOff()
			if err != nil {
				t.Fatal(err)
			}
			s.mark(at)
			s.become(r2, control.RoleActive, 5*time.Second)
			s.judge("power cut")
			s.takenBy(r2, "xdp (native)", "")
			if err := r1.PowerOn(); err != nil {
				t.Fatal(err)
			}
			start(t, s.Pair, r1)
			s.mark(netlab.Now())
			s.become(r1, control.RoleActive, 10*time.Second)
			s.become(r2, control.RoleBackup, 5*time.Second)
			s.judge("back again")
			s.takenBy(r1, "xdp (native)", "")
		})
	}
}

// Somebody takes the Backup's programs away: nobody takes over, TC takes adverts
// instead, and it says so. A power cut then breaks nothing.
func TestAdvertsByXDPRemoved(t *testing.T) {
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: withXDP}, underXDP, 0)
	r1, r2 := s.Lab.R1, s.Lab.R2
	s.takenBy(r2, "xdp (native)", "")
	before := s.status(r2).Sets[0].Since
	s.mark(netlab.Now())
	if n := detachXDP(t, r2); n != 2 {
		t.Errorf("r2 had %d programs for adverts at XDP, want 2", n)
	}
	s.takenBy(r2, "tc", "it is attached when the daemon starts, not later")
	s.alarmed(r2, "advert-xdp", 2)
	if set := s.status(r2).Sets[0]; set.Role != control.RoleBackup || !set.Since.Equal(before) {
		t.Errorf("r2 changed its role: %+v", set)
	}
	s.judge("the programs are taken away")
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r2, control.RoleActive, 5*time.Second)
	s.judge("power cut")
}

// takenBy waits until a router says how it takes adverts, and why.
func (s *scene) takenBy(r *netlab.Router, way, why string) {
	s.t.Helper()
	var said string
	for end := time.Now().Add(8 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		st := s.status(r)
		good := st.Adverts.Rung == way
		said = st.Adverts.Rung
		for _, g := range st.Groups {
			good = good && g.Taken == way && strings.Contains(g.TakenWhy, why)
			said += fmt.Sprintf("; %s: %s (%s)", g.Interface, g.Taken, g.TakenWhy)
		}
		if good {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s takes adverts by %s, want %s (%s)", r.Name, said, way, why)
		}
	}
}

// alarmed waits for n alarms of a kind.
func (s *scene) alarmed(r *netlab.Router, kind string, n int) {
	s.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		found := 0
		all := s.status(r).Alarms
		for _, a := range all {
			if a.Kind == kind {
				found++
			}
		}
		if found == n {
			return
		}
		if time.Now().After(end) {
			s.t.Errorf("%s has %d alarms %s, want %d: %+v", r.Name, found, kind, n, all)
			return
		}
	}
}

// detachXDP takes a router's programs for adverts off its interfaces, as bpftool
// link detach does, and counts them.
func detachXDP(t *testing.T, r *netlab.Router) (n int) {
	t.Helper()
	err := r.NS.Run(func() error {
		links, err := loader.Links()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Name != "tandem_adv_xdp" || l.Interface == "" {
				continue
			}
			lk, err := link.NewFromID(link.ID(l.ID))
			if err != nil {
				return err
			}
			if err := lk.Detach(); err != nil {
				return err
			}
			_ = lk.Close()
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// edit replaces text in a router's configuration: old, new, old, new ...
func (s *scene) edit(r *netlab.Router, edits ...string) {
	s.t.Helper()
	path := filepath.Join(s.Dir, r.Name+".toml")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.NewReplacer(edits...).Replace(string(text))), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// reload has a router's daemon take edits over.
func (s *scene) reload(r *netlab.Router, want string, edits ...string) {
	s.t.Helper()
	s.edit(r, edits...)
	began := time.Now()
	got := strings.TrimSpace(run(s.t, r, "reload", "--socket", socket(s.Pair, r)))
	s.t.Logf("reload on %s in %v: %s", r.Name, time.Since(began).Round(time.Millisecond), got)
	if got != want {
		s.t.Errorf("reload on %s says %q, want %q", r.Name, got, want)
	}
}

// Under load and replication: another interval and a group more cost no role. A
// member more in the set that the replication follows is a takeover and a
// preemption, as a restart is; and the way back, too. None of it costs a packet.
func TestReload(t *testing.T) {
	s := play(t, netlab.Options{DMZ: true}, drill.PairOptions{}, load.Mix{Steady: 10, Idle: 5, Bulk: 4, UDP: 20}, 2000)
	r1, r2 := s.Lab.R1, s.Lab.R2
	pr := startProbe(t, s.Lab)
	time.Sleep(500 * time.Millisecond)

	since, active := s.status(r1).Sets[0].Since, s.status(r2).Groups[0].Counters.BecomeActive
	at := netlab.Now()
	s.mark(at)
	const main = "[vrrp.sync-group.MAIN]\nmember = [\"LAN\", \"WAN\""
	dmz := map[*netlab.Router]string{}
	for _, r := range []*netlab.Router{r1, r2} {
		dmz[r] = fmt.Sprintf("[vrrp.group.DMZ]\ninterface = \"eth3\"\nvrid = 30\npriority = %d\naddress = \"172.16.0.1/24\"\nadvertise-interval = \"60ms\"\n\n", 200/r.Index)
		s.reload(r, "taken over: [vrrp.group.LAN], [vrrp.group.WAN]; began: DMZ", `"100ms"`, `"60ms"`, main, dmz[r]+main)
	}
	ready := func() {
		t.Helper()
		if err := s.AwaitReady(t.Context(), r1, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	ready()
	time.Sleep(time.Second)
	pr.none(t, "another interval and a group more", at)
	if set := s.status(r1).Sets[0]; set.Name != "MAIN" || !set.Since.Equal(since) {
		t.Errorf("r1: %+v, was Active since %v", set, since)
	}
	for _, g := range s.status(r2).Groups {
		if g.ActiveMS != 60 || g.Counters.BecomeActive != active && g.Name != "DMZ" {
			t.Errorf("%s on r2: an advert each %v ms, Active %d times", g.Name, g.ActiveMS, g.Counters.BecomeActive)
		}
	}
	s.judge("another interval and a group more")

	for _, step := range []struct{ what, says, from, to string }{
		{"a member more", "ended: DMZ; began anew: MAIN", main, main + `, "DMZ"`},
		{"a member less", "began anew: MAIN; began: DMZ", main + `, "DMZ"`, main},
	} {
		at := netlab.Now()
		s.mark(at)
		s.reload(r2, step.says, step.from, step.to)
		s.become(r2, control.RoleBackup, 5*time.Second)
		s.reload(r1, step.says, step.from, step.to)
		ready() // r2 took over, and r1 has preempted
		if n := s.status(r2).Groups[0].Counters.BecomeActive; n != 1 {
			t.Errorf("%s: r2 became Active %d times", step.what, n)
		}
		soleHolder(t, s.Lab, r1, 5*time.Second)
		s.judge(step.what)
		pr.none(t, step.what, at)
	}

	at = netlab.Now()
	s.mark(at)
	for _, r := range []*netlab.Router{r2, r1} {
		s.reload(r, "ended: DMZ", dmz[r], "")
	}
	time.Sleep(time.Second)
	pr.none(t, "a group less", at)
	ready()
	if n := len(s.status(r1).Groups); n != 2 {
		t.Errorf("%d groups are left", n)
	}
	s.judge("a group less")

	s.edit(r1, `"MAIN"`, `"OTHER"`, "[vrrp.sync-group.MAIN]", "[vrrp.sync-group.OTHER]")
	refused(t, s.Pair, r1, "[conntrack-sync] (the replication follows MAIN from its start to its end) changed", "reload")
	ready()
}

// A reload that waits for an adverts process that hangs ends, says what did not
// come to its end, and so does the next one.
func TestReloadWhileTheElectionHangs(t *testing.T) {
	s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{}, drill.PairOptions{})}
	r2 := s.Lab.R2
	const main = "[vrrp.sync-group.MAIN]"
	guest := "[vrrp.group.GUEST]\ninterface = \"eth0\"\nvrid = 40\naddress = \"10.1.0.240/24\"\n\n"
	s.reload(r2, "began: GUEST", main, guest+main)
	pid := s.status(r2).Adverts.PID
	freeze(t, pid)
	s.edit(r2, guest, "")
	refused(t, s.Pair, r2, "GUEST did not end within 5s: not all was taken over: restart tandem", "reload")
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	refused(t, s.Pair, r2, "an earlier reload did not come to its end (GUEST did not end within 5s): restart tandem", "reload")
}

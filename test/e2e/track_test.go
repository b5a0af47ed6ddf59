// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// checked adds a health check to the sync group of each router, which is good
// while the file ROUTER.well is there, and scripts that write down how they were
// called, to ROUTER.log.
func checked(t *testing.T) (dir string, edit func(router, text string) string) {
	dir = t.TempDir()
	program(t, filepath.Join(dir, "check.sh"), "[ -e "+dir+"/$TANDEM_NODE.well ]")
	program(t, filepath.Join(dir, "role.sh"), `[ "$(env | grep -cv '^\(TANDEM_\|PATH=\|HOME=\|SHELL=\|LANG=\|PWD=\|SHLVL=\|_=\|OLDPWD=\)')" = 0 ] || exit 9
echo "$TANDEM_STATE $TANDEM_TYPE $TANDEM_NAME, $* ($TANDEM_INTERFACE $TANDEM_VRID $TANDEM_ADDRESSES)" >>`+dir+`/$TANDEM_NODE.log`)
	for _, r := range []string{"r1", "r2"} {
		well(t, dir, r, true)
	}
	script := func(what string) string {
		line := `transition-script = {`
		for _, state := range []string{"master", "backup", "fault", "stop"} {
			line += fmt.Sprintf(` %s = "%s/role.sh %s",`, state, dir, what)
		}
		return strings.TrimSuffix(line, ",") + " }"
	}
	return dir, func(router, text string) string {
		text = within("[vrrp.group.LAN]", script("lan"))(router, text)
		return within("[vrrp.sync-group.MAIN]", script("main")+
			fmt.Sprintf("\nhealth-check = { script = \"%s/check.sh\", interval = \"300ms\", failure-count = 2, rise = 2 }", dir))(router, text)
	}
}

func program(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func well(t *testing.T, dir, router string, is bool) {
	t.Helper()
	path := filepath.Join(dir, router+".well")
	err := os.Remove(path)
	if is {
		err = os.WriteFile(path, nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// calls waits until a router's scripts have run n times, and says how.
func calls(t *testing.T, dir, router string, n int) (lines []string) {
	t.Helper()
	eventually(t, 10*time.Second, fmt.Sprintf("%d scripts of %s", n, router), func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, router+".log"))
		lines = strings.Split(strings.TrimSpace(string(b)), "\n")
		return len(lines) >= n
	})
	return lines
}

// children are the processes that a router's daemon started, by their command.
func (s *scene) children(r *netlab.Router, command string) (pids []int) {
	s.t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.Process(r).Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for word := range strings.FieldsSeq(string(b)) {
			line, _ := os.ReadFile("/proc/" + word + "/cmdline")
			if pid, err := strconv.Atoi(word); err == nil && strings.Contains(string(line), "\x00"+command+"\x00") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// hooks is the process that runs a router's scripts; when it ended, the next one.
func (s *scene) hooks(r *netlab.Router) int {
	s.t.Helper()
	var pids []int
	eventually(s.t, 10*time.Second, "one hooks process on "+r.Name, func() bool {
		pids = s.children(r, "hooks")
		return len(pids) == 1
	})
	return pids[0]
}

// A health check fails: the role moves to the peer and comes back, no connection
// breaks, and scripts run for it in order, with what docs/tracking.md says. The
// process that runs them is killed in between, which moves nothing.
func TestHealthCheckMovesTheRole(t *testing.T) {
	dir, edit := checked(t)
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: edit}, fast, 0)
	r1, r2 := s.Lab.R1, s.Lab.R2
	const lan, main = "INSTANCE LAN %s %d (eth0 10 10.0.0.1/24)", "GROUP MAIN %s %d (  )"
	both := func(state, word string, prio int) []string {
		return []string{fmt.Sprintf(state+" group LAN, lan "+lan, word, prio), fmt.Sprintf(state+" sync-group MAIN, main "+main, word, prio)}
	}
	want := append(both("backup", "BACKUP", 200), both("active", "MASTER", 200)...)
	if d := cmp.Diff(want, calls(t, dir, "r1", 4)); d != "" {
		t.Errorf("r1's scripts at the start (-want +got):\n%s", d)
	}

	s.mark(netlab.Now())
	well(t, dir, "r1", false)
	s.become(r2, control.RoleActive, 10*time.Second)
	st := s.become(r1, control.RoleInitialize, 10*time.Second)
	if why := st.Sets[0].Reason; !strings.Contains(why, "health-check of MAIN: exit status 1 (2 times in a row)") {
		t.Errorf("r1 says %q", why)
	}
	s.judge("failed")
	detail := run(t, r1, "vrrp", "detail", "--socket", socket(s.Pair, r1), "LAN")
	if !strings.Contains(detail, "health-check of MAIN ("+dir+"/check.sh)") || !strings.Contains(detail, "exit status 1") {
		t.Errorf("vrrp detail says\n%s", detail)
	}

	want = append(want, both("fault", "FAULT", 200)...)
	if d := cmp.Diff(want, calls(t, dir, "r1", len(want))); d != "" {
		t.Errorf("r1's scripts of the fault (-want +got):\n%s", d)
	}

	// Without the process that makes the checks all stays as it is. (A script
	// that it is amid would run again.)
	time.Sleep(500 * time.Millisecond)
	before := s.hooks(r1)
	sigkill(t, before)
	well(t, dir, "r1", true)
	s.mark(netlab.Now())
	eventually(t, 10*time.Second, "another hooks process", func() bool { return s.hooks(r1) != before })
	s.become(r1, control.RoleActive, 10*time.Second)
	s.judge("well again")
	want = append(append(want, both("backup", "BACKUP", 200)...), both("active", "MASTER", 200)...)
	if d := cmp.Diff(want, calls(t, dir, "r1", len(want))); d != "" {
		t.Errorf("r1's scripts (-want +got):\n%s", d)
	}
	history := run(t, r1, "takeover", "show", "--socket", socket(s.Pair, r1), "3")
	if strings.Count(history, "takeover of MAIN") != 2 || strings.Count(history, "yield of MAIN") != 1 || !strings.Contains(history, "known then: r2: heard over the sync link") {
		t.Errorf("takeover show 3 says\n%s", history)
	}

	last := s.hooks(r1)
	if err := s.Stop(r1); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	lines := calls(t, dir, "r1", len(want)+4)
	if d := cmp.Diff(append(both("backup", "BACKUP", 200), both("stop", "STOP", 200)...), lines[len(want):]); d != "" {
		t.Errorf("r1's scripts of the stop (-want +got):\n%s", d)
	}
	eventually(t, 5*time.Second, "the hooks process gone", func() bool { return unix.Kill(last, 0) == unix.ESRCH })
}

// Maintenance moves the role without loss of a probe of 10,000 packets per
// second, keeps it away though the peer dies, and ends.
func TestMaintenance(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	r1, r2 := p.Lab.R1, p.Lab.R2
	pr := startProbe(t, p.Lab)
	if err := p.AwaitCopied(t.Context(), r1, 1, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	at := netlab.Now()
	if out := order(t, p, r1, "maintenance", "on"); out.Active != "r2" || len(out.Steps) == 0 {
		t.Errorf("maintenance says %+v", out)
	}
	if _, err := p.AwaitRole(t.Context(), r2, control.RoleActive, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	pr.none(t, "maintenance", at)
	if out := order(t, p, r1, "maintenance", "on"); !out.Already {
		t.Errorf("a second time it says %+v", out)
	}
	st := ask(t, p, r1)
	if st.Maintenance.IsZero() || len(st.Alarms) != 1 || st.Alarms[0].Kind != "maintenance" || !strings.Contains(st.Sets[0].Waiting, "maintenance") {
		t.Errorf("r1 in maintenance says %+v, %+v", st.Alarms, st.Sets)
	}
	refused(t, p, r2, "r1 cannot take over: it is in fault", "switchover")
	sigkill(t, p.Process(r2).Process.Pid)
	time.Sleep(time.Second) // an Active_Down_Interval of r1 is 322 ms
	if st := ask(t, p, r1); st.Sets[0].Role != control.RoleBackup {
		t.Errorf("r1 is %s in maintenance, after r2 died", st.Sets[0].Role)
	}
	order(t, p, r1, "maintenance", "off")
	if _, err := p.AwaitRole(t.Context(), r1, control.RoleActive, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	// Alone it can only release.
	if out := order(t, p, r1, "maintenance", "on"); !strings.Contains(out.Text, "the role is released with priority 0") {
		t.Errorf("maintenance says %+v", out)
	}
	if _, err := p.AwaitRole(t.Context(), r1, control.RoleBackup, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// refused runs tandem on a router, which must end with exit 1 and one sentence.
func refused(t *testing.T, p *drill.Pair, r *netlab.Router, want string, args ...string) {
	t.Helper()
	out, err := r.NS.Output(t.Context(), tandem, append(args, "--socket", socket(p, r))...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(err.Error(), want) {
		t.Errorf("tandem %s on %s: got %q, %v; want exit 1 and %q", strings.Join(args, " "), r.Name, out, err, want)
	}
}

// order runs a changing command and returns what it says it did.
func order(t *testing.T, p *drill.Pair, r *netlab.Router, args ...string) (out control.RoleChange) {
	t.Helper()
	text := run(t, r, append(append([]string{"-j"}, args...), "--socket", socket(p, r))...)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("tandem -j %s: %v: %s", strings.Join(args, " "), err, text)
	}
	t.Logf("%s on %s: %s, %+v", strings.Join(args, " "), r.Name, out.Text, out.Steps)
	return out
}

// tandem switchover, asked on the Active and on the Backup, in both modes of
// commit: nothing is lost of a probe of 10,000 packets per second, and the
// router of higher priority does not take the role back by itself.
func TestSwitchover(t *testing.T) {
	for name, edit := range map[string]func(string, string) string{"continuous": nil, "takeover": commitAtTakeover} {
		t.Run(name, func(t *testing.T) { switchThereAndBack(t, edit) })
	}
}

func switchThereAndBack(t *testing.T, edit func(string, string) string) {
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: edit}, load.Mix{Steady: 10, Idle: 5, Bulk: 4, UDP: 20}, 5000)
	r1, r2 := s.Lab.R1, s.Lab.R2
	pr := startProbe(t, s.Lab)
	time.Sleep(500 * time.Millisecond)

	at := netlab.Now()
	s.mark(at)
	if out := order(t, s.Pair, r1, "switchover"); out.Active != "r2" || out.Already || len(out.Steps) < 4 {
		t.Errorf("the switchover says %+v", out)
	}
	s.become(r2, control.RoleActive, 5*time.Second)
	time.Sleep(time.Second)
	pr.none(t, "r1 gives", at)
	soleHolder(t, s.Lab, r2, 5*time.Second)
	s.judge("r1 gives")

	// Many Active_Down_Intervals later the higher one still waits, and says why.
	st := s.status(r1)
	if set := st.Sets[0]; set.Role != control.RoleBackup || !strings.Contains(set.Waiting, "a switchover gave the role to r2") {
		t.Errorf("r1 after the switchover: %+v", set)
	}
	if text := run(t, r1, "vrrp", "show", "--socket", socket(s.Pair, r1)); !strings.Contains(text, "it waits: a switchover gave the role to r2") {
		t.Errorf("vrrp show does not say why r1 waits:\n%s", text)
	}
	if out := order(t, s.Pair, r1, "switchover", "--to", "r2"); !out.Already {
		t.Errorf("a switchover to the Active says %+v", out)
	}

	if err := s.AwaitReady(t.Context(), r2, 15*time.Second); err != nil {
		t.Fatal(err)
	}
	at = netlab.Now()
	s.mark(at)
	if out := order(t, s.Pair, r1, "switchover", "--to", "r1"); out.Active != "r1" || out.Already {
		t.Errorf("the switchover back says %+v", out)
	}
	time.Sleep(time.Second)
	pr.none(t, "r1 takes", at)
	soleHolder(t, s.Lab, r1, 5*time.Second)
	s.judge("r1 takes")
}

// What is refused, with its sentence and exit 1; nobody changes role by it.
func TestSwitchoverRefused(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	r1, r2 := p.Lab.R1, p.Lab.R2
	is := func(what, role1, role2 string) {
		t.Helper()
		for r, role := range map[*netlab.Router]string{r1: role1, r2: role2} {
			if _, err := p.AwaitRole(t.Context(), r, role, 10*time.Second); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	refused(t, p, r1, `no node is called "r9": known are r1, r2`, "switchover", "--to", "r9", "--force")
	refused(t, p, r1, "use tandem switchover", "takeover")
	refused(t, p, r1, "use tandem switchover", "yield")

	if _, err := r2.LinkDown("eth0"); err != nil {
		t.Fatal(err)
	}
	is("r2 in fault", control.RoleActive, control.RoleInitialize)
	refused(t, p, r1, "r2 cannot take over: it is in fault", "switchover", "--force")
	refused(t, p, r2, "r2 cannot take over: it is in fault", "switchover", "--force")
	if text := run(t, r1, "status", "--socket", socket(p, r1)); !strings.Contains(text, "r2 cannot take over, it is in Initialize") {
		t.Errorf("status of r1 does not warn:\n%s", text)
	}
	if err := r2.LinkUp("eth0"); err != nil {
		t.Fatal(err)
	}
	is("r2 well again", control.RoleActive, control.RoleBackup)

	if err := r2.Mute(netlab.Sync); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "r1 missing its peer", func() bool { return !ask(t, p, r1).Sync.Peers[0].Heard })
	refused(t, p, r1, "no peer is heard over the sync link", "switchover", "--force")
	refused(t, p, r1, "r2 is not heard over the sync link", "switchover", "--to", "r2", "--force")
	eventually(t, 10*time.Second, "r2 missing its peer", func() bool { return !ask(t, p, r2).Sync.Peers[0].Heard })
	refused(t, p, r2, "no Active is heard over the sync link", "switchover", "--force")
	if err := r2.Unmute(netlab.Sync); err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitReady(t.Context(), r1, 15*time.Second); err != nil {
		t.Fatal(err)
	}
	order(t, p, r2, "switchover", "--to", "r2")
	is("switched over after all", control.RoleBackup, control.RoleActive)
}

// A clean stop and the return of the router that was stopped lose nothing of a
// probe of 10,000 packets per second either.
func TestCleanStopLosesNothing(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	r1, r2 := p.Lab.R1, p.Lab.R2
	pr := startProbe(t, p.Lab)
	if err := p.AwaitCopied(t.Context(), r1, 1, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	at := netlab.Now()
	if err := p.Stop(r1); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	if _, err := p.AwaitRole(t.Context(), r2, control.RoleActive, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	pr.none(t, "stop", at)
	at = netlab.Now()
	start(t, p, r1)
	if _, err := p.AwaitRole(t.Context(), r1, control.RoleActive, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	pr.none(t, "return", at)
}

// A peer whose copy is not complete is refused with a sentence on either
// router, and gets the role by --force: what was not copied is lost, the rest
// goes on.
func TestSwitchoverForced(t *testing.T) {
	const flows = 50_000 // at 100 kB/s: more than ten seconds
	p := drill.PrepareForTest(t, netlab.Options{}, drill.PairOptions{Edit: within("[conntrack-sync]", `rate = "100kB/s"`)})
	r1, r2 := p.Lab.R1, p.Lab.R2
	start(t, p, r1)
	if _, err := p.AwaitRole(t.Context(), r1, control.RoleActive, 15*time.Second); err != nil {
		t.Fatal(err)
	}
	crowd := crowdOf(t, p.Lab, load.CrowdConfig{UDPSNAT: flows, Rate: crowdRate})
	if res, err := crowd.Open(t.Context(), 20*time.Second); err != nil || res.Answered != flows {
		t.Fatalf("%v (%v): %v", res, err, res.Missing)
	}
	start(t, p, r2)
	for _, r := range []*netlab.Router{r2, r1} {
		if _, err := p.Await(t.Context(), r, 15*time.Second, "its peer", func(s *control.Status) bool {
			return s.Sync != nil && len(s.Sync.Peers) == 1 && s.Sync.Peers[0].Heard && s.Sync.Peers[0].Role != ""
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.AwaitRole(t.Context(), r2, control.RoleBackup, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	refused(t, p, r1, "r2 does not say that its copy is complete: what is missing would be lost (--force goes ahead)", "switchover")
	refused(t, p, r2, "the copy of r1's flows is not complete here: what is missing would be lost (--force goes ahead)", "switchover")
	if out := order(t, p, r1, "switchover", "--force"); out.Active != "r2" || out.Already {
		t.Errorf("the switchover says %+v", out)
	}
	for r, role := range map[*netlab.Router]string{r1: control.RoleBackup, r2: control.RoleActive} {
		if _, err := p.AwaitRole(t.Context(), r, role, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	soleHolder(t, p.Lab, r2, 5*time.Second)
	res, err := crowd.Exchange(t.Context(), 3*time.Second)
	t.Logf("afterwards %v", res)
	if err != nil || res.Answered == 0 || res.Answered == flows {
		t.Errorf("%v (%v): want answers to some of the flows as they were, and not to all", res, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// externally makes a configuration of the lab one for another election.
func externally(_, text string) string {
	head, rest, _ := strings.Cut(text, "[vrrp.group.LAN]")
	_, rest, _ = strings.Cut(rest, "[conntrack-sync]")
	rest = strings.Replace(rest, `failover-mechanism.vrrp.sync-group = "MAIN"`, fmt.Sprintf("failover-mechanism.external = true\nfailover-mechanism.address = [%q, %q]",
		netlab.LANVIP.Addr(), netlab.WANVIP.Addr()), 1)
	return head + "[conntrack-sync]" + rest
}

const keepalivedConf = `global_defs {
    vrrp_version 3
    script_user root
}
vrrp_instance MAIN {
    state BACKUP
    interface eth0
    virtual_router_id 10
    priority %[1]d
    advert_int 0.1
    virtual_ipaddress {
        %[2]s dev eth0
        %[3]s dev eth1
    }
    track_interface {
        eth1
    }
    notify %[4]s
}
`

// keepalived starts Debian's on a router, with the example script that is
// shipped; it ends with the test.
func keepalived(t *testing.T, p *drill.Pair, r *netlab.Router) *netlab.Process {
	t.Helper()
	script, err := filepath.Abs("../../packaging/keepalived-notify.sh")
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, mode os.FileMode, text string) string {
		path := filepath.Join(p.Dir, r.Name+"-"+name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bin := filepath.Join(p.Dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.Symlink(tandem, filepath.Join(bin, "tandem"))
	notify := file("notify", 0o755, fmt.Sprintf("#!/bin/sh\nPATH=%s:$PATH TANDEM_SOCKET=%s exec %s \"$@\" 2>>%s\n", bin, socket(p, r), script,
		filepath.Join(p.Dir, r.Name+"-notify.log")))
	conf := file("keepalived.conf", 0o644, fmt.Sprintf(keepalivedConf, 100*(3-r.Index), netlab.LANVIP, netlab.WANVIP, notify))
	pid := filepath.Join(p.Dir, r.Name+"-keepalived")
	proc, err := r.NS.Start(nil, "keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file", conf, "--pid", pid+".pid", "--vrrp_pid", pid+"-vrrp.pid")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(p.Dir, r.Name+"-notify.log"))
			t.Logf("keepalived on %s:\n%s\nits script:\n%s", r.Name, proc.Tail(), log)
		}
		_ = proc.Stop(syscall.SIGTERM, 5*time.Second)
	})
	return proc
}

// Debian's keepalived elects, tandem copies: what a site gains that replaces
// conntrackd alone. Nothing breaks when keepalived is stopped, when it comes
// back, and when the router loses power.
func TestKeepalived(t *testing.T) {
	p := drill.PrepareForTest(t, netlab.Options{}, drill.PairOptions{Edit: externally})
	s := &scene{t: t, Pair: p}
	r1, r2 := p.Lab.R1, p.Lab.R2
	start(t, p, r1, r2)
	for _, r := range p.Lab.Routers() { // both know each other before anybody is told to take over
		if _, err := p.Await(t.Context(), r, 10*time.Second, "wait for a peer", func(s *control.Status) bool {
			return s.Sync != nil && len(s.Sync.Peers) == 1 && s.Sync.Peers[0].Complete
		}); err != nil {
			t.Fatal(err)
		}
	}
	ka := keepalived(t, p, r1)
	keepalived(t, p, r2)
	// keepalived's address is there before the fence: what the kernel table lacks
	// then may be answered (docs/limits.md). So all is in it before each change.
	written := func() {
		t.Helper()
		for _, r := range p.Lab.Routers() {
			if _, err := p.Await(t.Context(), r, 10*time.Second, "wait for the commit", func(s *control.Status) bool {
				return s.Sync != nil && len(s.Sync.Peers) == 1 && s.Sync.Peers[0].Uncommitted == 0
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	ready := func(active *netlab.Router) {
		t.Helper()
		if err := p.AwaitReady(t.Context(), active, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		written()
		time.Sleep(1600 * time.Millisecond) // what judge takes for progress came after the change, not before
	}
	ready(r1)
	mix := load.Mix{Steady: 20, Idle: 10, Bulk: 6, UDP: 40}
	s.watch()
	s.connect(mix)
	if err := p.AwaitCopied(t.Context(), r1, mix.Steady+mix.Idle+mix.Bulk+mix.UDP, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	written()
	refused(t, p, r1, "another program elects here", "switchover")
	if out := order(t, p, r1, "takeover"); !out.Already {
		t.Errorf("a second takeover of the Active says %+v", out)
	}
	refused(t, p, r2, "none of the addresses", "takeover")
	if out := order(t, p, r2, "yield"); !out.Already {
		t.Errorf("a yield of the Backup says %+v", out)
	}

	s.mark(netlab.Now())
	if err := ka.Stop(syscall.SIGTERM, 5*time.Second); err != nil {
		t.Logf("keepalived ended: %v", err)
	}
	ready(r2)
	s.judge("keepalived stopped")

	s.mark(netlab.Now())
	keepalived(t, p, r1)
	ready(r1)
	s.judge("keepalived is back")
	if st := s.status(r1); st.Sets[0].Reason != "keepalived: MAIN is MASTER" || len(st.Groups) != 0 {
		t.Errorf("status of r1: %+v, %+v", st.Sets, st.Groups)
	}

	// tandem alone is restarted where the addresses are: nobody tells it again.
	s.mark(netlab.Now())
	if err := p.Stop(r1); err != nil {
		t.Errorf("stop tandem: %v", err)
	}
	start(t, p, r1)
	ready(r1)
	if st := s.status(r1); st.Sets[0].Reason != "the addresses were here when tandem started" {
		t.Errorf("r1 is Active because %q", st.Sets[0].Reason)
	}
	if err := p.AwaitCopied(t.Context(), r1, mix.Steady+mix.Idle+mix.Bulk+mix.UDP, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	s.judge("tandem restarted")
	st := s.status(r1)
	t.Logf("r1 after the restart of tandem: commits %+v, fence %+v, %d packets INVALID", st.Sync.Commits, st.Fence, invalid(t, r1))
	if st.Sync.Commits.Replaced != 0 || s.happened(r1, "another router was Active") {
		t.Errorf("r1 wrote over entries that it forwards: %+v", st.Sync.Commits)
	}

	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	st = s.become(r2, control.RoleActive, 5*time.Second)
	t.Logf("the last takeover of r2: %+v", st.Last)
	s.judge("power cut")
}

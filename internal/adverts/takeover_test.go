// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/loader"
	"github.com/tandem-ha/tandem/vrrp"
)

// slack is what a takeover may need beyond Active_Down_Interval and what the
// machine stood still. The lab runs on two cores that other tests share.
const slack = 15 * ms

// cut takes the router's cables out: its ports in the switch go dark, its own
// interfaces lose carrier.
func (l *lab) cut(r string) {
	for _, seg := range []string{"lan", "wan"} {
		run(l.t, "ip", "-n", l.sw, "link", "set", r+seg, "nomaster")
	}
}

// The Active falls silent without a word and without a change of carrier: the
// Backup takes over one Active_Down_Interval after the last advert.
func TestTakeoverTime(t *testing.T) {
	for _, interval := range []time.Duration{10 * ms, 100 * ms} {
		for _, ring := range []bool{false, true} {
			t.Run(interval.String()+"/ring "+strconv.FormatBool(ring), func(t *testing.T) {
				calmly(t, slack, func() string { return takeoverTime(t, interval, ring) })
			})
		}
	}
}

func takeoverTime(t *testing.T, interval time.Duration, ring bool) (wrong string) {
	l := newLab(t)
	a := l.start(1, Config{Groups: groups(200, interval)})
	await[AddressesIn](a, "AddressesIn", nil)
	cfg := Config{Groups: groups(100, interval)}
	if ring {
		cfg.Ring = l.ring(2)
	}
	b := l.start(2, cfg)
	defer a.stop()
	defer b.stop()
	if r := await[Ready](b, "Ready", nil); r.RealTime != "" || r.Ring != ring {
		t.Errorf("Ready: %+v", r)
	}
	time.Sleep(5*interval + 200*ms)
	before := monotonic()
	l.cut("r1")
	e := await(b, "Promoting", promoted)
	// Priority 100: 3 intervals and 156/256 of one. The set waits for the
	// member that heard the last advert, and Silence counts from there.
	limit := 3*interval + interval*156/256
	switch n := b.Status().RingMissed; {
	case e.At < before:
		return "took over while the Active spoke"
	case e.Cause != vrrp.CauseTimeout || e.Silence < limit || e.Silence > limit+slack:
		return fmt.Sprintf("took over after %v (%v), want %v at most %v later", e.Silence, e.Cause, limit, slack)
	case n != 0:
		return fmt.Sprintf("the ring missed %d adverts", n)
	}
	t.Logf("interval %v: took over after %v, %v above Active_Down_Interval", interval, e.Silence, e.Silence-limit)
	return ""
}

// ring opens the TC ingress program on router r's interfaces.
func (l *lab) ring(r int) *os.File {
	l.t.Helper()
	var f *os.File
	in(l.t, l.r[r], func() {
		a, err := loader.OpenAdverts(loader.AdvertOptions{Interfaces: []string{"eth0", "eth1"}, Log: slog.Default()})
		if err != nil {
			l.t.Error(err)
			return
		}
		l.t.Cleanup(func() { a.Close() })
		if f, err = a.Ring(); err != nil {
			l.t.Error(err)
			return
		}
		l.t.Cleanup(func() { f.Close() })
	})
	return f
}

func TestInterfaceDownTakesTheWholeSet(t *testing.T) {
	l, a, b := pair(t, 100*ms)
	none[Promoting](b, 300*ms)
	machine := beside(t)
	run(t, "ip", "-n", l.r[1], "link", "set", "eth1", "down")
	down := monotonic()
	e := await[Demoting](a, "Demoting", nil)
	if e.Cause != vrrp.CauseInterfaceDown {
		t.Errorf("demoted: %+v", e)
	}
	if d := time.Duration(e.At - down); d > 100*ms+machine.stood() { // not with the next advert
		t.Errorf("the set went after %v", d)
	} else {
		t.Logf("demoted %v after the command's end", d)
	}
	await[AddressesOut](a, "AddressesOut", nil)
	a.wantAddress("eth0", "10.1.0.100", false)
	await(b, "Promoting", promoted)
	g := a.Status().Groups
	if g[0].Counters.SentPriZeroPackets != 1 || g[1].Counters.SentPriZeroPackets != 0 {
		t.Errorf("priority 0 sent: LAN %d, WAN %d; want 1, 0", g[0].Counters.SentPriZeroPackets, g[1].Counters.SentPriZeroPackets)
	}
	if g[1].Reason != "interface eth1 is down" || g[0].State != vrrp.Initialize {
		t.Errorf("status: %+v", g)
	}
	// It recovers by itself, and being higher it takes the role back.
	run(t, "ip", "-n", l.r[1], "link", "set", "eth1", "up")
	await(a, "Promoting", promoted)
	if e := await[Demoting](b, "Demoting", nil); e.Cause != vrrp.CauseHigherPriority {
		t.Errorf("demoted: %+v", e)
	}
	eventually(t, 5*time.Second, "addresses out at the Backup", func() bool { return !b.has("eth1", "10.2.0.100") })
}

func TestLateInterface(t *testing.T) {
	l := newLab(t)
	run(t, "ip", "-n", l.r[1], "link", "del", "eth1")
	a := l.start(1, Config{Groups: groups(200, 50*ms)})
	await[Ready](a, "Ready", nil)
	none[Promoting](a, 300*ms)
	if r := a.Status().Groups[1].Reason; r != "interface eth1 does not exist" {
		t.Errorf("reason %q", r)
	}
	run(t, "ip", "-n", l.sw, "link", "add", "r1wan", "type", "veth", "peer", "name", "eth1", "netns", l.r[1])
	run(t, "ip", "-n", l.sw, "link", "set", "r1wan", "master", "wan", "up")
	run(t, "ip", "-n", l.r[1], "link", "set", "eth1", "up")
	eventually(t, 5*time.Second, "reason: no address", func() bool {
		return a.Status().Groups[1].Reason == "interface eth1 has no IPv4 address of its own"
	})
	run(t, "ip", "-n", l.r[1], "addr", "add", "10.2.0.1/24", "dev", "eth1")
	await[AddressesIn](a, "AddressesIn", nil)
	a.wantAddress("eth1", "10.2.0.100", true)
	// The membership of the new interface is held.
	if out := run(t, "ip", "-n", l.r[1], "maddr", "show", "dev", "eth1"); !strings.Contains(out, "224.0.0.18") {
		t.Errorf("not joined:\n%s", out)
	}
	b := l.start(2, Config{Groups: groups(100, 50*ms)})
	none[Promoting](b, 500*ms)
}

// kill -9 of the daemon: the child says priority 0, takes the addresses out,
// and ends.
func TestDaemonKilled(t *testing.T) {
	l := newLab(t)
	b := l.start(2, Config{Groups: groups(100, 100*ms)})
	await[AddressesIn](b, "AddressesIn", nil)
	d, child := l.daemon(1, Config{Groups: groups(200, 100*ms), SyncGroups: both})
	await[Demoting](b, "Demoting", nil)
	eventually(t, 5*time.Second, "addresses in", func() bool { return strings.Contains(run(t, "ip", "-n", l.r[1], "addr"), "10.1.0.100/") })
	time.Sleep(200 * ms)
	d.Process.Kill()
	d.Wait()
	if e := await(b, "Promoting", promoted); e.Cause != vrrp.CausePriorityZero {
		t.Errorf("promotion: %+v", e)
	}
	eventually(t, 5*time.Second, "child's end", func() bool { return ended(child) })
	if left := run(t, "ip", "-n", l.r[1], "addr"); strings.Contains(left, ".100/") { // what it leaves stays for two seconds at least
		t.Errorf("the child left:\n%s", left)
	}
}

// ended says whether a process is gone, or only waits to be reaped: an orphan
// does so for as long as the host's init takes.
func ended(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err != nil || strings.HasPrefix(state, "Z")
}

// daemon starts a killable daemon on router r; pid is its child's.
func (l *lab) daemon(r int, cfg Config) (cmd *exec.Cmd, child int) {
	l.t.Helper()
	raw, err := json.Marshal(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	in(l.t, l.r[r], func() {
		cmd = exec.Command("/proc/self/exe", "daemon", string(raw))
		cmd.Stderr = os.Stderr
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			l.t.Error(err)
			return
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		child, _ = strconv.Atoi(strings.TrimSpace(line))
	})
	l.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if child == 0 {
		l.t.Fatal("the daemon said no child's pid")
	}
	return cmd, child
}

// kill -9 of the child: nobody refreshes the addresses, the kernel removes
// them; the daemon is told; a new child cleans before it speaks.
func TestChildKilled(t *testing.T) {
	l, a, b := pair(t, 100*ms)
	none[Promoting](b, 300*ms)
	at := time.Now()
	syscall.Kill(a.PID(), syscall.SIGKILL)
	if e := await[Exited](a, "Exited", nil); e.Err == nil || !strings.Contains(e.Err.Error(), "killed") {
		t.Errorf("exited: %v", e.Err)
	}
	if e := await(b, "Promoting", promoted); e.Cause != vrrp.CauseTimeout {
		t.Errorf("promotion: %+v", e)
	}
	a.wantAddress("eth0", "10.1.0.100", true)
	eventually(t, 6*time.Second, "addresses vanish", func() bool { return !a.has("eth0", "10.1.0.100") && !a.has("eth1", "10.2.0.100") })
	t.Logf("the addresses vanished after %v", time.Since(at))
	// Restarted at once, the child removes what is left.
	syscall.Kill(b.PID(), syscall.SIGKILL)
	await[Exited](b, "Exited", nil)
	b.wantAddress("eth0", "10.1.0.100", true)
	c := l.start(2, Config{Groups: groups(100, 10*time.Second)})
	await[Ready](c, "Ready", nil)
	c.wantAddress("eth0", "10.1.0.100", false)
}

// Without a fence there is no takeover, and the next try waits.
func TestGateTimeout(t *testing.T) {
	l := newLab(t)
	machine := beside(t)
	a := l.start(1, Config{Groups: groups(200, 20*ms)})
	a.silent.Store(true)
	p := await(a, "Promoting", promoted)
	d := await[Demoting](a, "Demoting", nil)
	if d.Cause != vrrp.CauseRefused || d.Term != p.Term {
		t.Errorf("demoted: %+v, term %d", d, p.Term)
	}
	if wait := time.Duration(d.At - p.At); wait < DefaultGateTimeout || wait > DefaultGateTimeout+slack+machine.stood() {
		t.Errorf("waited %v for the fence", wait)
	}
	if o := await[AddressesOut](a, "AddressesOut", nil); o.Term != p.Term {
		t.Errorf("out: %+v", o)
	}
	a.wantAddress("eth0", "10.1.0.100", false)
	a.Fenced("MAIN", p.Term) // too late
	none[AddressesIn](a, 300*ms)
	a.silent.Store(false)
	if n := await(a, "Promoting", promoted); n.Term == p.Term || time.Duration(n.At-d.At) < 900*ms {
		t.Errorf("next try: %+v, %v later", n, time.Duration(n.At-d.At))
	}
	await[AddressesIn](a, "AddressesIn", nil)
}

func TestReleaseGate(t *testing.T) {
	_, a, b := pair(t, 100*ms)
	none[Promoting](b, 300*ms)
	a.slow.Store(true)
	for try := 1; ; try++ {
		a.HandOver("MAIN")
		d := await[Demoting](a, "Demoting", nil)
		in := a.has("eth0", "10.1.0.100") // until released
		looked := monotonic() < d.At+int64(DefaultReleaseTimeout)
		o := await[AddressesOut](a, "AddressesOut", nil)
		wait := time.Duration(o.At - d.At)
		if wait < DefaultReleaseTimeout || looked && !in {
			t.Fatalf("addresses out %v after Demoting, at a look in time %v: in %v", wait, looked, in)
		}
		if looked && wait <= DefaultReleaseTimeout+2*slack {
			return
		}
		if try == 10 { // others hold the kernel's lock now and then, not each time
			t.Fatalf("addresses out %v after Demoting", wait)
		}
		await[AddressesIn](a, "AddressesIn", nil) // nobody was told to take the role
	}
}

func TestHandOver(t *testing.T) {
	_, a, b := pair(t, 100*ms)
	none[Promoting](b, 300*ms)
	a.AllowPreempt(false)
	at := monotonic()
	a.HandOver("MAIN")
	if d := await[Demoting](a, "Demoting", nil); d.Cause != vrrp.CauseHandedOver {
		t.Errorf("demoted: %+v", d)
	}
	b.TakeOver("MAIN", 0)
	p := await(b, "Promoting", promoted)
	if p.Cause != vrrp.CauseHandedOver {
		t.Errorf("promoted: %+v", p)
	}
	t.Logf("handed over within %v", time.Duration(p.At-at))
	await[AddressesIn](b, "AddressesIn", nil)
	if g := a.Status().Groups[0]; g.Counters.SentPriZeroPackets != 0 {
		t.Error("a hand-over sent priority 0")
	}
	// The former Active is higher and must not come back without permission.
	await(a, "WouldPreempt", func(e WouldPreempt) bool { return e.On })
	none[Promoting](a, time.Second)
	a.AllowPreempt(true)
	await(a, "Promoting", promoted)
	// What the state does not allow is refused.
	a.TakeOver("MAIN", 0)
	if e := await[Refused](a, "Refused", nil); e.What != "take-over" {
		t.Errorf("refused: %+v", e)
	}
	await(b, "Demoting", func(e Demoting) bool { return e.Cause == vrrp.CauseHigherPriority })
	b.HandOver("MAIN")
	if e := await[Refused](b, "Refused", nil); e.What != "hand-over" {
		t.Errorf("refused: %+v", e)
	}
}

// Addresses of a hand-over go in without an answer for as long as the fence
// stands already; of one whose fence is down they wait for it.
func TestTakeOverBehindAFence(t *testing.T) {
	_, a, b := pair(t, 100*ms)
	none[Promoting](b, 300*ms)
	a.AllowPreempt(false)
	b.silent.Store(true)
	for _, stands := range []bool{true, false} {
		fenced := monotonic()
		if stands {
			fenced += int64(time.Second)
		}
		a.HandOver("MAIN")
		await[Demoting](a, "Demoting", nil)
		b.TakeOver("MAIN", fenced)
		p := await(b, "Promoting", promoted)
		if !stands {
			await(b, "Demoting", func(e Demoting) bool { return e.Cause == vrrp.CauseRefused })
			b.wantAddress("eth0", "10.1.0.100", false)
			continue
		}
		await(b, "AddressesIn", func(e AddressesIn) bool { return e.Term == p.Term })
		b.Fenced("MAIN", p.Term) // the daemon's word, which comes late, changes nothing
		none[AddressesIn](b, 100*ms)
		b.wantAddress("eth0", "10.1.0.100", true)
		a.AllowPreempt(true)
		await[AddressesIn](a, "AddressesIn", nil)
		await[AddressesOut](b, "AddressesOut", nil)
		a.AllowPreempt(false)
	}
}

// A hand-over that nobody takes: the Active takes the role back.
func TestHandOverFallback(t *testing.T) {
	l := newLab(t)
	a := l.start(1, Config{Groups: groups(200, 50*ms)})
	await[AddressesIn](a, "AddressesIn", nil)
	a.HandOver("MAIN")
	d := await[Demoting](a, "Demoting", nil)
	p := await(a, "Promoting", promoted)
	if wait := time.Duration(p.At - d.At); wait < 150*ms || p.Term != d.Term+1 {
		t.Errorf("came back after %v: %+v", wait, p)
	}
	await(a, "AddressesIn", func(e AddressesIn) bool { return e.Term == p.Term })
}

func TestGatePreempt(t *testing.T) {
	l := newLab(t)
	b := l.start(2, Config{Groups: groups(100, 50*ms)})
	await[AddressesIn](b, "AddressesIn", nil)
	a := l.start(1, Config{Groups: groups(200, 50*ms), GatePreempt: true})
	await(a, "WouldPreempt", func(e WouldPreempt) bool { return e.On })
	none[Promoting](a, 500*ms)
	if g := a.Status().Groups[0]; !g.WouldPreempt || g.ActivePriority != 100 {
		t.Errorf("status: %+v", g)
	}
	a.AllowPreempt(true)
	await[AddressesIn](a, "AddressesIn", nil)
	await[AddressesOut](b, "AddressesOut", nil)
}

// Frozen for many intervals: the Backup takes over once, the former Active
// listens before it speaks, and steps back.
func TestFrozenActive(t *testing.T) {
	l := newLab(t)
	a := l.start(1, Config{Groups: groups(200, 50*ms), GatePreempt: true})
	await[AddressesIn](a, "AddressesIn", nil)
	b := l.start(2, Config{Groups: groups(100, 50*ms), GatePreempt: true})
	none[Promoting](b, 300*ms)
	syscall.Kill(a.PID(), syscall.SIGSTOP)
	await[AddressesIn](b, "AddressesIn", nil)
	time.Sleep(300 * ms)
	syscall.Kill(a.PID(), syscall.SIGCONT)
	if d := await[Demoting](a, "Demoting", nil); d.Cause != vrrp.CauseOverslept {
		t.Errorf("demoted: %+v", d)
	}
	none[Demoting](b, 300*ms)
	if n := b.Status().Groups[0].Counters.Conflicts; n != 0 {
		t.Errorf("the resumed Active spoke %d times", n)
	}
}

// Frozen until its addresses ran out, it has announcements due and addresses to put
// back when it wakes: it does neither before it has listened.
func TestFrozenUntilAddressesEnd(t *testing.T) {
	l := newLab(t)
	cfg := func(priority uint8) Config {
		g := groups(priority, 10*ms)
		for i := range g {
			g[i].GARP.Refresh = time.Second
		}
		return Config{Groups: g, GatePreempt: true}
	}
	heard, mac := l.ear("r1lan", 10), l.mac(1, "eth0")
	a := l.start(1, cfg(200))
	await[AddressesIn](a, "AddressesIn", nil)
	b := l.start(2, cfg(100))
	none[Promoting](b, 300*ms)
	for range 3 {
		syscall.Kill(a.PID(), syscall.SIGSTOP)
		await[AddressesIn](b, "AddressesIn", nil)
		eventually(t, 6*time.Second, "end of the lifetime", func() bool { return !a.has("eth0", "10.1.0.100") })
		heard.announced(mac)
		syscall.Kill(a.PID(), syscall.SIGCONT)
		if d := await[Demoting](a, "Demoting", nil); d.Cause != vrrp.CauseOverslept {
			t.Errorf("demoted: %+v", d)
		}
		none[Alarm](a, 300*ms)
		if n := len(heard.announced(mac)); n > 0 {
			t.Errorf("%d announcements after it woke", n)
		}
		if a.has("eth0", "10.1.0.100") {
			t.Error("the address is back")
		}
		b.HandOver("MAIN")
		await[Demoting](b, "Demoting", nil)
		a.TakeOver("MAIN", 0)
		await[AddressesIn](a, "AddressesIn", nil)
		await[AddressesOut](b, "AddressesOut", nil)
	}
}

// A Backup frozen for six intervals takes nothing over.
func TestFrozenBackup(t *testing.T) {
	l := newLab(t)
	a := l.start(1, Config{Groups: groups(200, 50*ms)})
	await[AddressesIn](a, "AddressesIn", nil)
	b := l.start(2, Config{Groups: groups(100, 50*ms)})
	none[Promoting](b, 300*ms)
	for range 3 {
		syscall.Kill(b.PID(), syscall.SIGSTOP)
		time.Sleep(300 * ms)
		syscall.Kill(b.PID(), syscall.SIGCONT)
		none[Promoting](b, 200*ms)
	}
}

// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// own lists the namespaces of one lab that exist.
func own(l *Lab) []string {
	return slices.DeleteFunc(Names(), func(n string) bool { return !isRole(n, l.Prefix) })
}

func TestBuildAndClose(t *testing.T) {
	l := ForTest(t, Options{DMZ: true})
	if got := own(l); len(got) != 6 {
		t.Errorf("namespaces %v", got)
	}
	for _, r := range l.Routers() {
		for key, want := range map[string]string{
			"net/netfilter/nf_conntrack_tcp_loose":      "1",
			"net/netfilter/nf_conntrack_tcp_be_liberal": "0",
			"net/ipv4/ip_forward":                       "1",
			"net/ipv4/conf/eth0/rp_filter":              "0",
		} {
			if v, err := r.NS.ReadSysctl(key); err != nil || v != want {
				t.Errorf("%s: %s is %q, want %q (%v)", r.Name, key, v, want, err)
			}
		}
	}
	p, err := l.R1.NS.Start(nil, "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if left := own(l); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A third router is one more of the same, whose power costs nobody the carrier.
func TestThirdRouter(t *testing.T) {
	l := ForTest(t, Options{Third: true})
	if got := own(l); len(got) != 6 || len(l.Routers()) != 3 {
		t.Fatalf("namespaces %v", got)
	}
	for i, want := range []string{"10.0.0.4/24", "203.0.113.4/24", "192.168.255.3/29"} {
		if got := l.R3.Addr(i).String(); got != want {
			t.Errorf("eth%d of r3 has %s, want %s", i, got, want)
		}
	}
	for range 2 {
		if _, err := l.R3.PowerOff(); err != nil {
			t.Fatal(err)
		}
		if err := l.R1.NS.awaitUp("eth2"); err != nil {
			t.Error(err)
		}
		if err := l.R3.PowerOn(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.R3.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	if !reachable(t, l, true) {
		t.Error("nothing passes r3")
	}
	if _, err := l.Relay(1); err == nil {
		t.Error("a relay was put between three routers")
	}
}

// reachable says whether the server answers the client, now or, when it should,
// within 15 s: a link that came up is used when the kernel has noticed.
func reachable(t *testing.T, l *Lab, want bool) bool {
	t.Helper()
	ln := listen(t, l.Server, ServerAddr.Addr())
	defer unix.Close(ln)
	for end := time.Now().Add(15 * time.Second); ; {
		got := knock(l.Client, ServerAddr.Addr())
		if got || !want || time.Now().After(end) {
			return got
		}
	}
}

func listen(t *testing.T, n *Namespace, ip netip.Addr) (fd int) {
	t.Helper()
	err := n.Run(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 4000, Addr: ip.As4()}); err != nil {
			return err
		}
		return unix.Listen(fd, 8)
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// knock tries to connect for half a second.
func knock(n *Namespace, ip netip.Addr) (ok bool) {
	_ = n.Run(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		tv := unix.NsecToTimeval(5e8)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
			return err
		}
		ok = unix.Connect(fd, &unix.SockaddrInet4{Port: 4000, Addr: ip.As4()}) == nil
		return nil
	})
	return ok
}

func TestFaults(t *testing.T) {
	l := ForTest(t, Options{})
	if reachable(t, l, false) {
		t.Fatal("reachable though no router has the virtual address")
	}
	if err := l.R1.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		do   func() error
		want bool
	}{
		{"as built", func() error { return nil }, true},
		{"eth1 down", func() error { _, err := l.R1.LinkDown("eth1"); return err }, false},
		{"eth1 up", func() error { return l.R1.LinkUp("eth1") }, true},
		{"LAN unplugged", func() error { _, err := l.R1.Unplug(LAN); return err }, false},
		{"LAN plugged", func() error { return l.R1.Plug(LAN) }, true},
		{"WAN muted", func() error { return l.R1.Mute(WAN) }, false},
		{"WAN unmuted", func() error { return l.R1.Unmute(WAN) }, true},
		{"power off", func() error { _, err := l.R1.PowerOff(); return err }, false},
		{"power on, addresses in", func() error { return errors.Join(l.R1.PowerOn(), l.R1.HoldVIPs()) }, true},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if got := reachable(t, l, s.want); got != s.want {
			t.Fatalf("%s: reachable %t, want %t", s.name, got, s.want)
		}
	}
}

// A power cut halts every process, power on kills it, and the peer's sync link
// loses its carrier but keeps its interface.
func TestPowerOff(t *testing.T) {
	l := ForTest(t, Options{})
	p, err := l.R1.NS.Start(nil, "sh", "-c", "sleep 60 & sleep 61")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	before := Now()
	at, err := l.R1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	if at < before || at > Now() {
		t.Errorf("instant %d is not within the call", at)
	}
	pids := l.R1.NS.PIDs()
	if len(pids) != 3 {
		t.Errorf("processes %v, want the shell and its children", pids)
	}
	for _, pid := range pids {
		if s := state(pid); s != "T" {
			t.Errorf("process %d is in state %s, want T: stopped", pid, s)
		}
	}
	if _, err := l.R1.PowerOff(); err == nil {
		t.Error("switched off twice")
	}
	if c := carrier(t, l.R2, "eth2"); c != "0" {
		t.Errorf("carrier of the peer's eth2 is %q", c)
	}
	mac := l.R1.MAC(0).String()
	if err := l.R1.PowerOn(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Error("its process lives after power on")
	}
	for _, pid := range pids {
		if s := state(pid); s != "" && s != "Z" { // whose child it is, reads its end when it likes
			t.Errorf("process %d is in state %s after power on", pid, s)
		}
	}
	if c := carrier(t, l.R2, "eth2"); c != "1" {
		t.Errorf("carrier of the peer's eth2 is %q after power on", c)
	}
	link, err := l.R1.NS.Netlink().LinkByName("eth0")
	if err != nil || link.Attrs().HardwareAddr.String() != mac {
		t.Errorf("eth0 came back as %v, want %s (%v)", link, mac, err)
	}
}

// state is a process's, one letter of proc_pid_stat(5); "" when there is none.
func state(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(b), ") ")
	return after[:min(1, len(after))]
}

// What a power cut has halted is stopped at once, without complaint.
func TestStopWithoutPower(t *testing.T) {
	l := ForTest(t, Options{})
	p, err := l.R1.NS.Start(nil, "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.R1.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(unix.SIGTERM, time.Minute); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// Both are off, one returns: its sync link has no carrier until the other does.
func TestBothOff(t *testing.T) {
	l := ForTest(t, Options{})
	for _, r := range l.Routers() {
		if _, err := r.PowerOff(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.R2.PowerOn(); err != nil {
		t.Fatal(err)
	}
	if c := carrier(t, l.R2, "eth2"); c != "0" {
		t.Errorf("carrier %q though the other is off", c)
	}
	if err := l.R1.PowerOn(); err != nil {
		t.Fatal(err)
	}
	for _, r := range l.Routers() {
		if c := carrier(t, r, "eth2"); c != "1" {
			t.Errorf("carrier of %s is %q though both are on", r.Name, c)
		}
	}
}

func carrier(t *testing.T, r *Router, iface string) string {
	t.Helper()
	link, err := r.NS.Netlink().LinkByName(iface)
	if err != nil {
		t.Fatal(err)
	}
	if link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 {
		return "1"
	}
	return "0"
}

func TestWireAndWhoHas(t *testing.T) {
	l := ForTest(t, Options{})
	if err := l.R1.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	w, err := l.Wire()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	// Nobody listens: the server resets, the router hands it on.
	if knock(l.Client, ServerAddr.Addr()) {
		t.Fatal("connected")
	}
	// Nobody routes there: the router says so.
	knock(l.Client, netip.MustParseAddr("198.51.100.7"))
	var s WireStats
	eventually(func() bool {
		s = w.Stats()
		return s.RST >= 2 && s.ICMPErrors > 0
	})
	if s.RST != 2 || s.ByPort["wan.server"] != 1 || s.ICMPErrors == 0 || s.ByPort["lan.r1"] != 1+s.ICMPErrors {
		t.Errorf("wire: %+v", s)
	}
	if s.FromRouters() != s.ByPort["lan.r1"] || s.ByMAC[l.R1.MAC(0).String()] != s.ByPort["lan.r1"] {
		t.Errorf("attribution: %+v", s)
	}
	var got []net.HardwareAddr
	ask := func(answers int) {
		eventually(func() bool {
			got, err = l.WhoHas(LAN, LANVIP.Addr(), 100*time.Millisecond)
			return err != nil || len(got) == answers
		})
	}
	if ask(1); err != nil || len(got) != 1 || got[0].String() != l.R1.MAC(0).String() {
		t.Errorf("who has the virtual address: %v, %v", got, err)
	}
	if err := l.R2.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	if ask(2); err != nil || len(got) != 2 {
		t.Errorf("two have the virtual address, %v answered (%v)", got, err)
	}
}

// eventually asks until it is so, for 5 s.
func eventually(so func() bool) {
	for end := time.Now().Add(5 * time.Second); !so() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

// TestMain lets the test binary be a lab that gets killed.
func TestMain(m *testing.M) {
	if os.Getenv("NETLAB_VICTIM") == "" {
		os.Exit(m.Run())
	}
	closeOnSignal()
	l, err := New(Options{})
	if err != nil {
		panic(err)
	}
	if _, err := l.R1.NS.Start(nil, "sleep", "60"); err != nil {
		panic(err)
	}
	os.Stdout.WriteString(l.Prefix + "\n")
	time.Sleep(time.Minute)
}

// victim starts a process with a lab and returns it and the lab's prefix.
func victim(t *testing.T) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NETLAB_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

func exists(prefix string) bool {
	return slices.ContainsFunc(Names(), func(n string) bool { return isRole(n, prefix) })
}

func TestCtrlCRemovesAll(t *testing.T) {
	cmd, prefix := victim(t)
	if !exists(prefix) {
		t.Fatal("no lab")
	}
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Errorf("it ended with %v", err)
	}
	if exists(prefix) {
		t.Errorf("left behind: %v", Names())
	}
}

func TestKilledRunIsSwept(t *testing.T) {
	cmd, prefix := victim(t)
	if _, err := Sweep(); err != nil || !exists(prefix) {
		t.Fatalf("swept a lab whose process lives (%v)", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !exists(prefix) {
		t.Fatal("nothing was left: the test does not test")
	}
	n, err := openNamespace(prefix + "-r1")
	if err != nil {
		t.Fatal(err)
	}
	// PDEATHSIG: what it had started died with it.
	if eventually(func() bool { return len(n.PIDs()) == 0 }); len(n.PIDs()) != 0 {
		t.Fatalf("processes %v outlived it", n.PIDs())
	}
	if _, err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if exists(prefix) {
		t.Errorf("left behind: %v", Names())
	}
}

// A process lives on when the thread that asked for it ends: a goroutine that
// stays locked takes its thread with it, and PDEATHSIG is of the thread.
func TestProcessOutlivesThread(t *testing.T) {
	l := ForTest(t, Options{})
	started := make(chan *Process)
	go func() {
		runtime.LockOSThread()
		p, err := l.Client.Start(nil, "sleep", "60")
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	p := <-started
	select {
	case <-p.Done():
		t.Errorf("it ended with the thread: %v", p.Err())
	case <-time.After(300 * time.Millisecond):
	}
}

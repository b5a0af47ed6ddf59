// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
)

// lab is a cable between two routers, each with eth0:
//
//	r1 (tandem)  10.0.0.1, fe80::1, 2001:db8::1 -- 10.0.0.2, fe80::2, 2001:db8::2  r2 (the other)
//
// What is on the cable is captured at r2's end.
type lab struct {
	t      *testing.T
	r1, r2 string
	dir    string
	pcap   string
	dump   *process
}

var labs atomic.Int64

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir()}
	prefix := fmt.Sprintf("iop%d-%d-", os.Getpid(), labs.Add(1))
	l.r1, l.r2 = l.namespace(prefix+"r1"), l.namespace(prefix+"r2")
	run(t, "ip", "-n", l.r1, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", l.r2)
	for i, ns := range []string{l.r1, l.r2} {
		run(t, "ip", "-n", ns, "link", "set", "eth0", "addrgenmode", "none", "up")
		for _, a := range []string{"10.0.0.%d/24", "fe80::%d/64", "2001:db8::%d/64"} {
			run(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf(a, i+1), "dev", "eth0")
		}
	}
	l.pcap = filepath.Join(l.dir, "cable.pcap")
	l.dump = l.start(l.r2, "tcpdump", "-i", "eth0", "-U", "-Z", "root", "-w", l.pcap, "proto 112")
	eventually(t, late, "the capture", func() bool { return strings.Contains(l.dump.out(), "listening on") })
	return l
}

func (l *lab) namespace(name string) string {
	run(l.t, "ip", "netns", "add", name)
	l.t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	run(l.t, "ip", "-n", name, "link", "set", "lo", "up")
	// Addresses are there at once, without duplicate address detection.
	run(l.t, "ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
	return name
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// file writes a file of the test.
func (l *lab) file(name, format string, args ...any) string {
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// process is a program in a namespace; it ends with the test.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

var logs atomic.Int64

func (l *lab) start(ns string, args ...string) *process {
	l.t.Helper()
	p := &process{log: filepath.Join(l.dir, fmt.Sprintf("%d-%s.log", logs.Add(1), filepath.Base(args[0]))), done: make(chan struct{})}
	f, err := os.Create(p.log)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	if args[0] != tandem { // whose adverts do not wait for processors
		args = append([]string{"nice", "-n", "-20"}, args...)
	}
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	l.t.Cleanup(func() {
		p.stop()
		if l.t.Failed() {
			l.t.Logf("%s:\n%s", strings.Join(args, " "), p.out())
		}
	})
	return p
}

func (p *process) out() string {
	text, _ := os.ReadFile(p.log)
	if len(text) > 6000 {
		text = append([]byte("...\n"), text[bytes.IndexByte(text[len(text)-6000:], '\n')+len(text)-6000+1:]...)
	}
	return string(text)
}

// stop asks the program to end, as a service manager does; ip netns exec, and
// nice, have become the program itself.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(late):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// poll is gentle: a dozen labs ask at the same time.
const poll = 80 * time.Millisecond

func eventually(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(poll) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// never fails when something is so within a time.
func never(t *testing.T, during time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(poll) {
		if so() {
			t.Fatal(what)
		}
	}
}

// node is tandem on a router.
type node struct {
	*process
	l      *lab
	client *control.Client
}

// run starts tandem with one group; lines are its keys beside interface, vrid
// and priority.
func (l *lab) run(ns string, priority int, lines string) *node {
	l.t.Helper()
	name := ns[len(ns)-2:]
	sock := filepath.Join(l.dir, name+".sock")
	conf := l.file(name+".toml", "[node]\nname = %q\n[control]\nsocket = %q\n[vrrp.group.G]\ninterface = \"eth0\"\nvrid = 10\npriority = %d\n%s", name, sock, priority, lines)
	n := &node{l: l, client: control.NewClient(sock)}
	n.process = l.start(ns, tandem, "run", "--config", conf)
	l.t.Cleanup(func() {
		if g := n.group(); l.t.Failed() && g != nil {
			l.t.Logf("tandem shows %+v", *g)
		}
	})
	eventually(l.t, 2*late, "tandem answers", func() bool { return n.group() != nil })
	return n
}

// group is what tandem shows of its group; nil: it does not answer.
func (n *node) group() *control.VRRPGroup {
	ctx, cancel := context.WithTimeout(context.Background(), late)
	defer cancel()
	groups, err := n.client.VRRP(ctx)
	if err != nil || len(groups) != 1 {
		return nil
	}
	return &groups[0]
}

func (n *node) is(role string) bool {
	g := n.group()
	return g != nil && g.Role == role
}

func (n *node) await(role string, limit time.Duration) *control.VRRPGroup {
	n.l.t.Helper()
	var g *control.VRRPGroup
	eventually(n.l.t, limit, "tandem is "+role, func() bool { g = n.group(); return g != nil && g.Role == role })
	return g
}

// filter drops adverts at r2: "in" those that come, "out" those that go, ""
// none.
func (l *lab) filter(way string) {
	l.t.Helper()
	_ = exec.Command("ip", "netns", "exec", l.r2, "nft", "delete", "table", "inet", "part").Run()
	if way == "" {
		return
	}
	run(l.t, "ip", "netns", "exec", l.r2, "nft", fmt.Sprintf(
		"table inet part { chain c { type filter hook %sput priority 0; meta l4proto 112 drop; }; }", way))
}

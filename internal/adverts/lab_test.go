// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/config"
)

// lab is two routers and a switch per segment, in namespaces:
//
//	r1 -- lan -- r2        10.1.0.1, .2 on eth0 (lan); 10.2.0.1, .2 on eth1 (wan)
//	   \- wan -/           r1's port to lan is r1lan in the switch's namespace
type lab struct {
	t      *testing.T
	sw     string
	r      [3]string // 1, 2
	prefix string
}

var labs atomic.Int64

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, prefix: fmt.Sprintf("adv%d-%d-", os.Getpid(), labs.Add(1))}
	l.sw = l.ns("sw")
	l.r[1], l.r[2] = l.ns("r1"), l.ns("r2")
	for i, seg := range []string{"lan", "wan"} {
		run(t, "ip", "-n", l.sw, "link", "add", seg, "type", "bridge", "mcast_snooping", "0")
		run(t, "ip", "-n", l.sw, "link", "set", seg, "up")
		for r := 1; r <= 2; r++ {
			l.plug(r, i, seg)
		}
	}
	return l
}

func (l *lab) ns(name string) string {
	name = l.prefix + name
	run(l.t, "ip", "netns", "add", name)
	l.t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	run(l.t, "ip", "-n", name, "link", "set", "lo", "up")
	return name
}

// plug makes eth<i> of router r and its port in the switch.
func (l *lab) plug(r, i int, seg string) {
	port, dev := fmt.Sprintf("r%d%s", r, seg), fmt.Sprintf("eth%d", i)
	run(l.t, "ip", "-n", l.sw, "link", "add", port, "type", "veth", "peer", "name", dev, "netns", l.r[r])
	run(l.t, "ip", "-n", l.sw, "link", "set", port, "master", seg, "up")
	run(l.t, "ip", "-n", l.r[r], "addr", "add", fmt.Sprintf("10.%d.0.%d/24", i+1, r), "dev", dev)
	run(l.t, "ip", "-n", l.r[r], "link", "set", dev, "up")
}

// in runs fn on a thread in namespace ns.
func in(t *testing.T, ns string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		h, err := netns.GetFromName(ns)
		if err == nil {
			err = netns.Set(h)
			h.Close()
		}
		if err != nil {
			t.Errorf("enter namespace %s: %v", ns, err)
			return
		}
		fn()
	}()
	<-done
}

// router is a child and its daemon's end, which says yes unless told not to.
type router struct {
	*Process
	t      *testing.T
	ns     string
	log    chan Event
	silent atomic.Bool // do not answer Promoting
	slow   atomic.Bool // do not answer Demoting
	told   sync.Map    // set -> *atomic.Int64, events about it
	gone   chan struct{}
}

// garp has the defaults of the configuration.
var garp = config.GARP{Delay: 5 * time.Second, Refresh: 5 * time.Second, RefreshRepeat: 1, Repeat: 5}

func groups(priority uint8, interval time.Duration) []config.Group {
	return []config.Group{{
		Name: "LAN", Interface: "eth0", VRID: 10, Priority: priority, AdvertInterval: interval, Version: 3, GARP: garp,
		Addresses: []config.Address{{Prefix: netip.MustParsePrefix("10.1.0.100/24"), Interface: "eth0"}},
	}, {
		Name: "WAN", Interface: "eth1", VRID: 20, Priority: priority, AdvertInterval: interval, Version: 3, GARP: garp,
		Addresses: []config.Address{{Prefix: netip.MustParsePrefix("10.2.0.100/24"), Interface: "eth1"}},
	}}
}

var both = []config.SyncGroup{{Name: "MAIN", Member: []string{"LAN", "WAN"}}}

func (l *lab) start(r int, cfg Config) *router {
	l.t.Helper()
	n := &router{t: l.t, ns: l.r[r], log: make(chan Event, 10000), gone: make(chan struct{})}
	if cfg.SyncGroups == nil {
		cfg.SyncGroups = both
	}
	in(l.t, l.r[r], func() {
		p, err := Start(context.Background(), cfg)
		if err != nil {
			l.t.Error(err)
			return
		}
		n.Process = p
	})
	if n.Process == nil {
		l.t.FailNow()
	}
	go n.serve()
	l.t.Cleanup(n.stop)
	return n
}

func (n *router) serve() {
	defer close(n.gone)
	for e := range n.Events() {
		switch e := e.(type) {
		case Promoting:
			if !n.silent.Load() {
				n.Fenced(e.Set, e.Term)
			}
		case Demoting:
			if !n.slow.Load() {
				n.Released(e.Set, e.Term)
			}
		}
		if set := reflect.ValueOf(e).FieldByName("Set"); set.IsValid() {
			count, _ := n.told.LoadOrStore(set.String(), new(atomic.Int64))
			count.(*atomic.Int64).Add(1)
		}
		n.log <- e
	}
}

// events is how many were told about a set.
func (n *router) events(set string) int64 {
	count, ok := n.told.Load(set)
	if !ok {
		return 0
	}
	return count.(*atomic.Int64).Load()
}

// group is the status of one group; nil: there is none.
func (n *router) group(name string) *GroupStatus {
	for _, g := range n.Status().Groups {
		if g.Name == name {
			return &g
		}
	}
	return nil
}

func (n *router) stop() {
	n.Stop()
	<-n.gone
}

// await returns the next event of type E that satisfies ok (nil: any); events
// before it are dropped.
func await[E Event](n *router, what string, ok func(E) bool) E {
	n.t.Helper()
	const limit = 10 * time.Second
	timeout := time.After(limit)
	var seen []string
	for {
		select {
		case e := <-n.log:
			seen = append(seen, fmt.Sprintf("%T%+v", e, e))
			if v, is := e.(E); is && (ok == nil || ok(v)) {
				return v
			}
		case <-timeout:
			n.t.Fatalf("no %s within %v; seen:\n%s\nstatus: %+v", what, limit, strings.Join(seen, "\n"), n.Status())
		}
	}
}

// none fails if an event of type E comes within d.
func none[E Event](n *router, d time.Duration) {
	n.t.Helper()
	timeout := time.After(d)
	for {
		select {
		case e := <-n.log:
			if v, is := e.(E); is {
				n.t.Fatalf("unexpected %T%+v", v, v)
			}
		case <-timeout:
			return
		}
	}
}

func (n *router) has(dev, addr string) bool {
	return strings.Contains(run(n.t, "ip", "-n", n.ns, "-4", "addr", "show", "dev", dev), " "+addr+"/")
}

func (n *router) wantAddress(dev, addr string, want bool) {
	n.t.Helper()
	if n.has(dev, addr) != want {
		n.t.Errorf("%s on %s in %s: want present %v", addr, dev, n.ns, want)
	}
}

// eventually waits until ok holds, and looks once more when the time is over.
func eventually(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, d)
		}
	}
}

func monotonic() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// scene is a pair that is ready, under load, with an eye on every wire.
type scene struct {
	*drill.Pair
	t      *testing.T
	load   *load.Load
	crowd  *load.Crowd // nil: none
	size   int         // of the crowd
	wire   *netlab.Wire
	before netlab.WireStats

	// orphan says which entries a Backup may have in its kernel table though the
	// Active has not: of flows that ended while its daemon was down
	// (docs/limits.md). nil: none.
	orphan func(key string) bool

	// deadEnd: an interface of a router goes down, and its kernel says so to
	// whoever still sends to it until that moment's neighbours know better:
	// "network unreachable", which breaks nothing. Resets count all the same.
	deadEnd bool
}

// play builds a pair with r1 Active, makes all connections and waits until
// they are at r2.
func play(t *testing.T, lab netlab.Options, opts drill.PairOptions, mix load.Mix, crowd int) *scene {
	t.Helper()
	s := &scene{t: t, Pair: drill.ForTest(t, lab, opts)}
	s.watch()
	s.connect(mix)
	if crowd > 0 {
		s.gather(crowd)
	}
	own := mix.Steady + mix.Idle + mix.Bulk + mix.UDP + mix.Ping
	if err := s.AwaitCopied(t.Context(), s.Lab.R1, own+crowd, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scene) watch() {
	s.t.Helper()
	var err error
	if s.wire, err = s.Lab.Wire(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = s.wire.Close() })
}

func (s *scene) connect(mix load.Mix) {
	s.t.Helper()
	var err error
	if s.load, err = load.Start(drill.Paths(s.Lab), mix); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = s.load.Close() })
	s.load.Mark(netlab.Now())
	if !s.load.AwaitHealthy(s.t.Context(), 20*time.Second) {
		s.t.Fatalf("connections do not talk before anything has happened: %+v", s.load.Report())
	}
}

func (s *scene) gather(n int) {
	s.t.Helper()
	c, err := drill.Crowd(s.Lab, n)
	if err != nil {
		s.t.Fatal(err)
	}
	s.open(c)
}

// gatherOf is gather for flows of chosen kinds.
func (s *scene) gatherOf(cfg load.CrowdConfig) {
	s.t.Helper()
	c, err := drill.CrowdOf(s.Lab, cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.open(c)
}

func (s *scene) open(c *load.Crowd) {
	s.t.Helper()
	patient(s.t, s.Lab)
	s.crowd = c
	s.t.Cleanup(func() { _ = s.crowd.Close() })
	made, err := s.crowd.Open(s.t.Context(), 20*time.Second+*partition*5/4)
	s.size = made.Of
	if err != nil || made.Answered != made.Of {
		s.t.Fatalf("make further flows: %v (%v): %v", made, err, made.Missing)
	}
}

// patient keeps routers' kernels from ending UDP flows of one exchange after
// 30 s, which a slow machine may need from one of them to the next.
func patient(t *testing.T, l *netlab.Lab) {
	t.Helper()
	for _, r := range l.Routers() {
		if err := r.NS.Sysctl([2]string{"net/netfilter/nf_conntrack_udp_timeout", "600"}); err != nil {
			t.Fatal(err)
		}
	}
}

// mark begins a window: what the endpoints and the wire see counts from at.
func (s *scene) mark(at int64) {
	s.before = s.wire.Stats()
	s.load.Mark(at)
}

// become waits for a role.
func (s *scene) become(r *netlab.Router, role string, limit time.Duration) control.Status {
	s.t.Helper()
	st, err := s.AwaitRole(s.t.Context(), r, role, limit)
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// judge says of every connection and flow whether it lives, and that no router
// answered for somebody else. It returns what the endpoints saw.
func (s *scene) judge(what string) load.Report {
	s.t.Helper()
	s.load.AwaitHealthy(s.t.Context(), 5*time.Second)
	s.load.SpeakIdle(5 * time.Second)
	r := s.load.Report()
	s.t.Logf("%s: gaps: UDP %s; conversation %s; bulk %s; ping %s", what, r.UDPGap, r.SteadyGap, r.BulkGap, r.PingGap)
	for _, list := range [][]string{r.TCPBroken, r.UDPSilent, r.PingSilent} {
		for i, line := range list {
			if i == 3 {
				s.t.Errorf("%s: ... and %d more", what, len(list)-i)
				break
			}
			s.t.Errorf("%s: %s", what, line)
		}
	}
	s.quiet(what)
	if s.crowd != nil {
		s.speak(what)
	}
	return r
}

// quiet says that no router answered for somebody else since the mark.
func (s *scene) quiet(what string) {
	s.t.Helper()
	w := s.wire.Stats()
	n, resets := w.FromRouters()-s.before.FromRouters(), w.RST-s.before.RST
	if s.deadEnd && n > 0 {
		s.t.Logf("%s: the routers sent %d ICMP errors: %v", what, n, w.Samples)
		n = 0
	}
	if n > 0 || resets > 0 {
		s.t.Errorf("%s: %d RST on the wire, the routers sent %d RST or ICMP errors: %v", what, resets, n, w.Samples)
	}
}

// speak has every further flow exchange a payload both ways.
func (s *scene) speak(what string) {
	s.t.Helper()
	res, err := s.crowd.Exchange(s.t.Context(), 8*time.Second+time.Duration(s.size)*100*time.Microsecond)
	s.t.Logf("%s: further flows: %v", what, res)
	if err != nil || res.Answered != res.Of || res.Resets != 0 || res.Moved != 0 {
		s.t.Errorf("%s: further flows: %v (%v): %v", what, res, err, res.Missing)
	}
}

// status of a router's daemon, which must answer.
func (s *scene) status(r *netlab.Router) control.Status {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), answerLimit)
	defer cancel()
	st, err := s.Client(r).Status(ctx)
	if err != nil {
		s.t.Fatalf("ask %s: %v", r.Name, err)
	}
	return st
}

// within adds a line to a table of a configuration.
func within(table, line string) func(router, toml string) string {
	return func(_, text string) string {
		if !strings.Contains(text, table+"\n") {
			panic("no table " + table)
		}
		return strings.Replace(text, table+"\n", table+"\n"+line+"\n", 1)
	}
}

// electionOnly takes [conntrack-sync] out of a configuration.
func electionOnly(_, text string) string {
	head, rest, _ := strings.Cut(text, "[conntrack-sync]")
	_, tail, _ := strings.Cut(rest, "[control]")
	return head + "[control]" + tail
}

// holders asks on a switch, with an empty ARP cache, who has its virtual
// address, and names the routers.
func holders(t *testing.T, l *netlab.Lab, sw string) (names []string) {
	t.Helper()
	vip, iface := netlab.LANVIP.Addr(), 0
	if sw == netlab.WAN {
		vip, iface = netlab.WANVIP.Addr(), 1
	}
	macs, err := l.WhoHas(sw, vip, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for _, hw := range macs {
		name := hw.String()
		for _, r := range l.Routers() {
			if bytes.Equal(hw, r.MAC(iface)) {
				name = r.Name
			}
		}
		names = append(names, name)
	}
	return names
}

// soleHolder waits until r alone answers for both virtual addresses.
func soleHolder(t *testing.T, l *netlab.Lab, r *netlab.Router, limit time.Duration) {
	t.Helper()
	for end := time.Now().Add(limit); ; {
		over := time.Now().After(end)
		lan, wan := holders(t, l, netlab.LAN), holders(t, l, netlab.WAN)
		if len(lan) == 1 && len(wan) == 1 && lan[0] == r.Name && wan[0] == r.Name {
			return
		}
		if over {
			t.Errorf("the virtual addresses are answered for by %v on the LAN, %v on the WAN, want %s alone", lan, wan, r.Name)
			return
		}
	}
}

// holds says whether a router has both virtual addresses on its interfaces.
func holds(t *testing.T, r *netlab.Router) (n int) {
	t.Helper()
	for i, vip := range []netip.Prefix{netlab.LANVIP, netlab.WANVIP} {
		out, err := r.NS.Output(t.Context(), "ip", "-4", "-o", "addr", "show", "dev", fmt.Sprintf("eth%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), " "+vip.Addr().String()+"/") {
			n++
		}
	}
	return n
}

// invalid is how many packets a router's kernel table found INVALID, ever.
func invalid(t *testing.T, r *netlab.Router) (n uint64) {
	t.Helper()
	err := r.NS.Run(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
		if err != nil {
			return err
		}
		sc := bufio.NewScanner(bytes.NewReader(b))
		sc.Scan()
		column := -1
		for i, name := range strings.Fields(sc.Text()) {
			if name == "invalid" {
				column = i
			}
		}
		for sc.Scan() {
			v, err := strconv.ParseUint(strings.Fields(sc.Text())[column], 16, 64)
			if err != nil {
				return err
			}
			n += v
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read statistics of the kernel table: %v", err)
	}
	return n
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// TestFlowDiff holds what flow diff says against what Debian's conntrack lists
// on both routers, in which nothing of tandem is used: without a difference
// both say none, with some both name the same flows.
func TestFlowDiff(t *testing.T) {
	p := drill.PrepareForTest(t, netlab.Options{}, drill.PairOptions{})
	r1, r2 := p.Lab.R1, p.Lab.R2
	// Entries that r2 writes get no event extension: what is deleted there is
	// deleted in silence, and only an audit would put it back.
	tool(t, r2, "sysctl", "-w", "net.netfilter.nf_conntrack_events=0")
	for _, r := range p.Lab.Routers() {
		if err := p.Start(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.AwaitReady(t.Context(), r1, 15*time.Second); err != nil {
		t.Fatal(err)
	}
	crowd := crowdOf(t, p.Lab, load.CrowdConfig{UDPSNAT: 300, TCPSNAT: 300, UDPDNAT: 50, TCPDNAT: 50})
	if _, err := crowd.Open(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "both kernel tables list the same", func() bool {
		a := listed(t, r1)
		return len(a) == 700 && maps.Equal(a, listed(t, r2))
	})
	for _, r := range p.Lab.Routers() {
		d := awaitNoDiff(t, p, r)
		if d.Kernel < 700 || len(d.Peers) != 1 || d.Peers[0].Why != "" || r == r1 && (d.Peers[0].Same < 3 || d.Peers[0].Flows != 700) {
			t.Errorf("%s compared too little: %+v", r.Name, d)
		}
	}

	// An audit puts right what happens in silence. The first pauses between them are
	// 5, 10 and 20 s where a table held anything at the start, be it the protocol of
	// an advert, 5 min else: after more than 10 s without one, none is near.
	audits, since := map[*netlab.Router]uint64{}, time.Now()
	eventually(t, time.Minute, "no audit for 11 s", func() bool {
		for _, r := range p.Lab.Routers() {
			if n := ask(t, p, r).Capture.Audits; n != audits[r] {
				audits[r], since = n, time.Now()
			}
		}
		return time.Since(since) > 11*time.Second
	})
	names := slices.Sorted(maps.Keys(listed(t, r1)))
	gone, marked := names[0], names[len(names)/2]
	tool(t, r2, "conntrack", append([]string{"-D"}, selects(gone)...)...)
	tool(t, r2, "conntrack", append([]string{"-U", "--mark", "77"}, selects(marked)...)...)
	onlyHere := invent(t, r1, 1)
	onlyThere := invent(t, r2, 2)
	want := []string{gone, marked, onlyHere, onlyThere}
	slices.Sort(want)

	a, b := listed(t, r1), listed(t, r2)
	var theirs []string
	for name := range a {
		if mark, ok := b[name]; !ok || mark != a[name] {
			theirs = append(theirs, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			theirs = append(theirs, name)
		}
	}
	slices.Sort(theirs)
	if diff := cmp.Diff(want, theirs); diff != "" {
		t.Errorf("conntrack -L of both (-injected +listed):\n%s", diff)
	}

	here, there := flowDiff(t, p, r1), flowDiff(t, p, r2)
	said := map[string]string{}
	for i, d := range append(slices.Clone(here.Differences), there.Differences...) {
		said[nameOf(&d.Flow)] = fmt.Sprintf("%s %s: %s", []string{"r1", "r2"}[btoi(i >= len(here.Differences))], d.Flow.Source, strings.Join(d.What, "; "))
	}
	if diff := cmp.Diff(map[string]string{
		gone:      "r2 view: missing in the kernel table",
		marked:    "r2 view: mark 0, in the kernel table 77",
		onlyHere:  "r1 own: missing, the kernel table has it",
		onlyThere: "r2 own: missing, the kernel table has it",
	}, said); diff != "" {
		t.Errorf("flow diff of both (-injected +said):\n%s", diff)
	}
	if here.Peers[0].Differing != 0 {
		t.Errorf("r2's copy of the own flows of r1 differs: %+v", here.Peers[0])
	}

	// By a list of the other node.
	if d := diffAgainst(t, p, r1, "own", r2, "view"); len(d) != 0 {
		t.Errorf("own flows of r1 and their copy at r2 differ: %v", d)
	}
	if diff := cmp.Diff(want, diffAgainst(t, p, r1, "kernel", r2, "kernel")); diff != "" {
		t.Errorf("flow diff --against (-injected +said):\n%s", diff)
	}

	// An interface that comes late hastens the audits, and those put right what
	// happened in silence.
	for _, r := range p.Lab.Routers() {
		tool(t, r, "ip", "link", "add", "late", "up", "type", "bridge")
	}
	eventually(t, 30*time.Second, "the audit of r2 puts the flow back", func() bool {
		_, ok := listed(t, r2)[gone]
		return ok
	})
	eventually(t, 30*time.Second, "the audit of r1 finds the flow that no packet told", func() bool {
		_, ok := listed(t, r2)[onlyHere]
		return ok
	})
}

// TestFlowDiffAfterKill: the Active is killed, its peer takes over, and it comes
// back and takes the role again; flows go on, end, and are made meanwhile. Then
// both have the same.
func TestFlowDiffAfterKill(t *testing.T) {
	s := play(t, netlab.Options{}, drill.PairOptions{}, load.Mix{Steady: 20, UDP: 20}, 600)
	r1, r2 := s.Lab.R1, s.Lab.R2
	sigkill(t, s.Process(r1).Process.Pid)
	s.become(r2, control.RoleActive, 5*time.Second)
	<-s.Process(r1).Done()
	eventually(t, 10*time.Second, "r2 alone differs in nothing, and says why it compared no copy", func() bool {
		d := flowDiff(t, s.Pair, r2)
		return len(d.Differences) == 0 && len(d.Peers) == 1 && d.Peers[0].Why != ""
	})
	tool(t, r2, "conntrack", "-D", "-p", "udp", "-s", netlab.LANCrowd.Addr().String()) // these end here
	if err := s.Start(r1); err != nil {
		t.Fatal(err)
	}
	s.become(r1, control.RoleActive, 30*time.Second)
	if err := s.AwaitReady(t.Context(), r1, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Lab.Routers() {
		awaitNoDiff(t, s.Pair, r)
	}
}

// TestResync: everything goes over the link again, for root, and nothing
// leaves the copy meanwhile.
func TestResync(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	r1, r2 := p.Lab.R1, p.Lab.R2
	const n = 2000
	crowd := crowdOf(t, p.Lab, load.CrowdConfig{UDPSNAT: n / 2, TCPSNAT: n / 2})
	if _, err := crowd.Open(t.Context(), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitCopied(t.Context(), r1, n, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	before := ask(t, p, r1).Sync.Peers[0].Counters
	if out := run(t, r2, "sync", "resync", "--socket", socket(p, r2), "r1"); !strings.Contains(out, "exchanged with r1 again") {
		t.Errorf("it said %q", out)
	}
	eventually(t, 20*time.Second, "r1 sent everything again", func() bool {
		if s := ask(t, p, r2).Sync.Peers[0]; s.View != n || !s.Complete {
			t.Fatalf("the copy was dropped: %+v", s)
		}
		c := ask(t, p, r1).Sync.Peers[0]
		return c.Counters.Repair.All == before.Repair.All+1 && c.Counters.FullSent >= before.FullSent+n && c.BacklogFlows == 0
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := p.Client(r1).Resync(ctx, "r7"); err == nil || !strings.Contains(err.Error(), `no peer has that name`) {
		t.Errorf("a peer that is none: %v", err)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// flowDiff runs tandem -j flow diff, whose exit code must say what it prints.
func flowDiff(t *testing.T, p *drill.Pair, r *netlab.Router) (d control.FlowDiff) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := r.NS.Output(ctx, tandem, "-j", "flow", "diff", "--socket", socket(p, r))
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("flow diff of %s: %v: %s", r.Name, err, out)
	}
	if decode(t, out, &d); d.Empty() != (err == nil) {
		t.Errorf("flow diff of %s: %v, and it says %+v", r.Name, err, d)
	}
	return d
}

// awaitNoDiff waits until flow diff of a router finds none: what is young comes of
// age, and is committed.
func awaitNoDiff(t *testing.T, p *drill.Pair, r *netlab.Router) (d control.FlowDiff) {
	t.Helper()
	eventually(t, 20*time.Second, "flow diff of "+r.Name+" finds nothing", func() bool {
		d = flowDiff(t, p, r)
		return d.Empty()
	})
	return d
}

// diffAgainst names the flows of the crowd, and those invented, that flow diff
// of a router finds to differ from another's list.
func diffAgainst(t *testing.T, p *drill.Pair, r *netlab.Router, ours string, other *netlab.Router, theirs string) (names []string) {
	t.Helper()
	list := exec1(t, other, true, "-j", "flow", "list", "--source", theirs, "--socket", socket(p, other))
	file := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		t.Fatal(err)
	}
	var d control.FlowDiff
	decode(t, exec1(t, r, ours != "kernel", "-j", "flow", "diff", "--against", file, "--socket", socket(p, r)), &d)
	for i := range d.Differences {
		f := &d.Differences[i].Flow
		if passing(f.Original.Src, f.Original.Dst) {
			names = append(names, nameOf(f))
		}
	}
	slices.Sort(names)
	return names
}

// exec1 runs the binary, which must end with 0 (good) or 1.
func exec1(t *testing.T, r *netlab.Router, good bool, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := r.NS.Output(ctx, tandem, args...)
	var exit *exec.ExitError
	if good && err != nil || !good && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("tandem %s on %s, good %v: %v: %s", strings.Join(args, " "), r.Name, good, err, out)
	}
	return out
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
}

func tool(t *testing.T, r *netlab.Router, name string, args ...string) string {
	t.Helper()
	out, err := r.NS.Output(t.Context(), name, args...)
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// invented flows have addresses of their own.
const inventedNet = "10.77."

// invent puts an entry into one router's kernel table that no packet made.
func invent(t *testing.T, r *netlab.Router, n int) string {
	t.Helper()
	name := fmt.Sprintf("udp %s0.%d:4000 > 198.51.100.200:53", inventedNet, n)
	tool(t, r, "conntrack", append([]string{"-I", "-t", "600", "-u", "SEEN_REPLY,ASSURED"}, selects(name)...)...)
	return name
}

// passing says whether a flow is one of this test's.
func passing(src, dst string) bool {
	in := func(a string) bool {
		return a == netlab.LANCrowd.Addr().String() || a == netlab.WANCrowd.Addr().String() || strings.HasPrefix(a, inventedNet)
	}
	return in(src) || in(dst)
}

func nameOf(f *control.Flow) string {
	return fmt.Sprintf("%s %s:%d > %s:%d", f.Protocol, f.Original.Src, f.Original.SrcPort, f.Original.Dst, f.Original.DstPort)
}

// selects gives the options by which conntrack finds a flow of that name.
func selects(name string) []string {
	f := strings.FieldsFunc(name, func(r rune) bool { return r == ' ' || r == ':' || r == '>' })
	return []string{"-p", f[0], "--orig-src", f[1], "--orig-dst", f[3], "--orig-port-src", f[2], "--orig-port-dst", f[4]}
}

// listed reads conntrack -L: the mark by name of each flow of this test.
func listed(t *testing.T, r *netlab.Router) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(tool(t, r, "conntrack", "-L")) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		first := map[string]string{} // of the original direction: it stands first
		for _, w := range words {
			if k, v, ok := strings.Cut(w, "="); ok && first[k] == "" {
				first[k] = v
			}
		}
		if passing(first["src"], first["dst"]) {
			out[fmt.Sprintf("%s %s:%s > %s:%s", words[0], first["src"], first["sport"], first["dst"], first["dport"])] = first["mark"]
		}
	}
	return out
}

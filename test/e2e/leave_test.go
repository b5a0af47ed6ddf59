// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// After SIGTERM nothing of a daemon is left in its machine, whatever its role
// was: no process, program, map, link, qdisc, virtual address, rule, changed
// sysctl, socket.
func TestNothingIsLeftBehind(t *testing.T) {
	p := drill.PrepareForTest(t, netlab.Options{}, drill.PairOptions{})
	patient(t, p.Lab) // as crowdOf is
	before := map[*netlab.Router]string{}
	for _, r := range p.Lab.Routers() {
		// A new interface gets its IPv6 address and groups a little late, last those of
		// its own address and of the routers' (RFC 4291 section 2.6.1), on each of three.
		eventually(t, 20*time.Second, r.Name+" at rest", func() bool {
			was := before[r]
			before[r] = machine(t, r)
			time.Sleep(200 * time.Millisecond)
			return before[r] == was && strings.Count(was, "ff02::1:ff") >= 6
		})
		if err := p.Start(r); err != nil {
			t.Fatal(err)
		}
	}
	r1, r2 := p.Lab.R1, p.Lab.R2
	if err := p.AwaitReady(t.Context(), r1, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	crowd := crowdOf(t, p.Lab, load.CrowdConfig{UDPSNAT: 500, TCPSNAT: 500})
	if res, err := crowd.Open(t.Context(), 10*time.Second); err != nil || res.Answered != 1000 {
		t.Fatalf("%v (%v)", res, err)
	}
	loaded := map[*netlab.Router]map[string]map[uint32]bool{}
	for _, r := range p.Lab.Routers() {
		loaded[r] = withMaps(t, heldBy(t, p.Process(r).Process.Pid))
		if o := loaded[r]; len(o["prog_id"]) < 4 || len(o["map_id"]) < 4 || len(o["link_id"]) < 3 {
			t.Fatalf("%s has %d programs, %d maps, %d links loaded: this proves nothing", r.Name, len(o["prog_id"]), len(o["map_id"]), len(o["link_id"]))
		}
		if alive(loaded[r]) < 11 || len(r.NS.PIDs()) != 2 || before[r] == machine(t, r) {
			t.Fatalf("%s is not seen to run: this proves nothing", r.Name)
		}
	}
	// The Active first: it hands over. Then the last one, who has nobody.
	for _, r := range []*netlab.Router{r1, r2} {
		began := time.Now()
		err := p.Stop(r)
		took := time.Since(began)
		t.Logf("%s ended after %s", r.Name, took.Round(time.Millisecond))
		if err != nil {
			t.Errorf("%s did not end with exit code 0: %v", r.Name, err)
		}
		if took > 5*time.Second {
			t.Errorf("%s took %s to end", r.Name, took)
		}
		if pids := r.NS.PIDs(); len(pids) != 0 {
			t.Errorf("processes of %s are left: %v", r.Name, pids)
		}
		if _, err := os.Stat(socket(p, r)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the control socket of %s is left (%v)", r.Name, err)
		}
		if d := cmp.Diff(before[r], machine(t, r)); d != "" {
			t.Errorf("what %s was (-before +after):\n%s", r.Name, d)
		}
		// The kernel frees a program only after a grace period.
		eventually(t, 5*time.Second, fmt.Sprintf("nothing of %s loaded", r.Name), func() bool { return alive(loaded[r]) == 0 })
	}
	for _, sw := range []struct {
		name string
		vip  netip.Prefix
	}{{netlab.LAN, netlab.LANVIP}, {netlab.WAN, netlab.WANVIP}} {
		if who, err := p.Lab.WhoHas(sw.name, sw.vip.Addr(), 200*time.Millisecond); err != nil || len(who) != 0 {
			t.Errorf("%v still answer for %s (%v)", who, sw.vip, err)
		}
	}
}

// machine is what of a router a daemon could change and must put back, as
// text: addresses, links, routes, rules, qdiscs, multicast groups, sysctls.
func machine(t *testing.T, r *netlab.Router) string {
	t.Helper()
	var b strings.Builder
	for _, args := range [][]string{
		{"ip", "-o", "addr", "show"}, {"ip", "-o", "link", "show"}, {"ip", "route", "show", "table", "all"}, {"ip", "rule", "show"},
		{"ip", "maddr", "show"}, {"tc", "qdisc", "show"}, {"nft", "list", "ruleset"},
	} {
		out, err := r.NS.Output(t.Context(), args[0], args[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n%s", strings.Join(args, " "), out)
	}
	err := r.NS.Run(func() error {
		for _, pattern := range []string{"ipv4/*", "ipv4/conf/*/*", "ipv6/conf/*/*", "netfilter/*"} {
			files, err := filepath.Glob("/proc/sys/net/" + pattern)
			if err != nil {
				return err
			}
			for _, f := range files {
				if v, err := os.ReadFile(f); err == nil && !strings.HasSuffix(f, "/nf_conntrack_count") {
					fmt.Fprintf(&b, "%s = %s\n", f, strings.TrimSpace(string(v)))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// withMaps adds the maps that programs use without their loader holding them.
func withMaps(t *testing.T, o map[string]map[uint32]bool) map[string]map[uint32]bool {
	t.Helper()
	for id := range o["prog_id"] {
		prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			t.Fatal(err)
		}
		info, err := prog.Info()
		prog.Close()
		if err != nil {
			t.Fatal(err)
		}
		ids, _ := info.MapIDs()
		for _, m := range ids {
			o["map_id"][uint32(m)] = true
		}
	}
	return o
}

// alive counts those of some BPF objects that are in the kernel; ids are not
// given twice.
func alive(o map[string]map[uint32]bool) (n int) {
	for id := range o["prog_id"] {
		if prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(id)); err == nil {
			prog.Close()
			n++
		}
	}
	for id := range o["map_id"] {
		if m, err := ebpf.NewMapFromID(ebpf.MapID(id)); err == nil {
			m.Close()
			n++
		}
	}
	for id := range o["link_id"] {
		if l, err := link.NewFromID(link.ID(id)); err == nil {
			l.Close()
			n++
		}
	}
	return n
}

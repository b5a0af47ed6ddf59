// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"go.uber.org/goleak"

	"github.com/tandem-ha/tandem/conntrack"
)

// TestInspect: what is attached is listed with its place, by name alone.
func TestInspect(t *testing.T) {
	l := newLab(t)
	l.serve(80)
	c, _ := l.capture(Options{Policy: conntrack.DefaultPolicy(), Mode: rungTCX})
	f := l.fence("netfilter")
	exchange(t, l.dial("udp", "10.1.0.1:80"))
	own, err := c.coll.Programs["tandem_flow"].Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := own.ID()
	l.in(l.router, func() { inspected(t, uint32(id)) })
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func inspected(t *testing.T, flow uint32) {
	programs, err := Programs()
	if err != nil {
		t.Error(err)
		return
	}
	// Other tests' programs may be loaded at the same time.
	var names []string
	for _, p := range programs {
		names = append(names, p.Name)
		if p.ID != flow {
			continue
		}
		slices.Sort(p.Interface)
		if p.Hook != "tc-egress" || !slices.Equal(p.Interface, []string{"in", "out"}) || p.Memory == 0 || p.Type != ebpf.SchedCLS.String() {
			t.Errorf("program: %+v", p)
		}
	}
	for _, want := range []string{"tandem_flow", "tandem_fence4", "tandem_fence6"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not listed: %v", want, names)
		}
	}
	links, err := Links()
	if err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(links, func(l Link) bool { return l.Type == "netfilter" && strings.HasPrefix(l.Hook, "prerouting") }) {
		t.Errorf("links: %+v", links)
	}
	listed, err := Maps()
	if err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(listed, func(m Map) bool {
		return m.Name == "tandem_cells" && m.Program == "tandem_flow" && m.Entries >= minSets
	}) {
		t.Errorf("maps: %+v", listed)
	}
	for _, name := range []string{"tandem_packets", "tandem_cells"} {
		if entries, err := DumpMap(name); err != nil || len(entries) == 0 {
			t.Errorf("dump %s: %v, %v", name, entries, err)
		}
	}
	for _, name := range []string{"tandem_flows", "tandem_nosuch"} {
		if _, err := DumpMap(name); err == nil {
			t.Errorf("dump %s: no error", name)
		}
	}
}

// TestFeatures: this kernel has them all.
func TestFeatures(t *testing.T) {
	for _, f := range Features() {
		if !f.OK || f.Needs == "" {
			t.Errorf("%+v", f)
		}
	}
}

// TestNothingIsLeft: no goroutine, program, filter or qdisc after Close.
func TestNothingIsLeft(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, rung := range modes {
		t.Run(rung, func(t *testing.T) {
			l := newLab(t)
			inner := func(t *testing.T) {
				one := *l
				one.t = t
				one.capture(Options{Policy: conntrack.DefaultPolicy(), Mode: rung})
				one.fence(rung)
				one.in(one.router, func() {
					a, err := openAdverts(AdvertOptions{Interfaces: []string{"in"}, Log: logger(t)}, rung)
					if err != nil {
						t.Error(err)
						return
					}
					t.Cleanup(func() { a.Close() })
				})
			}
			t.Run("open", inner)
			l.in(l.router, func() {
				for _, name := range []string{"in", "out"} {
					index := device(t, name).Attrs().Index
					links, err := Links()
					if err != nil {
						t.Error(err)
					}
					for _, lk := range links {
						if lk.Interface == name {
							t.Errorf("interface %d has %+v", index, lk)
						}
					}
				}
			})
		})
	}
	time.Sleep(50 * time.Millisecond)
}

// TestRefusals: what cannot be opened says so and leaves nothing.
func TestRefusals(t *testing.T) {
	onThread(t, func() {
		for mode, want := range map[string]string{
			"netlink": `open capture: mode "netlink" is not in this version: use "auto" or "tc"`,
			"magic":   `open capture: mode "magic" is not in this version: use "auto" or "tc"`,
		} {
			_, err := Open(Options{Policy: conntrack.DefaultPolicy(), Mode: mode, Sink: newMemory()})
			if err == nil || err.Error() != want {
				t.Errorf("Open: %v, want %s", err, want)
			}
		}
	})
}

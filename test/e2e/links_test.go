// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// secondLink joins the routers of a lab by another cable, eth4 on both, and
// gives what their configurations say of it.
func secondLink(t *testing.T, l *netlab.Lab) func(router, text string) string {
	t.Helper()
	if out, err := l.R1.NS.Output(t.Context(), "ip", "link", "add", "eth4", "type", "veth", "peer", "name", "eth4", "netns", l.R2.NS.Name); err != nil {
		t.Fatalf("add a cable: %v: %s", err, out)
	}
	own := map[string]string{"r1": "192.168.254.1", "r2": "192.168.254.2"}
	for _, r := range l.Routers() {
		if err := r.NS.Address("eth4", netip.MustParsePrefix(own[r.Name]+"/30")); err != nil {
			t.Fatal(err)
		}
		if out, err := r.NS.Output(t.Context(), "ip", "link", "set", "eth4", "up"); err != nil {
			t.Fatalf("set eth4 of %s up: %v: %s", r.Name, err, out)
		}
	}
	return func(router, text string) string {
		peer := own["r1"]
		if router == "r1" {
			peer = own["r2"]
		}
		return strings.Replace(text, "[control]\n", "[conntrack-sync.interface.eth4]\npeer = [\""+peer+"\"]\n\n[control]\n", 1)
	}
}

// TestTwoSyncLinks: the sync link that carries the flows is cut, and then, a
// second later, the Active loses power: the copy went on over the other link,
// nobody was taken for silent, and every connection lives.
func TestTwoSyncLinks(t *testing.T) {
	second := func(_, text string) string { return text }
	p := drill.PrepareForTest(t, netlab.Options{}, drill.PairOptions{Edit: func(router, text string) string { return second(router, text) }})
	lab := p.Lab
	second = secondLink(t, lab)
	for _, r := range lab.Routers() {
		if err := p.Start(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.AwaitReady(t.Context(), lab.R1, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, Pair: p}
	r1, r2 := lab.R1, lab.R2
	s.watch()
	s.connect(fast)
	s.gather(1000)
	for _, r := range lab.Routers() {
		s.inUse(r, "eth2", 2)
	}
	before := s.status(r1).Sync.Peers[0].Counters
	said := map[*netlab.Router]string{r1: p.Process(r1).Tail(), r2: p.Process(r2).Tail()}

	if _, err := r1.Unplug(netlab.Sync); err != nil {
		t.Fatal(err)
	}
	for _, r := range lab.Routers() {
		s.inUse(r, "eth4", 1)
		eventually(t, 10*time.Second, "an alarm of "+r.Name, func() bool {
			a := silent(t, p, r)
			return len(a) == 1 && a[0].About == "eth2"
		})
	}
	c := dialOne(t, p)
	eventually(t, 5*time.Second, "a new connection copied", func() bool {
		return flows(t, p, r2, control.FlowQuery{Source: control.SourceView})[keyOf("tcp", c)] == 1
	})
	after := s.status(r1).Sync.Peers[0]
	if after.Counters.Sessions != before.Sessions || !after.Heard || !after.PeerComplete {
		t.Errorf("after the cut: %+v", after)
	}
	text := run(t, r1, "sync", "show", "--socket", socket(p, r1))
	for _, want := range []string{"eth2 to 192.168.255.2  no", "eth4 to 192.168.254.2  yes"} {
		if !strings.Contains(text, want) {
			t.Errorf("sync show does not say %q:\n%s", want, text)
		}
	}
	for _, r := range lab.Routers() {
		if log := strings.TrimPrefix(p.Process(r).Tail(), said[r]); strings.Contains(log, "is silent") {
			t.Errorf("%s took its peer for silent:\n%s", r.Name, log)
		}
	}

	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r2, control.RoleActive, 5*time.Second)
	time.Sleep(2 * time.Second)
	s.judge("power cut with one link left")
}

// inUse waits until a router sends by one link, and hears and is heard by so
// many.
func (s *scene) inUse(r *netlab.Router, iface string, well int) {
	s.t.Helper()
	// A better path is used again when it has worked for three seconds.
	eventually(s.t, 15*time.Second, r.Name+" sending by "+iface, func() bool {
		peers, n := s.status(r).Sync.Peers, 0
		for _, a := range peers[0].Paths {
			if a.Heard && a.HearsUs {
				n++
			}
		}
		return len(peers) == 1 && peers[0].Interface == iface && n == well
	})
}

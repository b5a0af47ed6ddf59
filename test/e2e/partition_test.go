// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// partition is how long the sync link is parted; `make proof` says 60s.
var partition = flag.Duration("partition", 3*time.Second, "length of the partition under 10,000 new flows/s")

// TestPartition: the sync link passes nothing while 10,000 flows are born each
// second, and some of the older ones die. Nobody changes role; when it heals
// everything catches up by itself, and a takeover finds it all.
func TestPartition(t *testing.T) {
	const rate = 10_000
	flows := int(partition.Seconds() * rate)
	roomFor(t, flows+10_000)
	s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{}, drill.PairOptions{Edit: commitSoon})}
	r1, r2 := s.Lab.R1, s.Lab.R2
	keepUDP(t, s.Lab) // what is born first must not have died at the end
	s.watch()
	relay := s.relay()
	older := mesh(t, s.Lab)
	s.same(r1, older, 10*time.Second)

	relay.Part()
	began := time.Now()
	if _, err := r1.NS.Output(t.Context(), "conntrack", "-D", "-p", "udp", "--orig-src", netlab.ClientAddr.Addr().String()); err != nil {
		t.Fatal(err)
	}
	crowd, err := drill.CrowdOf(s.Lab, load.CrowdConfig{UDPSNAT: flows / 2, TCPSNAT: flows * 4 / 10, UDPDNAT: flows / 20, TCPDNAT: flows / 20, Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	s.open(crowd)
	t.Logf("parted for %v under %d new flows", time.Since(began), flows)
	if st := s.status(r2); st.Sync.Peers[0].Heard || st.Sync.Peers[0].View != older {
		t.Fatalf("the link was not parted: r2 has %+v", st.Sync.Peers[0])
	}
	_, err = s.Await(t.Context(), r1, 5*time.Second, "how far behind its peer is", func(st *control.Status) bool {
		p := st.Sync.Peers[0] // the last flows are told within milliseconds
		return p.BacklogFlows >= flows && time.Duration(p.BacklogMS)*time.Millisecond >= *partition/2
	})
	if err != nil {
		t.Error(err)
	}
	relay.Heal()
	healed := time.Now()
	if err := s.AwaitCopied(t.Context(), r1, flows, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	t.Logf("caught up %v after it healed", time.Since(healed))
	s.same(r1, flows, 20*time.Second)
	s.takeover(flows)
}

// keepUDP has routers remember UDP flows for as long as any test may take.
func keepUDP(t *testing.T, l *netlab.Lab) {
	t.Helper()
	for _, r := range l.Routers() {
		if err := r.NS.Sysctl([2]string{"net/netfilter/nf_conntrack_udp_timeout", "600"}); err != nil {
			t.Fatal(err)
		}
	}
}

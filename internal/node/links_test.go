// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/link"
)

func given(addr, name string) link.PeerStats {
	return link.PeerStats{Address: netip.MustParseAddr(addr), Given: true, Name: name}
}

// A configured peer that was never heard is shown by its address, once,
// whatever the number of links.
func TestUnnamed(t *testing.T) {
	b := &backend{d: &daemon{cfg: &config.Config{Sync: &config.Sync{Links: []config.Link{{Port: 3781}}}}}}
	found := link.PeerStats{Address: netip.MustParseAddr("10.9.0.9")}
	for _, tt := range []struct {
		name  string
		links [][]link.PeerStats
		known int
		want  []string
	}{
		{"nobody is configured", [][]link.PeerStats{{found}}, 0, nil},
		{"never heard", [][]link.PeerStats{{given("10.9.0.2", "")}}, 0, []string{"10.9.0.2"}},
		{"never heard on either link", [][]link.PeerStats{{given("10.9.0.2", "")}, {given("10.9.1.2", "")}}, 0, []string{"10.9.0.2"}},
		{"heard on one of two links", [][]link.PeerStats{{given("10.9.0.2", "")}, {given("10.9.1.2", "r2")}}, 1, nil},
		{"one of two heard", [][]link.PeerStats{{given("10.9.0.2", "r2"), given("10.9.0.3", "")}, {given("10.9.1.3", "")}}, 1, []string{"10.9.0.3"}},
	} {
		var stats []link.Stats
		for _, p := range tt.links {
			stats = append(stats, link.Stats{Interface: "eth2", Peers: p})
		}
		var got []string
		for _, p := range b.unnamed(stats, tt.known) {
			got = append(got, p.Name)
			if p.Address != p.Name || p.Heard || p.Hint == "" {
				t.Errorf("%s: %+v", tt.name, p)
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// A path is shown where it leads, and the one in use is the peer's; a peer that
// is heard where it does not hear us is an alarm.
func TestPathsAreShown(t *testing.T) {
	b := &backend{d: &daemon{cfg: &config.Config{Sync: &config.Sync{Links: []config.Link{{Port: 3781}}}}}}
	p := control.SyncPeer{Name: "r2", Heard: true}
	one, two := given("10.9.0.2", "r2"), given("10.9.1.2", "r2")
	one.Hearing, two.Hearing, two.Echoed, two.InUse = true, true, true, true
	b.addPath(&p, &link.Stats{Interface: "eth2"}, &one)
	b.addPath(&p, &link.Stats{Interface: "eth3", Carrier: true}, &two)
	if p.Interface != "eth3" || p.Address != "10.9.1.2" || !p.Carrier || len(p.Paths) != 2 || !p.Paths[1].InUse || p.Paths[0].HearsUs {
		t.Errorf("%+v", p)
	}
	got := pathAlarms(&control.SyncStatus{Peers: []control.SyncPeer{p}})
	if len(got) != 1 || got[0].About != "r2 on eth2" || !strings.Contains(got[0].Text, "does not hear this node") {
		t.Errorf("alarms %+v", got)
	}
}

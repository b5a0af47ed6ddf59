// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tandem-ha/tandem/internal/control"
)

// fake is a daemon with one of everything.
type fake struct{ status control.Status }

func (f *fake) Status() control.Status { return f.status }

func one() *fake {
	return &fake{control.Status{
		Node: "r1", Version: "v1",
		Sets:    []control.Set{{Name: "MAIN", Role: control.RoleBackup}},
		Groups:  []control.VRRPGroup{{Name: "LAN"}},
		Strays:  []control.VRRPStray{{Interface: "eth0", Dropped: map[string]uint64{"vrid": 0}}},
		Capture: &control.Capture{Ignored: map[string]uint64{"young": 0}},
		Table:   &control.KernelTable{},
		Fence:   &control.Fence{Dropped: map[string]uint64{"new": 0}},
		Last:    &control.Timeline{Set: "MAIN", Steps: []control.Step{{Name: "fence up"}}},
		Adverts: &control.AdvertHealth{SentLate: lateness(), DecidedLate: lateness()},
		Sync: &control.SyncStatus{
			Links: []control.SyncLink{{Interface: "eth2", Counters: control.LinkCounters{Dropped: map[string]uint64{"stranger": 0}},
				Gate: &control.Gate{Passed: map[string]uint64{"data": 0}, Dropped: map[string]uint64{"session": 0}}}},
			Peers: []control.SyncPeer{{Name: "r2", Counters: control.SyncCounters{Dropped: map[string]uint64{"older": 0}},
				Paths: []control.SyncPath{{Interface: "eth2", Address: "10.9.0.2"}, {Interface: "eth3", Address: "10.9.1.2"}}}},
			Commits: control.SyncCommits{Failed: map[string]uint64{"clash": 0}},
		},
	}}
}

func lateness() *control.Histogram {
	return &control.Histogram{BoundsUS: []int64{100, 1000}, Buckets: make([]uint64, 3)}
}

// scrape gives the samples of tandem_ metrics, one line each.
func scrape(t *testing.T, s Source) []string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newCollector(s))
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatal(rec.Body.String())
	}
	var out []string
	for line := range strings.Lines(rec.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}

// moves is, for each metric, the one thing that moves it and the samples that
// are then other than before; nothing else may change.
var moves = map[string]struct {
	move func(s *control.Status)
	want []string
}{
	buildInfo: {func(s *control.Status) { s.Version = "v2" }, []string{`{node="r1",version="v2"} 1`}},
	startTime: {func(s *control.Status) { s.Started = time.Unix(7, 5e8) }, []string{` 7.5`}},
	alarm: {func(s *control.Status) {
		s.Alarms = []control.Alarm{{Kind: "two-actives", About: "LAN"}, {Kind: "two-actives", About: "LAN"}}
	}, []string{`{kind="two-actives",subject="LAN"} 2`}},
	setRole: {func(s *control.Status) { s.Sets[0].Role = control.RoleActive },
		[]string{`{role="Active",set="MAIN"} 1`, `{role="Backup",set="MAIN"} 0`}},
	setRoleSince: {func(s *control.Status) { s.Sets[0].Since = time.Unix(9, 0) }, []string{`{set="MAIN"} 9`}},

	groupPriority:    {group(func(g *control.VRRPGroup) { g.EffectivePriority = 200 }), []string{`{group="LAN"} 200`}},
	groupInterfaceUp: {group(func(g *control.VRRPGroup) { g.InterfaceUp = true }), []string{`{group="LAN"} 1`}},
	groupTracked: {group(func(g *control.VRRPGroup) {
		g.Tracked = []control.Tracked{{Name: "interface eth3", State: "up"}, {Name: "interface eth4", State: "down"}}
	}), []string{`{group="LAN",thing="interface eth3"} 1`, `{group="LAN",thing="interface eth4"} 0`}},
	groupInstalled:      {group(func(g *control.VRRPGroup) { g.Installed = true }), []string{`{group="LAN"} 1`}},
	groupBecameActive:   {group(func(g *control.VRRPGroup) { g.Counters.BecomeActive = 3 }), []string{`{group="LAN"} 3`}},
	groupReleasedActive: {group(func(g *control.VRRPGroup) { g.Counters.ReleasedActive = 3 }), []string{`{group="LAN"} 3`}},
	advertsSent:         {group(func(g *control.VRRPGroup) { g.Counters.AdvertSent = 3 }), []string{`{group="LAN"} 3`}},
	advertsReceived:     {group(func(g *control.VRRPGroup) { g.Counters.AdvertRcvd = 3 }), []string{`{group="LAN"} 3`}},
	priorityZeroSent:    {group(func(g *control.VRRPGroup) { g.Counters.PriZeroSent = 3 }), []string{`{group="LAN"} 3`}},
	priorityZeroRcvd:    {group(func(g *control.VRRPGroup) { g.Counters.PriZeroRcvd = 3 }), []string{`{group="LAN"} 3`}},
	advertsUnsent:       {group(func(g *control.VRRPGroup) { g.Counters.SendErrors = 3 }), []string{`{group="LAN"} 3`}},
	twoActives:          {group(func(g *control.VRRPGroup) { g.Counters.TwoActives = 3 }), []string{`{group="LAN"} 3`}},
	oversleeps:          {group(func(g *control.VRRPGroup) { g.Counters.Oversleeps = 3 }), []string{`{group="LAN"} 3`}},
	advertsDropped: {group(func(g *control.VRRPGroup) {
		g.Counters.TruncatedErrors, g.Counters.VersionErrors, g.Counters.InvalidTypePktsRcvd, g.Counters.VRIDErrors = 1, 2, 3, 4
		g.Counters.ChecksumErrors, g.Counters.TTLErrors, g.Counters.AddressListErrors, g.Counters.PacketLengthErrors = 5, 6, 7, 8
		g.Counters.AdvertIntervalErrors, g.Counters.CountZeroErrors = 9, 10
		g.Counters.AuthTypeErrors, g.Counters.AuthFailures, g.Counters.LinkLocalErrors, g.Counters.PeerErrors = 11, 12, 13, 14
	}), []string{
		`{group="LAN",reason="address_list"} 7`, `{group="LAN",reason="auth_type"} 11`, `{group="LAN",reason="checksum"} 5`, `{group="LAN",reason="count_zero"} 10`,
		`{group="LAN",reason="interval"} 9`, `{group="LAN",reason="length"} 8`, `{group="LAN",reason="link_local"} 13`,
		`{group="LAN",reason="password"} 12`, `{group="LAN",reason="peer"} 14`, `{group="LAN",reason="truncated"} 1`,
		`{group="LAN",reason="ttl"} 6`, `{group="LAN",reason="type"} 3`, `{group="LAN",reason="version"} 2`, `{group="LAN",reason="vrid"} 4`,
	}},
	advertsStray:    {func(s *control.Status) { s.Strays[0].Dropped["vrid"] = 5 }, []string{`{interface="eth0",reason="vrid"} 5`}},
	advertsRealTime: {func(s *control.Status) { s.Adverts.RealTime = true }, []string{` 1`}},
	// One of each bucket: below 100 us, below 1 ms, above.
	advertLateness: {func(s *control.Status) { s.Adverts.SentLate = filled() },
		[]string{`_bucket{le="0.0001"} 1`, `_bucket{le="0.001"} 3`, `_bucket{le="+Inf"} 6`, `_sum 0.0025`, `_count 6`}},
	decisionLateness: {func(s *control.Status) { s.Adverts.DecidedLate = filled() },
		[]string{`_bucket{le="0.0001"} 1`, `_bucket{le="0.001"} 3`, `_bucket{le="+Inf"} 6`, `_sum 0.0025`, `_count 6`}},

	captureTold:      {func(s *control.Status) { s.Capture.Told = 3 }, []string{` 3`}},
	captureGone:      {func(s *control.Status) { s.Capture.Gone = 3 }, []string{` 3`}},
	captureDied:      {func(s *control.Status) { s.Capture.Died = 3 }, []string{` 3`}},
	captureLost:      {func(s *control.Status) { s.Capture.DeathsLost = 3 }, []string{` 3`}},
	captureSeeded:    {func(s *control.Status) { s.Capture.Seeded = 3 }, []string{` 3`}},
	captureAudits:    {func(s *control.Status) { s.Capture.Audits = 3 }, []string{` 3`}},
	captureMissed:    {func(s *control.Status) { s.Capture.Missed = 3 }, []string{` 3`}},
	captureRestored:  {func(s *control.Status) { s.Capture.Restored = 3 }, []string{` 3`}},
	captureMalformed: {func(s *control.Status) { s.Capture.Malformed = 3 }, []string{` 3`}},
	captureRingFull:  {func(s *control.Status) { s.Capture.RingFull = 3 }, []string{` 3`}},
	captureIgnored:   {func(s *control.Status) { s.Capture.Ignored["young"] = 3 }, []string{`{reason="young"} 3`}},
	captureLinks:     {func(s *control.Status) { s.Capture.Interfaces = []string{"eth0", "eth1"} }, []string{` 2`}},

	tableEntries:   {func(s *control.Status) { s.Table.Entries = 3 }, []string{` 3`}},
	tableMax:       {func(s *control.Status) { s.Table.Max = 3 }, []string{` 3`}},
	fenceUp:        {func(s *control.Status) { s.Fence.Up = true }, []string{` 1`}},
	fenceDropped:   {func(s *control.Status) { s.Fence.Dropped["new"] = 3 }, []string{`{reason="new"} 3`}},
	takeoverTime:   {func(s *control.Status) { s.Last.Start = time.Unix(8, 0) }, []string{`{set="MAIN"} 8`}},
	takeoverStep:   {func(s *control.Status) { s.Last.Steps[0].AtMS = 2.5 }, []string{`{set="MAIN",step="fence up"} 0.0025`}},
	takeoverFlows:  {func(s *control.Status) { s.Last.Committed = 3 }, []string{`{set="MAIN"} 3`}},
	takeoverFailed: {func(s *control.Status) { s.Last.Failed = 3 }, []string{`{set="MAIN"} 3`}},

	ownFlows:   {func(s *control.Status) { s.Sync.OwnFlows = 3 }, []string{` 3`}},
	ownedFlows: {func(s *control.Status) { s.Sync.OwnerOf = 3 }, []string{` 3`}},
	commits: {func(s *control.Status) {
		s.Sync.Commits = control.SyncCommits{Created: 1, Replaced: 2, Deleted: 3, Renewed: 4}
	},
		[]string{`{operation="create"} 1`, `{operation="delete"} 3`, `{operation="renew"} 4`, `{operation="replace"} 2`}},
	commitFailures: {func(s *control.Status) { s.Sync.Commits.Failed["clash"] = 3 }, []string{`{reason="clash"} 3`}},

	linkCarrier:    {link(func(l *control.SyncLink) { l.Carrier = true }), []string{`{interface="eth2"} 1`}},
	linkHeard:      {link(func(l *control.SyncLink) { l.Heard = true }), []string{`{interface="eth2"} 1`}},
	linkSent:       {link(func(l *control.SyncLink) { l.Counters.DatagramsSent = 3 }), []string{`{interface="eth2"} 3`}},
	linkReceived:   {link(func(l *control.SyncLink) { l.Counters.DatagramsRcvd = 3 }), []string{`{interface="eth2"} 3`}},
	linkBytesSent:  {link(func(l *control.SyncLink) { l.Counters.BytesSent = 3 }), []string{`{interface="eth2"} 3`}},
	linkBytesRcvd:  {link(func(l *control.SyncLink) { l.Counters.BytesRcvd = 3 }), []string{`{interface="eth2"} 3`}},
	linkSendErrors: {link(func(l *control.SyncLink) { l.Counters.SendErrors = 3 }), []string{`{interface="eth2"} 3`}},
	linkDropped:    {link(func(l *control.SyncLink) { l.Counters.Dropped["stranger"] = 3 }), []string{`{interface="eth2",reason="stranger"} 3`}},

	gateUp:      {link(func(l *control.SyncLink) { l.Gate.Mode = "generic" }), []string{`{interface="eth2",mode="generic"} 1`}},
	gatePassed:  {link(func(l *control.SyncLink) { l.Gate.Passed["data"] = 3 }), []string{`{interface="eth2",kind="data"} 3`}},
	gateDropped: {link(func(l *control.SyncLink) { l.Gate.Dropped["session"] = 3 }), []string{`{interface="eth2",reason="session"} 3`}},

	peerActiveToo:   {func(s *control.Status) { s.Sync.TwoActives = 3 }, []string{` 3`}},
	peerHeard:       {peer(func(p *control.SyncPeer) { p.Heard = true }), []string{`{peer="r2"} 1`}},
	peerComplete:    {peer(func(p *control.SyncPeer) { p.PeerComplete = true }), []string{`{peer="r2"} 1`}},
	peerBacklog:     {peer(func(p *control.SyncPeer) { p.BacklogFlows = 3 }), []string{`{peer="r2"} 3`}},
	peerLag:         {peer(func(p *control.SyncPeer) { p.BacklogMS = 2.5 }), []string{`{peer="r2"} 0.0025`}},
	peerSessions:    {peer(func(p *control.SyncPeer) { p.Counters.Sessions = 3 }), []string{`{peer="r2"} 3`}},
	peerPathChanges: {peer(func(p *control.SyncPeer) { p.Counters.PathChanges = 3 }), []string{`{peer="r2"} 3`}},
	peerPaced:       {peer(func(p *control.SyncPeer) { p.Counters.Paced = 3 }), []string{`{peer="r2"} 3`}},
	pathInUse: {peer(func(p *control.SyncPeer) { p.Paths[1].InUse = true }),
		[]string{`{address="10.9.1.2",interface="eth3",peer="r2"} 1`}},
	pathHeard: {peer(func(p *control.SyncPeer) { p.Paths[1].Heard = true }),
		[]string{`{address="10.9.1.2",interface="eth3",peer="r2"} 1`}},
	pathHearsUs: {peer(func(p *control.SyncPeer) { p.Paths[0].HearsUs = true }),
		[]string{`{address="10.9.0.2",interface="eth2",peer="r2"} 1`}},
	viewFlows:       {peer(func(p *control.SyncPeer) { p.View = 3 }), []string{`{peer="r2"} 3`}},
	viewUncommitted: {peer(func(p *control.SyncPeer) { p.Uncommitted = 3 }), []string{`{peer="r2"} 3`}},
	viewComplete:    {peer(func(p *control.SyncPeer) { p.Complete = true }), []string{`{peer="r2"} 1`}},
	recordsSent:     {peer(func(p *control.SyncPeer) { p.Counters.RecordsSent = 3 }), []string{`{peer="r2"} 3`}},
	recordsFull:     {peer(func(p *control.SyncPeer) { p.Counters.FullSent = 3 }), []string{`{peer="r2"} 3`}},
	recordsReceived: {peer(func(p *control.SyncPeer) { p.Counters.RecordsRcvd = 3 }), []string{`{peer="r2"} 3`}},
	recordsDropped:  {peer(func(p *control.SyncPeer) { p.Counters.Dropped["older"] = 3 }), []string{`{peer="r2",reason="older"} 3`}},
	deletesSent:     {peer(func(p *control.SyncPeer) { p.Counters.DeletesSent = 3 }), []string{`{peer="r2"} 3`}},
	deletesReceived: {peer(func(p *control.SyncPeer) { p.Counters.DeletesRcvd = 3 }), []string{`{peer="r2"} 3`}},
	datagramsSent:   {peer(func(p *control.SyncPeer) { p.Counters.DatagramsSent = 3 }), []string{`{peer="r2"} 3`}},
	datagramsRcvd:   {peer(func(p *control.SyncPeer) { p.Counters.DatagramsRcvd = 3 }), []string{`{peer="r2"} 3`}},
	datagramsLost:   {peer(func(p *control.SyncPeer) { p.Counters.DatagramsLost = 3 }), []string{`{peer="r2"} 3`}},
	bytesSent:       {peer(func(p *control.SyncPeer) { p.Counters.BytesSent = 3 }), []string{`{peer="r2"} 3`}},
	repairRanges: {peer(func(p *control.SyncPeer) {
		p.Counters.Repair = control.SyncRepair{Compared: 1, Differing: 2, Healed: 3, Incomparable: 4, Asked: 5, Given: 6, Refused: 7}
	}), []string{`{outcome="asked",peer="r2"} 5`, `{outcome="compared",peer="r2"} 1`, `{outcome="differing",peer="r2"} 2`,
		`{outcome="given",peer="r2"} 6`, `{outcome="healed",peer="r2"} 3`, `{outcome="incomparable",peer="r2"} 4`, `{outcome="refused",peer="r2"} 7`}},
	repairAll:     {peer(func(p *control.SyncPeer) { p.Counters.Repair.All = 3 }), []string{`{peer="r2"} 3`}},
	bytesReceived: {peer(func(p *control.SyncPeer) { p.Counters.BytesRcvd = 3 }), []string{`{peer="r2"} 3`}},
}

func group(fn func(*control.VRRPGroup)) func(*control.Status) {
	return func(s *control.Status) { fn(&s.Groups[0]) }
}

func link(fn func(*control.SyncLink)) func(*control.Status) {
	return func(s *control.Status) { fn(&s.Sync.Links[0]) }
}

func peer(fn func(*control.SyncPeer)) func(*control.Status) {
	return func(s *control.Status) { fn(&s.Sync.Peers[0]) }
}

func filled() *control.Histogram {
	return &control.Histogram{BoundsUS: []int64{100, 1000}, Buckets: []uint64{1, 2, 3}, SumUS: 2500}
}

func TestEachMetricMoves(t *testing.T) {
	c := newCollector(one())
	names := make(map[string]bool)
	for _, m := range c.metrics {
		names[m.name] = true
	}
	for _, h := range histograms {
		names[h.name] = true
	}
	for name := range names {
		if _, ok := moves[name]; !ok {
			t.Errorf("%s: nothing moves it", name)
		}
	}
	before := scrape(t, one())
	for name, tt := range moves {
		if !names[name] {
			t.Errorf("%s: no such metric", name)
		}
		f := one()
		tt.move(&f.status)
		var got []string
		for _, line := range scrape(t, f) {
			if !slices.Contains(before, line) {
				got = append(got, line)
			}
		}
		var want []string
		for _, sample := range tt.want {
			want = append(want, name+sample)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: what changed (-want +got):\n%s", name, d)
		}
	}
}

// Names and helps keep the rules of this house and of Prometheus.
func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	check := func(name, help string) {
		if seen[name] {
			t.Errorf("%s: stands there twice", name)
		}
		seen[name] = true
		if !strings.HasPrefix(name, "tandem_") {
			t.Errorf("%s: has not our prefix", name)
		}
		if len(help) < 20 || !strings.HasSuffix(help, ".") || help[:1] != strings.ToUpper(help[:1]) {
			t.Errorf("%s: %q is no full sentence", name, help)
		}
	}
	for _, m := range newCollector(one()).metrics {
		check(m.name, m.help)
	}
	for _, h := range histograms {
		check(h.name, h.help)
	}
}

// A node that replicates nothing, and one whose peers share a name, can be
// scraped.
func TestThinAndDouble(t *testing.T) {
	if got := scrape(t, &fake{control.Status{Node: "r1"}}); len(got) == 0 {
		t.Error("election without copy: nothing")
	}
	f := one()
	f.status.Sync.Peers = append(f.status.Sync.Peers, f.status.Sync.Peers[0])
	if d := cmp.Diff(scrape(t, one()), scrape(t, f)); d != "" {
		t.Errorf("two peers of one name (-want +got):\n%s", d)
	}
}

func TestServer(t *testing.T) {
	s := NewServer([]string{"127.0.0.1:0", "127.0.0.1:0"}, one(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatal(err)
	}
	for _, addr := range s.addrs {
		for path, want := range map[string]string{"/metrics": "tandem_build_info{node=\"r1\",version=\"v1\"} 1", "/": "/metrics"} {
			resp, err := http.Get(fmt.Sprintf("http://%s%s", addr, path))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
				t.Errorf("%s: %d, %v, no %q", path, resp.StatusCode, err, want)
			}
		}
	}
	taken := NewServer([]string{"127.0.0.1:0", s.addrs[0].String()}, one(), slog.New(slog.DiscardHandler)).Run(ctx)
	if want := fmt.Sprintf("serve metrics: listen tcp %s: bind: address already in use", s.addrs[0]); taken == nil || taken.Error() != want {
		t.Errorf("a taken address: got %v, want %s", taken, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

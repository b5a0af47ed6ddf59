// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// The metrics of both nodes tell the way of 300 flows: told, sent, received,
// committed, deleted; the figures agree with each other and with the status.
func TestMetricsTellTheWayOfFlows(t *testing.T) {
	const n = 300
	listen := func(_, text string) string { return text + "\n[metrics]\nlisten = [\"127.0.0.1:9817\"]\n" }
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{Edit: listen})
	r1, r2 := p.Lab.R1, p.Lab.R2
	zero := scrape(t, r1)
	for _, name := range []string{"tandem_own_flows", "tandem_capture_told_total", `tandem_records_sent_total{peer="r2"}`, `tandem_peer_backlog_flows{peer="r2"}`} {
		if v, ok := zero[name]; !ok || v != 0 {
			t.Errorf("before any flow %s is %v (there: %t)", name, v, ok)
		}
	}
	crowd := crowdOf(t, p.Lab, load.CrowdConfig{UDPSNAT: n / 2, TCPSNAT: n / 2})
	if res, err := crowd.Open(t.Context(), 10*time.Second); err != nil || res.Answered != n {
		t.Fatalf("%v (%v)", res, err)
	}
	if err := p.AwaitCopied(t.Context(), r1, n, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Await(t.Context(), r2, 10*time.Second, "commit all", func(s *control.Status) bool { return s.Sync.Peers[0].Uncommitted == 0 }); err != nil {
		t.Fatal(err)
	}
	awaitMetrics(t, p, r1, map[string]float64{
		`tandem_set_role{role="Active",set="MAIN"}`: 1,
		"tandem_own_flows":                          n, "tandem_owned_flows": n,
		"tandem_capture_told_total":                 n,
		`tandem_records_sent_total{peer="r2"}`:      n,
		`tandem_records_full_sent_total{peer="r2"}`: n,
		`tandem_peer_backlog_flows{peer="r2"}`:      0,
		`tandem_peer_lag_seconds{peer="r2"}`:        0,
		`tandem_peer_heard{peer="r2"}`:              1,
		`tandem_peer_complete{peer="r2"}`:           1,
		`tandem_link_heard{interface="eth2"}`:       1,
		"tandem_fence_up":                           0,
	})
	got := awaitMetrics(t, p, r2, map[string]float64{
		`tandem_set_role{role="Backup",set="MAIN"}`: 1,
		`tandem_view_flows{peer="r1"}`:              n,
		`tandem_view_uncommitted_flows{peer="r1"}`:  0,
		`tandem_view_complete{peer="r1"}`:           1,
		`tandem_records_received_total{peer="r1"}`:  n,
		`tandem_commits_total{operation="create"}`:  n,
		"tandem_own_flows":                          0,
	})
	if v := got["tandem_kernel_table_entries"]; v < n {
		t.Errorf("r2 shows %v entries in its kernel table, want at least %d", v, n)
	}
	if _, err := r1.NS.Output(t.Context(), "conntrack", "-D", "-p", "udp", "-s", netlab.LANCrowd.Addr().String()); err != nil {
		t.Fatal(err)
	}
	awaitMetrics(t, p, r1, map[string]float64{"tandem_own_flows": n / 2, `tandem_deletions_sent_total{peer="r2"}`: n / 2, "tandem_capture_died_total": n / 2})
	awaitMetrics(t, p, r2, map[string]float64{`tandem_view_flows{peer="r1"}`: n / 2, `tandem_deletions_received_total{peer="r1"}`: n / 2,
		`tandem_commits_total{operation="delete"}`: n / 2})
	w := tap(t, p.Lab, r1, r2)
	w.send(t, &datagram{payload: w.random(100)})
	w.send(t, &datagram{payload: w.random(100), ttl: 64})
	awaitMetrics(t, p, r2, map[string]float64{`tandem_link_gate_up{interface="eth2",mode="native"}`: 1,
		`tandem_link_gate_dropped_packets_total{interface="eth2",reason="version"}`:   1,
		`tandem_link_gate_dropped_packets_total{interface="eth2",reason="hop_limit"}`: 1})
	adverts := func() float64 { return scrape(t, r1)[`tandem_adverts_sent_total{group="LAN"}`] }
	eventually(t, 10*time.Second, "a second with 10 adverts", func() bool { // a machine that stands still sends fewer
		before, began := adverts(), time.Now()
		time.Sleep(time.Second)
		rate := (adverts() - before) / time.Since(began).Seconds()
		return rate > 8.5 && rate < 12
	})
	if s := scrape(t, r1); s[`tandem_advert_lateness_seconds_count`] == 0 {
		t.Error("the lateness of adverts is not shown")
	}
}

// awaitMetrics waits until a router's metrics have these values, for 5 s. On a
// machine that stood still a datagram may have been taken for lost and its
// records sent again: then there may be more of those.
func awaitMetrics(t *testing.T, p *drill.Pair, r *netlab.Router, want map[string]float64) (got map[string]float64) {
	t.Helper()
	var wrong []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got, wrong = scrape(t, r), nil
		for name, v := range want {
			have, ok := got[name]
			if more := have > v && (strings.HasPrefix(name, "tandem_records_") || strings.HasPrefix(name, "tandem_deletions_")); more && resent(t, p) {
				continue
			}
			if !ok || have != v {
				wrong = append(wrong, fmt.Sprintf("%s is %v (there: %t), want %v", name, have, ok, v))
			}
		}
		if len(wrong) == 0 {
			return got
		}
	}
	t.Errorf("metrics of %s:\n%s", r.Name, strings.Join(wrong, "\n"))
	return got
}

// resent says whether a router or its peer took a datagram for lost.
func resent(t *testing.T, p *drill.Pair) bool {
	t.Helper()
	for _, r := range p.Lab.Routers() {
		if ask(t, p, r).Sync.Counters.DatagramsLost > 0 {
			return true
		}
	}
	return false
}

// scrape reads a router's metrics inside of its namespace.
func scrape(t *testing.T, r *netlab.Router) map[string]float64 {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (c net.Conn, err error) {
			err = r.NS.Run(func() error {
				c, err = net.DialTimeout("tcp", "127.0.0.1:9817", 5*time.Second)
				return err
			})
			return c, err
		}}}
	resp, err := client.Get("http://127.0.0.1:9817/metrics")
	if err != nil {
		t.Fatalf("scrape %s: %v", r.Name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("scrape %s: %s (%v)", r.Name, resp.Status, err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
			if err != nil {
				t.Fatalf("scrape %s: %q: %v", r.Name, line, err)
			}
			out[line[:i]] = v
		}
	}
	return out
}

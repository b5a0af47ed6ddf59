// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// tooSmall is what status, events and check say of a kernel table into which
// the copy of 3,000 flows does not fit.
var tooSmall = regexp.MustCompile(`(?m)the kernel table is too small: \d+ entries and 3000 more in the copy of the peers' flows, ` +
	`nf_conntrack_max = 1500: raise it with sysctl -w net\.netfilter\.nf_conntrack_max=\d+$`)

// A kernel table that is smaller than the view: said before a takeover needs
// it, with the remedy, and no longer once it was followed.
func TestTableSmallerThanTheView(t *testing.T) {
	const flows = 3000
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{Edit: within("[conntrack-sync]", `commit = "takeover"`)})
	s := &scene{t: t, Pair: p}
	// Of a full table the kernel gives up what is not IPS_ASSURED, for a new entry
	// (early_drop) or all of it at once (gc_worker): none of these.
	s.gatherOf(load.CrowdConfig{TCPSNAT: flows})
	if err := p.AwaitCopied(t.Context(), p.Lab.R1, flows, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	r2 := p.Lab.R2
	if out := check(t, p, r2); strings.Contains(out, "too small") {
		t.Fatalf("check refuses before the table is small:\n%s", out)
	}
	restore := limitTables(t, "1500")
	if out := check(t, p, r2); !strings.Contains(out, "\nFAIL  kernel table: ") || !tooSmall.MatchString(out) {
		t.Errorf("check --live says:\n%s", out)
	}
	eventually(t, 10*time.Second, "alarm", func() bool { return tableAlarmed(s.status(r2)) })
	if out := run(t, r2, "status", "--socket", socket(p, r2)); !tooSmall.MatchString(out) {
		t.Errorf("status says:\n%s", out)
	}
	restore()
	eventually(t, 10*time.Second, "alarm over", func() bool { return !tableAlarmed(s.status(r2)) })
}

func tableAlarmed(s control.Status) bool {
	return slices.ContainsFunc(s.Alarms, func(a control.Alarm) bool {
		return a.Kind == "table-full" && tooSmall.MatchString(a.Text)
	})
}

// check runs check --live beside the daemon; it may refuse.
func check(t *testing.T, p *drill.Pair, r *netlab.Router) string {
	t.Helper()
	out, err := r.NS.Output(t.Context(), "sh", "-c", tandem+" check --live --config "+filepath.Join(p.Dir, r.Name+".toml")+" || true")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// limitTables sets the host's nf_conntrack_max, which counts for each
// namespace's table alone, and gives what puts it back.
func limitTables(t *testing.T, limit string) (restore func()) {
	t.Helper()
	const file = "/proc/sys/net/netfilter/nf_conntrack_max"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(v string) {
		if err := os.WriteFile(file, []byte(v), 0); err != nil {
			t.Errorf("set nf_conntrack_max: %v", err)
		}
	}
	restore = func() { write(strings.TrimSpace(string(before))) }
	t.Cleanup(restore)
	write(limit)
	return restore
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// This file compares what both routers hold without a line of tandem's code:
// Debian's conntrack prints the kernel tables, the built binary what the daemons
// believe, and both texts are read here.

// flowTable is flows as text, by their original tuple and protocol.
type flowTable map[string]string

// kernelEntries are the replicated flows of a router's kernel table as
// `conntrack -L` prints them: through the router, TCP once ASSURED and not yet
// closed, UDP once it was answered.
func kernelEntries(t *testing.T, r *netlab.Router) flowTable {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	text, err := r.NS.Output(ctx, "conntrack", "-L")
	if err != nil {
		t.Fatalf("list the kernel table of %s: %v", r.Name, err)
	}
	out := flowTable{}
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		key, value, kept := conntrackLine(sc.Text())
		if !kept {
			continue
		}
		// The kernel begins a bucket again when the entry that it was at is gone, and
		// lists some of it twice.
		if old, twice := out[key]; twice && old != value {
			t.Errorf("%s has two entries of %s: %s and %s", r.Name, key, old, value)
		}
		out[key] = value
	}
	return out
}

// conntrackLine reads a line such as
//
//	tcp 6 431999 ESTABLISHED src=10.0.0.50 dst=203.0.113.50 sport=2000 dport=7000 \
//	  src=203.0.113.50 dst=203.0.113.1 sport=7000 dport=49822 [ASSURED] mark=0 use=1
func conntrackLine(line string) (key, value string, replicated bool) {
	words := strings.Fields(line)
	if len(words) < 4 {
		return "", "", false
	}
	var addrs, tuples, rest []string
	state := ""
	if !strings.ContainsAny(words[3], "=[") {
		state = words[3]
	}
	for _, w := range words[3:] {
		name, v, _ := strings.Cut(w, "=")
		switch name {
		case "src", "dst":
			addrs = append(addrs, v)
			tuples = append(tuples, v)
		case "sport", "dport", "type", "code", "id", "srckey", "dstkey":
			tuples = append(tuples, v)
		case "mark", "zone", "zone-orig", "zone-reply", "[ASSURED]":
			rest = append(rest, w)
		}
	}
	half := len(tuples) / 2
	key = words[0] + " " + strings.Join(tuples[:half], " ")
	value = strings.Join(tuples[half:], " ") + " " + ageless(state) + " " + strings.Join(rest, " ")
	return key, value, throughRouter(addrs) && isReplicated(words[0], state, line)
}

func isReplicated(protocol, state, line string) bool {
	switch protocol {
	case "tcp":
		return strings.Contains(line, "[ASSURED]") && state != "TIME_WAIT" && state != "CLOSE"
	case "udp":
		return !strings.Contains(line, "[UNREPLIED]")
	}
	return false
}

// ageless takes from a TCP state what packets set right by themselves, so that
// it is not written again at a Backup.
func ageless(state string) string {
	switch state {
	case "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "FIN-WAIT", "CLOSE-WAIT", "LAST-ACK":
		return "ESTABLISHED"
	}
	return state
}

// throughRouter says whether a flow neither begins nor ends at a router.
func throughRouter(addrs []string) bool {
	own := []string{"10.0.0.2", "10.0.0.3", "203.0.113.2", "203.0.113.3"}
	for i, a := range addrs {
		ip, err := netip.ParseAddr(a)
		sync := netip.MustParsePrefix("192.168.255.0/24")
		if err != nil || ip.IsLoopback() || sync.Contains(ip) || ip.IsMulticast() || i < 3 && slices.Contains(own, a) {
			return false
		}
	}
	return true
}

// believed are the flows that a router's daemon says it has: own, view or
// kernel.
func (s *scene) believed(r *netlab.Router, source string) flowTable {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	text, err := r.NS.Output(ctx, tandem, "-j", "flow", "list", "--"+source, "--socket", socket(s.Pair, r))
	if err != nil {
		s.t.Fatalf("list the flows of %s: %v", r.Name, err)
	}
	type tuple struct {
		Src, Dst     string
		Sport, Dport uint16
	}
	var list []struct {
		Protocol, State, Status string
		Original, Reply         tuple
		Mark                    uint32
	}
	if err := json.Unmarshal(text, &list); err != nil {
		s.t.Fatalf("read the flows of %s: %v", r.Name, err)
	}
	out := flowTable{}
	for _, f := range list {
		words := func(u tuple) string { return fmt.Sprint(u.Src, " ", u.Dst, " ", u.Sport, " ", u.Dport) }
		assured := ""
		if f.Status == "assured" {
			assured = "[ASSURED] "
		}
		key, value := f.Protocol+" "+words(f.Original), words(f.Reply)+" "+ageless(f.State)+" "+assured+"mark="+fmt.Sprint(f.Mark)
		if _, twice := out[key]; twice {
			s.t.Errorf("%s lists %s twice among %s", r.Name, key, source)
		}
		if f.Protocol == "tcp" || f.Protocol == "udp" {
			out[key] = value
		}
	}
	return out
}

// differences of b from a: as many lines as there are, the first few as text.
func differences(a, b flowTable) (n int, first []string) {
	say := func(text string) {
		if n++; n <= 3 {
			first = append(first, text)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(a)) {
		switch v, ok := b[k]; {
		case !ok:
			say("missing: " + k + " -> " + a[k])
		case v != a[k]:
			say("differs: " + k + " -> " + a[k] + ", but " + v)
		}
	}
	for k, v := range b {
		if _, ok := a[k]; !ok {
			say("too many: " + k + " -> " + v)
		}
	}
	return n, first
}

// same waits until both kernels hold the same replicated flows, the Active's
// daemon has just these as its own, and the Backup's has a view of just these;
// they are at least n. It returns how long that took.
func (s *scene) same(active *netlab.Router, n int, limit time.Duration) time.Duration {
	s.t.Helper()
	backup := s.Lab.Other(active)
	began, wrong := time.Now(), ""
	if err := s.AwaitCopied(s.t.Context(), active, n, limit); err != nil { // cheaper to ask
		s.t.Fatal(err)
	}
	eventually(s.t, limit, "the view committed", func() bool { return s.status(backup).Sync.Peers[0].Uncommitted == 0 })
	for {
		truth := kernelEntries(s.t, active)
		wrong = ""
		if len(truth) < n {
			wrong = fmt.Sprintf("%s has %d flows in its kernel table, want %d at least", active.Name, len(truth), n)
		}
		for _, c := range []struct {
			what string
			read func() flowTable
		}{
			{"own flows of " + active.Name, func() flowTable { return s.believed(active, control.SourceOwn) }},
			{"view of " + backup.Name, func() flowTable { return s.believed(backup, control.SourceView) }},
			{"kernel table of " + backup.Name, func() flowTable { return kernelEntries(s.t, backup) }},
		} {
			if wrong != "" {
				break
			}
			got := c.read()
			maps.DeleteFunc(got, func(k, _ string) bool {
				_, right := truth[k]
				return !right && s.orphan != nil && strings.HasPrefix(c.what, "kernel") && s.orphan(k)
			})
			if count, first := differences(truth, got); count > 0 {
				wrong = fmt.Sprintf("%s: %d of %d differ from the kernel table of %s: %s", c.what, count, len(truth), active.Name, strings.Join(first, "; "))
			}
		}
		if wrong == "" {
			took := time.Since(began)
			s.t.Logf("both hold the same %d flows after %v", len(truth), took.Round(10*time.Millisecond))
			return took
		}
		if time.Since(began) > limit {
			s.t.Fatalf("not the same after %v: %s", limit, wrong)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

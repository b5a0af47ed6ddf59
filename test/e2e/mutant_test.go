// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// allMutants is for `make proof`: the others take longer.
var allMutants = flag.Bool("mutants", false, "try all mutants, the slow ones too")

// TestMutants: tandem with one rule broken fails the scene that holds it, for
// the reason that is expected. The scenes are those that the product passes, run
// by this same binary in a process of its own.
func TestMutants(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "tandem")
	if err := buildTandem(binary, "-tags", "mutant"); err != nil {
		t.Fatal(err)
	}
	if !hasMutants(t, binary) {
		t.Fatal("the tag mutant makes no mutants")
	}
	for _, c := range []struct {
		mutant, scene string
		why           string // a regular expression for one of its complaints
		slow          bool
	}{
		{"no-fence", "TestCommitBehindTheFence", `RST on the wire|comes from elsewhere|moved [1-9]`, false},
		{"announce-first", "TestCommitBehindTheFence", `RST on the wire|comes from elsewhere|moved [1-9]`, true},
		{"no-refresh", "TestAgedEntriesComeBack", `of 1000 entries are back`, false},
		{"update-only", "TestThereAndBack/interface_down_and_up", `a stream stood still|silent for`, true},
	} {
		t.Run(c.mutant, func(t *testing.T) {
			if c.slow && !*allMutants {
				t.Logf("%s is tried by make proof", c.mutant)
				return
			}
			began := time.Now()
			out, err := scenePlayed(t, binary, c.mutant, c.scene)
			if err == nil {
				t.Fatalf("%s passes %s", c.mutant, c.scene)
			}
			found := regexp.MustCompile(`(?m)^.*(?:` + c.why + `).*$`).Find(out)
			if found == nil {
				t.Fatalf("%s fails %s, but not as it should:\n%s", c.mutant, c.scene, out)
			}
			t.Logf("caught after %v: %s", time.Since(began).Round(time.Second), bytes.TrimSpace(found))
		})
	}
}

// scenePlayed runs one test of this package with another binary.
func scenePlayed(t *testing.T, binary, mutant, scene string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var parts []string
	for part := range strings.SplitSeq(scene, "/") {
		parts = append(parts, "^"+part+"$")
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", strings.Join(parts, "/"), "-test.count", "1")
	cmd.Env = append(os.Environ(), "TANDEM_BINARY="+binary, "TANDEM_MUTANT="+mutant)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it takes its lab down
	cmd.WaitDelay = 10 * time.Second
	return cmd.CombinedOutput()
}

// A binary that is built as a release has no mutant in it, whatever its
// environment says.
func TestReleasedBinaryHasNoMutant(t *testing.T) {
	if hasMutants(t, tandem) {
		t.Error("mutants are in it")
	}
}

func hasMutants(t *testing.T, path string) bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(b, []byte("TANDEM_MUTANT"))
}

// TestAgedEntriesComeBack: flows may be silent for longer than the Backup's
// kernel keeps their entries; it must have them as long as their owner has.
func TestAgedEntriesComeBack(t *testing.T) {
	const flows = 1000
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{Edit: commitSoon})
	s := &scene{t: t, Pair: p}
	keepUDP(t, p.Lab)
	s.gather(flows)
	s.same(p.Lab.R1, flows, 10*time.Second)
	began := time.Now()
	age(t, p.Lab.R2, 1)
	if n := len(kernelEntries(t, p.Lab.R2)); n != flows && time.Since(began) < time.Second {
		t.Fatalf("the Backup has %d entries while they age", n)
	}
	fewest, back := flows, 0
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		back = len(kernelEntries(t, p.Lab.R2))
		fewest = min(fewest, back)
		if created := s.status(p.Lab.R2).Sync.Commits.Created; created >= 2*flows && back == flows {
			break
		}
	}
	created := s.status(p.Lab.R2).Sync.Commits.Created
	t.Logf("the Backup had %d entries at the fewest, has %d, and created %d in all", fewest, back, created)
	if created < 2*flows || back != flows {
		t.Fatalf("%d of %d entries are back", back, flows)
	}
	// As after a flush by an administrator.
	if _, err := p.Lab.R2.NS.Output(t.Context(), "conntrack", "-F"); err != nil {
		t.Fatal(err)
	}
	took := eventually(t, 10*time.Second, "the flushed entries back", func() bool { return len(kernelEntries(t, p.Lab.R2)) == flows })
	t.Logf("flushed entries are back after %v", took)
}

// age leaves all replicated entries of a router so many seconds, as if they had
// been silent for the rest of their time.
func age(t *testing.T, r *netlab.Router, seconds uint32) {
	t.Helper()
	err := r.NS.Run(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer h.Close()
		all, err := h.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		if err != nil {
			return err
		}
		for _, f := range all {
			if !f.Forward.SrcIP.Equal(netlab.LANCrowd.Addr().AsSlice()) && !f.Forward.SrcIP.Equal(netlab.WANCrowd.Addr().AsSlice()) {
				continue
			}
			f.TimeOut, f.Labels, f.Status = seconds, nil, 0
			if err := h.ConntrackUpdate(netlink.ConntrackTable, unix.AF_INET, f); err != nil {
				return fmt.Errorf("age %v: %w", f, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package conntrack_test

import (
	"testing"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/conntrack/policytest"
)

// TestPolicy runs the table of cases through the executor in Go; the loader
// runs it through the one in BPF.
func TestPolicy(t *testing.T) {
	seen := map[conntrack.Verdict]int{}
	for _, c := range policytest.Cases(t) {
		if got := c.Policy.Match(&c.Flow); got != c.Want {
			t.Errorf("line %s: verdict %d, want %d", c.Name, got, c.Want)
		}
		seen[c.Want]++
	}
	for _, v := range []conntrack.Verdict{conntrack.Ignore, conntrack.Replicate, conntrack.Gone} {
		if seen[v] < 5 {
			t.Errorf("verdict %d has %d cases only", v, seen[v])
		}
	}
}

func TestPolicyDoesNotAllocate(t *testing.T) {
	cases := policytest.Cases(t)
	if n := testing.AllocsPerRun(100, func() {
		for i := range cases {
			cases[i].Policy.Match(&cases[i].Flow)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

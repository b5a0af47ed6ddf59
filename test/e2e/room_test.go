// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// roomFor raises the host's bound on kernel tables, each of which may have so
// many entries, for the length of a test.
func roomFor(t *testing.T, entries int) {
	t.Helper()
	raise(t, "/proc/sys/net/netfilter/nf_conntrack_max", entries*3/2)
	raise(t, "/proc/sys/net/netfilter/nf_conntrack_buckets", entries) // of all namespaces together
}

func raise(t *testing.T, path string, to int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before := strings.TrimSpace(string(text))
	if n, err := strconv.Atoi(before); err != nil || n >= to {
		return
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(to)), 0); err != nil {
		t.Fatalf("make room for %d entries: %v", to, err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, []byte(before), 0); err != nil {
			t.Errorf("set %s back: %v", path, err)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
)

// What needs namespaces and other users is asked in cmd/tandem/testdata/script.

func load(t *testing.T, more string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	text := "[vrrp.group.A]\ninterface = \"lo\"\nvrid = 1\naddress = \"10.254.254.1/24\"\n[control]\nsocket = \"" + filepath.Dir(path) + "/s\"\n" + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// answers gives what was said about one thing.
func answers(found []Finding, what string) (out []Finding) {
	for _, f := range found {
		if f.What == what {
			out = append(out, f)
		}
	}
	return out
}

func TestTableSmallerThanView(t *testing.T) {
	cfg := load(t, "")
	peers := func(n int) *control.Status {
		return &control.Status{Sync: &control.SyncStatus{Peers: []control.SyncPeer{{Uncommitted: n}}}}
	}
	if got := answers(Ask(cfg, peers(0)), "kernel table"); len(got) != 1 || got[0].Level != OK {
		t.Errorf("an empty view: %+v", got)
	}
	const more = 1 << 30
	found := Ask(cfg, peers(more))
	got := answers(found, "kernel table")
	if len(got) != 1 || got[0].Level != Fail || !strings.Contains(got[0].Text, "and 1073741824 more in the copy of the peers' flows") {
		t.Errorf("a view that does not fit: %+v", got)
	}
	if err := Refusal(found); err == nil || !strings.Contains(err.Error(), "the kernel table is too small") {
		t.Errorf("Refusal: %v", err)
	}
}

// What a running daemon holds is not taken by somebody else.
func TestPortsOfRunningDaemon(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cfg := load(t, "[metrics]\nlisten = [\""+l.Addr().String()+"\"]\n")
	want := []Finding{{OK, "ports", "held by the tandem that is running"}}
	if d := cmp.Diff(want, answers(Ask(cfg, &control.Status{}), "ports")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	self := fmt.Sprintf("is taken by %s (process %d)", strings.TrimSpace(string(comm)), os.Getpid())
	if got := answers(Ask(cfg, nil), "ports"); len(got) != 1 || got[0].Level != Fail || !strings.Contains(got[0].Text, self) {
		t.Errorf("without a daemon: %+v", got)
	}
}

// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// What the lab writes is a configuration that tandem accepts and that means
// what the guide says.
func TestConfig(t *testing.T) {
	for _, r := range []*netlab.Router{{Name: "r1", Index: 1}, {Name: "r2", Index: 2}} {
		path := filepath.Join(t.TempDir(), r.Name+".toml")
		if err := os.WriteFile(path, []byte(Config(r, "/tmp/x.sock", 100*time.Millisecond)), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]uint8{"r1": 200, "r2": 100}[r.Name]
		if len(c.VRRP.Groups) != 2 || c.VRRP.Groups[0].Priority != want || c.VRRP.Groups[1].AdvertInterval != 100*time.Millisecond {
			t.Errorf("groups of %s: %+v", r.Name, c.VRRP.Groups)
		}
		if c.Sync == nil || c.Sync.SyncGroup != "MAIN" || c.Sync.Links[0].Peer[0] == c.Sync.Links[0].Listen {
			t.Errorf("sync of %s: %+v", r.Name, c.Sync)
		}
	}
}

func TestActiveDown(t *testing.T) {
	// shared/facts/vrrp.md: 10 ms, priority 100: 36.09375 ms; 1 s: 3609.375 ms.
	for _, c := range []struct {
		priority int
		interval time.Duration
		want     time.Duration
	}{
		{100, 10 * time.Millisecond, 36093750},
		{254, 10 * time.Millisecond, 30078125},
		{100, time.Second, 3609375 * time.Microsecond},
	} {
		if got := ActiveDown(c.priority, c.interval); got != c.want {
			t.Errorf("priority %d at %s: %s, want %s", c.priority, c.interval, got, c.want)
		}
	}
}

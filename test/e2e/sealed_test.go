// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// TestSealedPair: with a key the pair does what it does without, through a
// power cut; a third party's datagrams move a counter.
func TestSealedPair(t *testing.T) {
	key, err := link.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sync.key")
	if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	withKey := func(_, text string) string {
		return strings.Replace(text, `authentication = "none"`, `key-file = "`+path+`"`, 1)
	}
	s := play(t, netlab.Options{}, drill.PairOptions{Edit: withKey}, fast, 1000)
	r1, r2 := s.Lab.R1, s.Lab.R2
	unsealed := func() uint64 { return s.status(r2).Sync.Links[0].Counters.Dropped["unsealed"] }
	if n := unsealed(); n != 0 {
		t.Fatalf("%d datagrams of the peer were not sealed", n)
	}
	if err := r1.NS.Sysctl([2]string{"net/ipv4/ip_default_ttl", "255"}); err != nil { // else the hop limit keeps them out
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if out, err := r1.NS.Output(ctx, "bash", "-c", "for i in 1 2 3; do echo forged > /dev/udp/192.168.255.2/3781; done"); err != nil {
		t.Fatalf("send forged datagrams: %v: %s", err, out)
	}
	for end := time.Now().Add(2 * time.Second); unsealed() != 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("3 forged datagrams: %d were counted", unsealed())
		}
	}
	if p := s.status(r2).Sync.Peers[0]; p.View < 1000 || !p.Complete {
		t.Fatalf("r2's view: %+v", p)
	}
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r2, control.RoleActive, 3*time.Second)
	time.Sleep(2 * time.Second)
	s.judge("power cut")
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// TestWho: what a call tells, and whom it is not from.
func TestWho(t *testing.T) {
	a, b := testNode("a", 1), testNode("b", 2)
	twin, elsewhere := testNode("b", 3), New(Config{Name: "b", NetNS: 7, Rand: seeded(4), Policy: conntrack.DefaultPolicy()})
	buf := make([]byte, MinPayload)
	for _, tt := range []struct {
		name string
		from *Node
		asks bool
		want Who
	}{
		{"a peer", a, true, Who{Name: "a", Call: true, Asks: true}},
		{"a peer that hears us", a, false, Who{Name: "a", Call: true}},
		{"ourselves", twin, false, Who{Name: "b", Call: true, Self: true}},
		{"a namesake", elsewhere, false, Who{Name: "b", Call: true, Namesake: true}},
	} {
		if got, ok := b.Who(buf[:tt.from.FillCall(buf, tt.asks)]); !ok || got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	n := a.AddPeer("b", 1e12).Fill(buf, 1e12)
	if got, ok := b.Who(buf[:n]); !ok || got != (Who{Name: "a"}) {
		t.Errorf("a hello: %+v", got)
	}
	buf[n-1] ^= 1
	if got, ok := b.Who(buf[:n]); ok {
		t.Errorf("a damaged hello: %+v", got)
	}
	if p := b.Named("a"); p != nil || len(b.Peers()) > 0 {
		t.Error("listening alone made a peer")
	}

	// A peer's name is its own as long as it is up.
	w := ethernet()
	w.ab.given, w.ba.given = "b", "a"
	w.join(t, 1)
	call := buf[:New(Config{Name: "a", NetNS: 7, Rand: seeded(5), Policy: conntrack.DefaultPolicy()}).FillCall(buf, true)]
	if got, ok := w.b.Who(call); !ok || !got.Namesake || got.Self {
		t.Errorf("a second a beside one that is up: %+v", got)
	}
	w.cut[0], w.cut[1] = [2]bool{true, true}, [2]bool{true, true}
	w.run(400 * time.Millisecond)
	if got, ok := w.b.Who(call); !ok || got.Namesake {
		t.Errorf("a that rebooted: %+v", got)
	}
}

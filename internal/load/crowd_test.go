// SPDX-License-Identifier: Apache-2.0

package load_test

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// Every flow of a crowd answers through one router, on strict tracking, and
// those that need its kernel table fall silent without it.
func TestCrowd(t *testing.T) {
	const n = 4000
	lab := netlab.ForTest(t, netlab.Options{})
	if err := lab.R1.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	wire, err := lab.Wire()
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	c, err := drill.Crowd(lab, n)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for round := range 3 {
		run := c.Exchange
		if round == 0 {
			run = c.Open
		}
		r, err := run(t.Context(), 20*time.Second)
		t.Logf("round %d: %v", round, r)
		if err != nil || r.Answered != n || r.Bad != 0 || r.Moved != 0 || r.Resets != 0 {
			t.Fatalf("round %d: %v, %v: %v", round, r, err, r.Missing)
		}
	}
	if s := wire.Stats(); s.RST != 0 || s.ICMPErrors != 0 {
		t.Errorf("wire: %+v", s)
	}
	if _, err := lab.R1.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Exchange(t.Context(), 500*time.Millisecond); err != nil || r.Answered != 0 {
		t.Errorf("without a router: %v, %v", r, err)
	}
	if err := lab.R2.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	r, err := c.Exchange(t.Context(), 1500*time.Millisecond)
	t.Logf("addresses alone: %v", r)
	if err != nil || r.Answered > n*6/10 || r.Moved == 0 {
		t.Errorf("the crowd did not notice that its translations are gone: %v, %v", r, err)
	}
}

// A crowd that nobody answers: every flow is spoken to once, none is answered.
func TestOneWay(t *testing.T) {
	lab := netlab.ForTest(t, netlab.Options{})
	if err := lab.R1.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	c, err := drill.CrowdOf(lab, load.CrowdConfig{TCPSNAT: 3000, UDPSNAT: 3000, OneWay: true, Rate: 30000})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Open(t.Context(), 5*time.Second)
	if err != nil || r.Answered != 0 || r.Passes != 1 || r.Resets != 0 {
		t.Errorf("%v, %v", r, err)
	}
	n := 0
	for end := time.Now().Add(5 * time.Second); n != 6000 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		n = tracked(t, lab.R1)
	}
	if n != 6000 {
		t.Errorf("the router tracks %d flows, want 6000", n)
	}
}

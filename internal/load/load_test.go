// SPDX-License-Identifier: Apache-2.0

package load_test

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

var smallMix = load.Mix{Steady: 10, Idle: 6, Bulk: 4, UDP: 40, Ping: 5}

// A router that nothing happens to loses nothing.
func TestNothingHappens(t *testing.T) {
	lab := netlab.ForTest(t, netlab.Options{})
	if err := lab.R1.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	wire, err := lab.Wire()
	if err != nil {
		t.Fatal(err)
	}
	l, err := load.Start(drill.Paths(lab), smallMix)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var r load.Report
	for try := range 3 { // a processor that is taken away holds packets back, and later ones overtake them: once, not always
		l.Mark(netlab.Now())
		time.Sleep(2 * time.Second)
		if !l.AwaitHealthy(t.Context(), 10*time.Second) {
			t.Error("not healthy")
		}
		l.SpeakIdle(5 * time.Second)
		r = l.Report()
		t.Logf("try %d: %+v", try+1, r)
		if r.UDPGap.Max == 0 && r.PingGap.Max == 0 {
			break
		}
	}
	if len(r.TCPBroken) != 0 || len(r.UDPSilent) != 0 || len(r.PingSilent) != 0 || r.UDPGap.Max != 0 || r.PingGap.Max != 0 {
		t.Errorf("broken %v, silent %v %v, gaps %v %v", r.TCPBroken, r.UDPSilent, r.PingSilent, r.UDPGap, r.PingGap)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := wire.Stats()
	if s.FromRouters() != 0 {
		t.Errorf("wire: %+v", s)
	}
	if err := wire.Close(); err != nil {
		t.Fatal(err)
	}
}

// Addresses that move without the kernel table break connections, and the
// endpoints must notice: a drill that passes here would prove nothing.
func TestAddressesAloneBreak(t *testing.T) {
	lab := netlab.ForTest(t, netlab.Options{})
	if err := lab.R1.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	l, err := load.Start(drill.Paths(lab), smallMix)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wire, err := lab.Wire()
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	if l.Mark(netlab.Now()); !l.AwaitHealthy(t.Context(), 10*time.Second) {
		t.Fatalf("not healthy: %+v", l.Report())
	}
	at, err := lab.R1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	off := netlab.Now()
	l.Mark(off)
	time.Sleep(300 * time.Millisecond)
	if r := l.Report(); len(r.UDPSilent) < smallMix.UDP-2 { // a packet may have been on its way
		t.Errorf("without a router %d of %d UDP flows are silent: %+v", len(r.UDPSilent), smallMix.UDP, r)
	}
	least := netlab.Since(off)
	if err := lab.R2.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	most := netlab.Since(at)
	l.AwaitHealthy(t.Context(), 2*time.Second)
	l.SpeakIdle(time.Second)
	r, s := l.Report(), wire.Stats()
	t.Logf("TCP broken %d of %d, UDP silent %d of %d, silence %s, wire %+v\nfirst: %v\n%v",
		len(r.TCPBroken), r.TCP, len(r.UDPSilent), r.UDP, r.Silence.Length(), s, r.TCPBroken, r.UDPSilent)
	if len(r.TCPBroken) < 5 || len(r.UDPSilent) < 10 || s.RST == 0 {
		t.Errorf("the lab did not notice: TCP broken %d, UDP silent %d, RST %d", len(r.TCPBroken), len(r.UDPSilent), s.RST)
	}
	// An endpoint may read late what came before.
	if d := r.Silence.Length(); d < least-100*time.Millisecond || d > most+500*time.Millisecond {
		t.Errorf("silence lasted %s, want %s to %s", d, least, most)
	}
}

// Fragments pass and are counted like any packet.
func TestFragments(t *testing.T) {
	lab := netlab.ForTest(t, netlab.Options{})
	if err := lab.R1.HoldVIPs(); err != nil {
		t.Fatal(err)
	}
	l, err := load.Start(drill.Paths(lab), load.Mix{UDP: 20, UDPSize: 4000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Mark(netlab.Now())
	healthy := l.AwaitHealthy(t.Context(), 10*time.Second)
	if r := l.Report(); !healthy || len(r.UDPSilent) != 0 {
		t.Errorf("%+v", r)
	}
}

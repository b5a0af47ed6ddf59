// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bytes"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// The demo, as `make demo` runs it.
func TestCrash(t *testing.T) {
	var out bytes.Buffer
	began := time.Now()
	err := Crash(t.Context(), CrashOptions{Tandem: BinaryForTest(t), Out: &out})
	t.Logf("\n%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 4*time.Minute {
		t.Errorf("it took %s", took)
	}
}

// Election without copy: the same power cut breaks connections. If it did not,
// the drill would prove nothing.
func TestWithoutCopyConnectionsBreak(t *testing.T) {
	p := PrepareForTest(t, netlab.Options{}, PairOptions{Edit: withoutCopy})
	for _, r := range p.Lab.Routers() {
		if err := p.Start(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.AwaitRole(t.Context(), p.Lab.R1, control.RoleActive, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	l, err := load.Start(Paths(p.Lab), load.Mix{Steady: 10, Idle: 10, UDP: 40})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Mark(netlab.Now()); !l.AwaitHealthy(t.Context(), 10*time.Second) {
		t.Fatalf("connections do not talk before anything has happened: %+v", l.Report())
	}
	at, err := p.Lab.R1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	l.Mark(at)
	if _, err := p.AwaitRole(t.Context(), p.Lab.R2, control.RoleActive, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	l.AwaitHealthy(t.Context(), 3*time.Second)
	l.SpeakIdle(2 * time.Second)
	r := l.Report()
	t.Logf("TCP broken %d of %d, UDP silent %d of %d", len(r.TCPBroken), r.TCP, len(r.UDPSilent), r.UDP)
	if len(r.TCPBroken) < 5 || len(r.UDPSilent) < 10 {
		t.Errorf("connections survived without a copy: %+v", r)
	}
}

// withoutCopy takes [conntrack-sync] out of a configuration.
func withoutCopy(_, text string) string {
	head, rest, _ := bytes.Cut([]byte(text), []byte("[conntrack-sync]"))
	_, tail, _ := bytes.Cut(rest, []byte("[control]"))
	return string(head) + "[control]" + string(tail)
}

// What is left in the kernel is seen, unless somebody who lives holds it.
func TestLeftovers(t *testing.T) {
	before, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	lab := netlab.ForTest(t, netlab.Options{})
	leave(t, lab)
	left, err := leftovers(before, 0)
	if err != nil || len(left) != 1 {
		t.Fatalf("left %q (%v), want one program", left, err)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := leftovers(before, 20*time.Second); err != nil || len(left) != 0 {
		t.Errorf("left %q (%v) after the namespace ended", left, err)
	}
}

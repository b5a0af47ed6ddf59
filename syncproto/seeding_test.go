// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
)

// A node that begins anew reads its kernel table while it is heard already. Its
// peer keeps what it has until the last of it was read and said: not one of the
// flows leaves its view, or its kernel table, for a moment.
func TestRestartWhileSeeding(t *testing.T) {
	const n = 300
	c := newCouple()
	for i := range uint32(n) {
		c.a.Tell(tcpFlow(i), c.now)
	}
	c.run(100 * time.Millisecond)
	v := c.ba.View()
	ops, tokens := v.Pending(nil, nil, n, 0, c.now)
	if len(ops) != n || !v.Complete() {
		t.Fatalf("%d of %d are to be committed, complete: %t", len(ops), n, v.Complete())
	}
	v.Done(tokens, ops)

	cfg := Config{Policy: conntrack.DefaultPolicy(), Rand: seeded(3), Name: "a", Seeding: true}
	c.a = New(cfg)
	c.ab = c.a.AddPeer("to b", c.now)
	check := func(when string) {
		t.Helper()
		if ops, _ := v.Pending(nil, nil, n, 0, c.now); v.Len() < n || len(ops) != 0 {
			t.Fatalf("%s: the view has %d flows of %d, %d operations", when, v.Len(), n, len(ops))
		}
	}
	for i := range uint32(n) {
		if i%10 == 0 {
			c.run(20 * time.Millisecond)
			check("while seeding")
		}
		if v.Complete() && c.ab.Up() {
			t.Fatalf("the view is complete after %d flows were read", i)
		}
		c.a.Seed(tcpFlow(i), c.now)
	}
	c.a.Seeded(c.now)
	if v.Complete() && c.ab.Up() {
		t.Error("complete before the last was said")
	}
	c.run(500 * time.Millisecond)
	check("in the end")
	if !v.Complete() || v.former != 0 || !c.ab.Drained() {
		t.Errorf("complete %t, %d former, drained %t: %+v", v.Complete(), v.former, c.ab.Drained(), c.ab.Stats())
	}
}

// Nothing to seed, or no peer yet: COMPLETE is said all the same.
func TestSeededWithoutFlows(t *testing.T) {
	for _, before := range []bool{false, true} {
		c := newCouple()
		c.a.cfg.Seeding = true
		if !before {
			c.run(100 * time.Millisecond)
			if c.ba.View().Complete() {
				t.Error("complete before anything was read")
			}
		}
		c.a.Seeded(c.now)
		c.run(200 * time.Millisecond)
		if !c.ba.View().Complete() {
			t.Errorf("seeded before the session began: %t: never complete", before)
		}
	}
}

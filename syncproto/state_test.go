// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"testing"
	"time"
)

// A firewall on one side: b hears nothing for a second while a hears b all the
// time. What a said of itself before is told again when b hears it again,
// though it did not change and the session is the same: whoever was told that
// the peer is down has forgotten it.
func TestStateIsToldAfterOneWaySilence(t *testing.T) {
	c := newCouple()
	c.a.SetState([]byte("Active"), c.now)
	c.run(time.Second)
	c.b.Events()
	sessions := c.ba.Stats().Sessions
	buf := make([]byte, 1472)
	for end := c.now + int64(time.Second); c.now < end; c.now += ms {
		c.a.Tick(c.now)
		c.b.Tick(c.now)
		for c.ab.Fill(buf, c.now) > 0 { // lost
		}
		for n := c.ba.Fill(buf, c.now); n > 0; n = c.ba.Fill(buf, c.now) {
			_ = c.ab.Receive(buf[:n], c.now)
		}
	}
	if c.ba.Up() || !c.ab.Up() {
		t.Fatalf("b hears a: %t, a hears b: %t", c.ba.Up(), c.ab.Up())
	}
	c.run(200 * time.Millisecond)
	var kinds []EventKind
	for _, ev := range c.b.Events() {
		kinds = append(kinds, ev.Kind)
		if ev.Kind == PeerState && string(ev.Blob) != "Active" {
			t.Errorf("b was told %q", ev.Blob)
		}
	}
	want := []EventKind{PeerDown, PeerUp, PeerState}
	if len(kinds) != 3 || kinds[0] != want[0] || kinds[1] != want[1] || kinds[2] != want[2] {
		t.Errorf("b was told %v, want %v", kinds, want)
	}
	if got := c.ba.Stats().Sessions; got != sessions {
		t.Errorf("%d sessions, want %d: this proves nothing", got, sessions)
	}
}

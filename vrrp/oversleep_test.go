// SPDX-License-Identifier: Apache-2.0

package vrrp

import "testing"

func TestOversleep(t *testing.T) {
	I := 100 * ms
	t.Run("Backup re-arms one interval, once", func(t *testing.T) {
		s := backup(t, router(100))
		at := start + down(100, I)
		s.Tick(at+I, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote timeout") // one interval is still on time
		s = backup(t, router(100))
		s.Tick(at+I+1, true)
		want(t, s, Backup)
		wantDeadline(t, s, at+2*I+1)
		s.Tick(at+9*I, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote timeout")
	})
	t.Run("Backup that drained stays", func(t *testing.T) {
		s := backup(t, router(100))
		now := start + 50*I
		s.Wake(now)
		s.hear(t, 0, 200, highAddr, I, now-I, now) // queued while we slept
		s.Tick(now, true)
		want(t, s, Backup)
	})
	t.Run("Active listens, then speaks", func(t *testing.T) {
		s, now := active(t, router(100))
		now += 3*I + 1
		s.Wake(now)
		s.Tick(now, true)
		want(t, s, Active)
		wantDeadline(t, s, now+down(100, I))
		if s.Sure() != 0 {
			t.Error("it listens, and is sure of its role")
		}
		s.Tick(now+down(100, I), true)
		want(t, s, Active, "send 100", "announce")
		if got := s.Sure(); got != now+down(100, I)+3*I {
			t.Errorf("sure until %d after it spoke, want three intervals", got-now-down(100, I))
		}
	})
	t.Run("Active is sure until it would listen", func(t *testing.T) {
		s, now := active(t, router(100))
		if got := s.Sure(); got != now+3*I {
			t.Errorf("sure for %d, want three intervals", got-now)
		}
		s.Wake(s.Sure() + 1)
		if s.Sure() != 0 {
			t.Error("sure after that time")
		}
		if got := backup(t, router(100)).Sure(); got != 0 {
			t.Errorf("a Backup is sure until %d", got)
		}
	})
	t.Run("Active on time does not listen", func(t *testing.T) {
		s, now := active(t, router(100))
		now += 3 * I
		s.Wake(now)
		s.Tick(now, true)
		want(t, s, Active, "send 100")
	})
	t.Run("Active listens and hears a lower one", func(t *testing.T) {
		s, now := active(t, router(100))
		s.Wake(now + 9*I)
		s.hear(t, 0, 1, lowAddr, I, now+8*I, now+9*I)
		want(t, s, Backup, "Active->Backup", "demote overslept")
	})
	t.Run("what was queued before the sleep does not count", func(t *testing.T) {
		s, now := active(t, router(100))
		s.Wake(now + 9*I)
		s.hear(t, 0, 1, lowAddr, I, now-ms, now+9*I)
		want(t, s, Active)
	})
	t.Run("Active that was suspended listens", func(t *testing.T) {
		s, now := active(t, router(100))
		s.Resumed(3*I, now+ms)
		s.Tick(now+I, true)
		want(t, s, Active)
		wantDeadline(t, s, now+ms+down(100, I))
		s.hear(t, 0, 1, lowAddr, I, now+2*ms, now+2*ms)
		want(t, s, Backup, "Active->Backup", "demote overslept")
	})
	t.Run("Active that was suspended for a moment goes on", func(t *testing.T) {
		s, now := active(t, router(100))
		s.Resumed(2*I, now+ms)
		s.Tick(now+I, true)
		want(t, s, Active, "send 100")
	})
	t.Run("Backup that was suspended waits for an advert", func(t *testing.T) {
		s := backup(t, router(100))
		now := start + down(100, I) - ms
		s.Resumed(ms, now)
		wantDeadline(t, s, now+I)
		s.Tick(now+I-1, true)
		want(t, s, Backup)
		s.Tick(now+I, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote timeout")
		s = backup(t, router(100))
		s.Resumed(ms, start+ms)
		wantDeadline(t, s, start+down(100, I))
	})
}

// SPDX-License-Identifier: Apache-2.0

package vrrp

import "testing"

// The timeout of a Backup whose Active is silent, and vouched for or not.
func TestSecondPath(t *testing.T) {
	I := 100 * ms
	D := down(100, I)
	promoted := []string{"send 100", "Backup->Active", "promote timeout"}
	doubted := append([]string{"doubt true"}, promoted...)
	for _, tt := range []struct {
		name  string
		path  SecondPath
		age   int64    // of the word when the timer runs out
		first []string // at the deadline
		after []string // one interval later
	}{
		{"off", SecondPathOff, 0, promoted, nil},
		{"alarm, nobody vouches", SecondPathAlarm, -1, promoted, nil},
		{"alarm, the word is older than an interval", SecondPathAlarm, I + 1, promoted, nil},
		{"alarm", SecondPathAlarm, I, doubted, nil},
		{"hold, the word is older than an interval", SecondPathHold, I + 1, promoted, nil},
		{"hold", SecondPathHold, 10 * ms, []string{"doubt true"}, promoted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := backup(t, router(100))
			s.SetSecondPath(tt.path)
			s.hear(t, 0, 200, highAddr, I, start, start)
			at := start + D
			if tt.age >= 0 {
				s.Vouched(at - tt.age)
			}
			s.Tick(at, true)
			state := Active
			if tt.after != nil {
				state = Backup
			}
			want(t, s, state, tt.first...)
			if tt.after == nil {
				return
			}
			wantDeadline(t, s, at+I)
			s.Vouched(at + I) // it waits once, whatever is said
			s.Tick(at+I, true)
			want(t, s, Active, tt.after...)
		})
	}
}

func TestSecondPathEnds(t *testing.T) {
	I := 100 * ms
	D := down(100, I)
	held := func(t *testing.T) (*Set, int64) {
		s := backup(t, router(100))
		s.SetSecondPath(SecondPathHold)
		s.hear(t, 0, 200, highAddr, I, start, start)
		s.Vouched(start + D)
		s.Tick(start+D, true)
		want(t, s, Backup, "doubt true")
		return s, start + D
	}
	t.Run("an advert is heard again, and the next silence is asked about anew", func(t *testing.T) {
		s, now := held(t)
		s.hear(t, 0, 200, highAddr, I, now+ms, now+ms)
		want(t, s, Backup, "doubt false")
		now += ms + D
		s.Vouched(now)
		s.Tick(now, true)
		want(t, s, Backup, "doubt true")
	})
	t.Run("Active, and nobody vouches any more", func(t *testing.T) {
		s, now := held(t)
		s.Tick(now+I, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote timeout")
		s.Vouched(now + I)
		s.Tick(now+2*I, true)
		want(t, s, Active, "send 100")
		s.Tick(now+3*I, true)
		want(t, s, Active, "doubt false", "send 100")
	})
	t.Run("Active, and the role is left", func(t *testing.T) {
		s, now := held(t)
		s.Tick(now+I, true)
		s.Actions()
		s.hear(t, 0, 200, highAddr, I, now+I+ms, now+I+ms)
		want(t, s, Backup, "doubt false", "Active->Backup", "demote higher-priority")
	})
	t.Run("priority 0 is no silence", func(t *testing.T) {
		s := backup(t, router(100))
		s.SetSecondPath(SecondPathHold)
		s.hear(t, 0, 200, highAddr, I, start, start)
		s.hear(t, 0, 0, highAddr, I, start+ms, start+ms)
		now := s.NextDeadline()
		s.Vouched(now)
		s.Tick(now, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote priority-zero")
	})
	t.Run("a preemption is no silence", func(t *testing.T) {
		s := backup(t, router(100))
		s.SetSecondPath(SecondPathHold)
		for at := start; at < start+D; at += I {
			s.hear(t, 0, 99, lowAddr, I, at, at)
		}
		s.Actions()
		now := s.NextDeadline()
		s.Vouched(now)
		s.Tick(now, true)
		want(t, s, Active, "send 100", "would-preempt false", "Backup->Active", "promote timeout")
	})
	t.Run("an Active that was never heard", func(t *testing.T) {
		s := backup(t, router(100))
		s.SetSecondPath(SecondPathHold)
		s.Vouched(start + D)
		s.Tick(start+D, true)
		want(t, s, Backup, "doubt true")
	})
}

// A stranger that was taken for the heir stays it only when the word comes again:
// else a flood of lower adverts, at the moment of the Active's death and of a word
// that was read late, would keep the role from us for ever.
func TestHeirOnTheWordOfTheDead(t *testing.T) {
	I := 100 * ms
	for _, renewed := range []bool{false, true} {
		s := NewSet([]Config{router(100)}, true)
		s.SetSecondPath(SecondPathAlarm)
		s.Start(start)
		s.hear(t, 0, 200, highAddr, I, start, start)
		s.Vouched(start + 2*I)
		end := start
		for at := start + 2*I; at < start+20*I && s.State() == Backup; at += I / 10 {
			if renewed {
				s.Vouched(at)
			}
			s.hear(t, 0, 50, lowAddr, I, at, at)
			s.Tick(at, true)
			end = at
		}
		if got := s.State() == Backup; got != renewed {
			t.Errorf("renewed %v: still a Backup %v", renewed, got)
		}
		if limit := start + 2*I + 3*I + down(100, I) + I/10; !renewed && end > limit {
			t.Errorf("took over after %d ms, want at most %d", (end-start)/ms, (limit-start)/ms)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"bytes"
	"testing"
)

func TestSetPriority(t *testing.T) {
	I := 100 * ms
	// An Active speaks with the new one, and an equal it outranked now wins.
	s, now := active(t, router(200))
	s.SetPriority(0, 90)
	s.Tick(now+I, true)
	want(t, s, Active, "send 90")
	if got := s.Status(0).Priority; got != 90 {
		t.Errorf("status says priority %d", got)
	}
	s.hear(t, 0, 100, lowAddr, I, now+I+ms, now+I+ms)
	want(t, s, Backup, "Active->Backup", "demote higher-priority")

	// A Backup's next timer has it; above the Active's it preempts.
	s = backup(t, router(100))
	s.hear(t, 0, 150, highAddr, I, start+ms, start+ms)
	s.SetPriority(0, 160)
	s.hear(t, 0, 150, highAddr, I, start+I, start+I)
	wantDeadline(t, s, start+ms+down(100, I)) // not adopted: the timer of the first one keeps running
	s.Tick(start+ms+down(100, I), true)
	want(t, s, Active, "would-preempt true", "send 160", "would-preempt false", "Backup->Active", "promote timeout")

	// The owner's stays, and nobody becomes an owner or a release.
	s = NewSet([]Config{router(255)}, false)
	s.SetPriority(0, 10)
	s.Start(start)
	want(t, s, Active, "send 255", "Initialize->Active", "promote owner")
	s, now = active(t, router(200))
	s.SetPriority(0, 255)
	s.SetPriority(0, 0)
	s.Tick(now+I, true)
	want(t, s, Active, "send 200")
}

func TestSetUnwell(t *testing.T) {
	s, now := twoActive(t)
	s.SetUnwell(0, true, now+ms)
	// Both members can speak: both release.
	want(t, s, Initialize, "send 0", "send 0 on 1", "Active->Initialize", "demote unwell")
	s.SetUnwell(0, true, now+2*ms)
	want(t, s, Initialize)
	s.SetFault(0, true, now+3*ms)
	s.SetUnwell(0, false, now+4*ms)
	want(t, s, Initialize) // its interface is down meanwhile
	s.SetFault(0, false, now+5*ms)
	want(t, s, Backup, "Initialize->Backup")
	s.SetUnwell(1, true, now+6*ms)
	want(t, s, Initialize, "Backup->Initialize")
	wantDeadline(t, s, 0)
}

func TestSetAside(t *testing.T) {
	I := 100 * ms
	s, now := twoActive(t)
	s.SetAside(true, now+ms)
	want(t, s, Backup, "send 0", "send 0 on 1", "Active->Backup", "demote maintenance")
	// Nobody comes, and still it stays; its timers run on.
	for range 3 {
		now = s.NextDeadline()
		if now == 0 {
			t.Fatal("a set that is aside has no timer")
		}
		s.Tick(now, true)
		want(t, s, Backup)
	}
	if s.TakeOver(now) {
		t.Error("it took over by hand-over")
	}
	// A lower Active, a released role: neither moves it.
	s.hear(t, 0, 50, lowAddr, I, now+ms, now+ms)
	s.hear(t, 1, 50, lowAddr, I, now+ms, now+ms)
	want(t, s, Backup)
	s.hear(t, 0, 0, lowAddr, I, now+2*ms, now+2*ms)
	s.hear(t, 1, 0, lowAddr, I, now+2*ms, now+2*ms)
	now = s.NextDeadline()
	s.Tick(now, true)
	want(t, s, Backup)
	// Back again, it is a Backup like any other.
	s.SetAside(false, now+ms)
	s.Tick(s.NextDeadline(), true)
	want(t, s, Active, "send 100", "send 100 on 1", "Backup->Active", "promote timeout")
}

// Another configuration in the midst of a role: no state changes, no advert is
// early or late, and the next one has the new addresses.
func TestReconfigure(t *testing.T) {
	I := 100 * ms
	c := router(100)
	c.Interval, c.Preempt = I, false
	s := NewSet([]Config{c}, false)
	s.Start(start)
	s.hear(t, 0, 50, lowAddr, I, start+ms, start+ms)
	s.Actions()
	due := s.NextDeadline()
	c.Preempt, c.Addresses, c.Priority = true, []byte{10, 0, 0, 7}, 7
	s.Reconfigure(0, c, start+ms)
	want(t, s, Backup)
	if s.NextDeadline() != due {
		t.Errorf("the deadline moved by %d ns", s.NextDeadline()-due)
	}
	s.hear(t, 0, 50, lowAddr, I, start+2*ms, start+2*ms) // is not followed any more
	want(t, s, Backup, "would-preempt true")
	if s.NextDeadline() != due {
		t.Errorf("a lower Active is followed: the deadline moved by %d ns", s.NextDeadline()-due)
	}
	s.Tick(due, true)
	want(t, s, Active, "send 100", "would-preempt false", "Backup->Active", "promote timeout")
	var a Advert
	s.Advert(0, 100, &a)
	if !bytes.Equal(a.Addresses, c.Addresses) {
		t.Errorf("the advert lists %v", a.Addresses)
	}
}

// Another interval: an Active keeps its role and says it at once, whether it is
// longer or shorter, and has not overslept by the shorter one. A Backup goes on
// by what the Active says; one that hears none waits by its own.
func TestReconfigureInterval(t *testing.T) {
	c := router(100)
	c.Interval = second
	s := NewSet([]Config{c}, false)
	s.Start(start)
	s.Actions()
	c.Interval = 100 * ms
	s.Reconfigure(0, c, start+ms)
	want(t, s, Backup)
	if got, want := s.NextDeadline(), start+ms+3*c.Interval+156*c.Interval/256; got != want {
		t.Errorf("a Backup alone waits until %d, want %d", got-start, want-start)
	}
	s.Tick(s.NextDeadline(), true)
	want(t, s, Active, "send 100", "Backup->Active", "promote timeout")
	now := s.NextDeadline()
	for _, c.Interval = range []int64{10 * ms, second, 10 * ms} {
		now += 5 * ms
		s.members[0].sent = now - 90*ms
		s.Reconfigure(0, c, now)
		s.Wake(now)
		want(t, s, Active, "send 100")
		var a Advert
		s.Advert(0, 100, &a)
		due := []int64{c.Interval, c.Interval, c.Interval}
		if c.Interval == second { // said three times at the former pace
			due = []int64{10 * ms, 10 * ms, second}
		}
		for i, after := range due {
			if got := s.NextDeadline() - now; a.Interval != c.Interval || got != after {
				t.Errorf("interval %d, advert %d: it says %d, the next one is due in %d", c.Interval, i, a.Interval, got)
			}
			now += after
			s.Tick(now, true)
			want(t, s, Active, "send 100")
		}
	}
	s.hear(t, 0, 200, highAddr, second, now, now)
	s.Actions()
	due := s.NextDeadline()
	c.Interval = 50 * ms
	s.Reconfigure(0, c, now+ms)
	if want(t, s, Backup); s.NextDeadline() != due {
		t.Errorf("a Backup that follows an Active moves its deadline by %d", s.NextDeadline()-due)
	}
}

// An owner that is aside waits, and takes its addresses back afterwards.
func TestOwnerAside(t *testing.T) {
	s := NewSet([]Config{router(255)}, false)
	s.SetAside(true, start)
	s.Start(start)
	want(t, s, Backup, "Initialize->Backup")
	s.Tick(s.NextDeadline(), true)
	want(t, s, Backup)
	s.SetAside(false, start+1000*ms)
	s.Tick(s.NextDeadline(), true)
	want(t, s, Active, "send 255", "Backup->Active", "promote timeout")
}

// What a set that is aside would like is nobody's business.
func TestAsideWantsNothing(t *testing.T) {
	I := 100 * ms
	s := NewSet([]Config{router(100)}, true)
	s.Start(start)
	s.Actions()
	s.hear(t, 0, 50, lowAddr, I, start+ms, start+ms)
	want(t, s, Backup, "would-preempt true")
	s.SetAside(true, start+2*ms)
	want(t, s, Backup, "would-preempt false")
	s.hear(t, 0, 50, lowAddr, I, start+I, start+I)
	want(t, s, Backup)
	s.SetAside(false, start+I+ms)
	s.hear(t, 0, 50, lowAddr, I, start+2*I, start+2*I)
	want(t, s, Backup, "would-preempt true")
}

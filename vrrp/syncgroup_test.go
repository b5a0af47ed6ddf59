// SPDX-License-Identifier: Apache-2.0

package vrrp

import "testing"

func two(t *testing.T) *Set {
	s := NewSet([]Config{router(100), router(100)}, false)
	s.SetSource(0, selfAddr)
	s.SetSource(1, selfAddr)
	s.Start(start)
	want(t, s, Backup, "Initialize->Backup")
	return s
}

func twoActive(t *testing.T) (*Set, int64) {
	s := two(t)
	now := start + down(100, 100*ms)
	s.Tick(now, true)
	want(t, s, Active, "send 100", "send 100 on 1", "Backup->Active", "promote timeout")
	return s, now
}

func TestSetTakesOverTogether(t *testing.T) {
	I := 100 * ms
	s := two(t)
	s.hear(t, 1, 200, highAddr, I, start+50*ms, start+50*ms)
	s.Tick(start+down(100, I), true)
	want(t, s, Backup) // member 0 has timed out, member 1 has not
	s.Tick(start+50*ms+down(100, I), true)
	want(t, s, Active, "send 100", "send 100 on 1", "Backup->Active", "promote timeout")
}

func TestSetMemberSilentAlone(t *testing.T) {
	I := 100 * ms
	s := two(t)
	quiet := start + down(100, I)
	for at := start; at < quiet+down(100, I); at += I {
		s.hear(t, 1, 200, highAddr, I, at, at)
		s.Tick(at, true)
	}
	want(t, s, Backup)
	now := quiet + down(100, I)
	if next := s.NextDeadline(); next > now {
		t.Errorf("no deadline for the alarm")
	}
	s.hear(t, 1, 200, highAddr, I, now, now)
	s.Tick(now, true)
	want(t, s, Backup, "silent 0 true")
	s.hear(t, 0, 200, highAddr, I, now+1, now+1)
	want(t, s, Backup, "silent 0 false")
}

func TestSetFaultOfOne(t *testing.T) {
	s, now := twoActive(t)
	s.SetFault(0, true, now+ms)
	want(t, s, Initialize, "send 0 on 1", "Active->Initialize", "demote interface-down")
	s.SetFault(0, true, now+2*ms)
	want(t, s, Initialize)
	s.SetFault(1, true, now+3*ms)
	s.SetFault(0, false, now+4*ms)
	want(t, s, Initialize)
	s.SetFault(1, false, now+5*ms)
	want(t, s, Backup, "Initialize->Backup")

	s = two(t)
	s.SetFault(1, true, start+ms)
	want(t, s, Initialize, "Backup->Initialize")
	wantDeadline(t, s, 0)
}

func TestSetStepsBackTogether(t *testing.T) {
	I := 100 * ms
	s, now := twoActive(t)
	s.hear(t, 1, 200, highAddr, I, now+ms, now+ms)
	want(t, s, Backup, "send 0", "Active->Backup", "demote higher-priority")
	s.Tick(now+2*I, true)
	want(t, s, Backup)

	s, now = twoActive(t)
	s.Shutdown(now)
	want(t, s, Initialize, "send 0", "send 0 on 1", "Active->Initialize", "demote shutdown")
}

func TestSetWouldPreemptNeedsAll(t *testing.T) {
	I := 100 * ms
	s := NewSet([]Config{router(100), router(100)}, true)
	s.Start(start)
	s.Actions()
	s.hear(t, 0, 50, lowAddr, I, start+ms, start+ms)
	want(t, s, Backup)
	s.hear(t, 1, 50, lowAddr, I, start+2*ms, start+2*ms)
	want(t, s, Backup, "would-preempt true")
	s.hear(t, 1, 0, lowAddr, I, start+3*ms, start+3*ms)
	want(t, s, Backup, "would-preempt false")
}

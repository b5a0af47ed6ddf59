// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// give hands member 0 an advert as it is and returns what became of it.
func (s *Set) give(a Advert, at int64) Drop {
	m := Meta{Src: highAddr, Dst: Group4, TTL: TTL}
	return s.Receive(0, a.Append(nil, ChecksumAuto, m), m, at, at)
}

func advert2(priority uint8) Advert {
	return Advert{Version: 2, VRID: 10, Priority: priority, Interval: second, Addresses: vip4}
}

// The rows of the state table that version 2 (RFC 3768 section 6.4) has
// otherwise; all others are those of TestStateTable.
func TestStateTableVersion2(t *testing.T) {
	const skew = (256 - 100) * second / 256 // of a second, whatever the interval
	t.Run("Initialize/startup, other", func(t *testing.T) {
		s := NewSet([]Config{router(100, v2, every(3*second))}, false)
		s.Start(start)
		want(t, s, Backup, "Initialize->Backup")
		wantDeadline(t, s, start+9*second+skew)
	})
	t.Run("Backup/higher or equal", func(t *testing.T) {
		for _, p := range []uint8{100, 101, 255} {
			s := backup(t, router(100, v2))
			s.hear(t, 0, p, lowAddr, second, start+10*ms, start+20*ms)
			want(t, s, Backup)
			wantDeadline(t, s, start+10*ms+3*second+skew)
		}
	})
	t.Run("Backup/priority 0", func(t *testing.T) {
		s := backup(t, router(100, v2))
		s.hear(t, 0, 0, lowAddr, second, start+10*ms, start+10*ms)
		wantDeadline(t, s, start+10*ms+skew)
		s.Tick(start+10*ms+skew, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote priority-zero")
	})
	t.Run("Backup/lower, preempt", func(t *testing.T) {
		s := backup(t, router(100, v2))
		s.hear(t, 0, 99, highAddr, second, start+ms, start+ms)
		want(t, s, Backup, "would-preempt true")
		wantDeadline(t, s, start+3*second+skew)
	})
	t.Run("Backup/another interval", func(t *testing.T) {
		s := backup(t, router(100, v2))
		a := advert2(200)
		a.Interval = 2 * second
		if d := s.give(a, start+ms); d != DropDiffers {
			t.Errorf("drop %d, want DropDiffers", d)
		}
		wantDeadline(t, s, start+3*second+skew) // neither adopted nor heard
		s.Tick(start+3*second+skew, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote timeout")
	})
	t.Run("Active/another interval", func(t *testing.T) {
		s, now := active(t, router(100, v2))
		a := advert2(200)
		a.Interval = 2 * second
		s.give(a, now+ms)
		want(t, s, Active)
	})
	t.Run("Active/Adver_Timer", func(t *testing.T) {
		s, now := active(t, router(100, v2))
		s.Tick(now+second, true)
		want(t, s, Active, "send 100")
		wantDeadline(t, s, now+2*second)
	})
	t.Run("Active/higher", func(t *testing.T) {
		s, now := active(t, router(100, v2))
		s.hear(t, 0, 101, lowAddr, second, now+ms, now+ms)
		want(t, s, Backup, "Active->Backup", "demote higher-priority")
		wantDeadline(t, s, now+ms+3*second+skew)
	})
	t.Run("Active/lower", func(t *testing.T) {
		s, now := active(t, router(100, v2))
		s.hear(t, 0, 99, highAddr, second, now+ms, now+ms)
		want(t, s, Active, "announce") // no advert; ours: hosts may have believed the other
		s.hear(t, 0, 99, highAddr, second, now+2*ms, now+2*ms)
		want(t, s, Active, "conflict 0 true")
		wantDeadline(t, s, now+second)
	})
	t.Run("Active/equal, greater address", func(t *testing.T) {
		s, now := active(t, router(100, v2))
		s.hear(t, 0, 100, highAddr, second, now+ms, now+ms)
		want(t, s, Backup, "Active->Backup", "demote higher-priority")
	})
}

// Two versions on one virtual router do not understand each other: each
// drops, and counts, what the other says.
func TestVersionMix(t *testing.T) {
	three := advert2(200)
	three.Version = 3
	for _, c := range []struct {
		name string
		set  *Set
		a    Advert
	}{
		{"version 2 hears 3", backup(t, router(100, v2)), three},
		{"version 3 hears 2", backup(t, router(100, every(second))), advert2(200)},
	} {
		before := c.set.NextDeadline()
		for i := range int64(3) {
			if d := c.set.give(c.a, start+i*ms); d != DropGroup {
				t.Errorf("%s: drop %d, want DropGroup", c.name, d)
			}
		}
		wantDeadline(t, c.set, before)
		if diff := cmp.Diff(Counters{VersionErrors: 3}, *c.set.Status(0).Counters); diff != "" {
			t.Errorf("%s: counters (-want +got):\n%s", c.name, diff)
		}
	}
}

// Every advert carries the password; others are counted by what is wrong.
func TestAuthenticatedSet(t *testing.T) {
	text := func(c *Config) { c.AuthType, c.Auth = AuthText, ones }
	s := backup(t, router(100, v2, text))
	var a Advert
	if s.Advert(0, 100, &a); a.AuthType != AuthText || a.Auth != ones {
		t.Errorf("own advert: %+v", a)
	}
	good, wrong, none := advert2(200), advert2(200), advert2(200)
	good.AuthType, good.Auth = AuthText, ones
	wrong.AuthType = AuthText
	s.give(good, start)
	s.give(wrong, start)
	s.give(none, start)
	if diff := cmp.Diff(Counters{RcvdAdvertisements: 1, AuthFailures: 1, AuthTypeErrors: 1}, *s.Status(0).Counters); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

// What is sent: the configured checksum; with auto the peer's, and the
// pseudo-header until one was heard.
func TestChecksumLearnt(t *testing.T) {
	m := Meta{Src: highAddr, Dst: Group4, TTL: TTL}
	for _, c := range []struct{ configured, heard, sent Checksum }{
		{ChecksumAuto, ChecksumAuto, ChecksumPseudoHeader},
		{ChecksumAuto, ChecksumPseudoHeader, ChecksumPseudoHeader},
		{ChecksumAuto, ChecksumMessage, ChecksumMessage},
		{ChecksumPseudoHeader, ChecksumMessage, ChecksumPseudoHeader},
		{ChecksumMessage, ChecksumPseudoHeader, ChecksumMessage},
	} {
		s := backup(t, router(100, func(r *Config) { r.Checksum = c.configured }))
		if c.heard != ChecksumAuto {
			a := Advert{Version: 3, VRID: 10, Priority: 200, Interval: 100 * ms, Addresses: vip4}
			if d := s.Receive(0, a.Append(nil, c.heard, m), m, start, start); d != DropNone {
				t.Fatalf("drop %d", d)
			}
		}
		var own Advert
		st := s.Status(0)
		if sum := s.Advert(0, 100, &own); sum != c.sent || st.Checksum != c.sent || st.PeerChecksum != c.heard {
			t.Errorf("configured %d, heard %d: sends %d, shows %d and %d; want %d", c.configured, c.heard, sum, st.Checksum, st.PeerChecksum, c.sent)
		}
	}
}

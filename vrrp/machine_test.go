// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	ms    = int64(1_000_000)
	start = 1000 * second // any instant; 0 means "never" in the machine
)

var (
	selfAddr = netip.MustParseAddr("10.0.0.5")
	lowAddr  = netip.MustParseAddr("10.0.0.4")
	highAddr = netip.MustParseAddr("10.0.0.6")
	vip4     = []byte{10, 0, 0, 100}

	selfAddr6 = netip.MustParseAddr("fe80::5")
	lowAddr6  = netip.MustParseAddr("fe80::4")
	highAddr6 = netip.MustParseAddr("fe80::6")
	vip6      = netip.MustParseAddr("fe80::100").AsSlice()
)

func router(priority uint8, change ...func(*Config)) Config {
	c := Config{Version: 3, VRID: 10, Priority: priority, Preempt: true, Interval: 100 * ms, Addresses: vip4}
	for _, f := range change {
		f(&c)
	}
	return c
}

func noPreempt(c *Config)                { c.Preempt = false }
func delayed(d int64) func(*Config)      { return func(c *Config) { c.PreemptDelay = d } }
func every(interval int64) func(*Config) { return func(c *Config) { c.Interval = interval } }
func v2(c *Config)                       { c.Version, c.Interval = 2, second }
func v6(c *Config)                       { c.Addresses = vip6 }

// words renders actions for comparison.
func words(actions []Action) (out []string) {
	for _, a := range actions {
		w := ""
		switch a.Kind {
		case ActSend:
			w = fmt.Sprintf("send %d", a.Priority)
		case ActPromote:
			w = "promote " + a.Cause.String()
		case ActDemote:
			w = "demote " + a.Cause.String()
		case ActAnnounce:
			w = "announce"
		case ActChanged:
			w = fmt.Sprintf("%v->%v", a.From, a.To)
		case ActWouldPreempt:
			w = fmt.Sprintf("would-preempt %v", a.On)
		case ActSilent:
			w = fmt.Sprintf("silent %d %v", a.Member, a.On)
		case ActConflict:
			w = fmt.Sprintf("conflict %d %v", a.Member, a.On)
		case ActDoubt:
			w = fmt.Sprintf("doubt %v", a.On)
		}
		if a.Member != 0 && a.Kind == ActSend {
			w += fmt.Sprintf(" on %d", a.Member)
		}
		out = append(out, w)
	}
	return out
}

// hear hands member i an advert of another router.
func (s *Set) hear(t *testing.T, i int, priority uint8, src netip.Addr, interval, at, now int64) {
	t.Helper()
	c := s.members[i].cfg
	a := Advert{Version: c.Version, VRID: c.VRID, Priority: priority, Interval: interval, Addresses: c.Addresses}
	a.AuthType, a.Auth = c.AuthType, c.Auth
	m := Meta{Src: src, Dst: Group4, TTL: TTL}
	if src.Is6() {
		m.Dst = Group6
	}
	if d := s.Receive(i, a.Append(nil, ChecksumAuto, m), m, at, now); d != DropNone {
		t.Fatalf("advert dropped: %d", d)
	}
}

func want(t *testing.T, s *Set, state State, actions ...string) {
	t.Helper()
	if diff := cmp.Diff(actions, words(s.Actions())); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
	if s.State() != state {
		t.Errorf("state %v, want %v", s.State(), state)
	}
}

// down is Active_Down_Interval for a priority and interval.
func down(priority uint8, interval int64) int64 {
	return 3*interval + (256-int64(priority))*interval/256
}

func backup(t *testing.T, c Config) *Set {
	s := NewSet([]Config{c}, false)
	s.SetSource(0, selfAddr)
	if len(c.Addresses) == 16 {
		s.SetSource(0, selfAddr6)
	}
	s.Start(start)
	if s.State() != Backup {
		t.Fatalf("state %v, want Backup", s.State())
	}
	s.Actions()
	return s
}

// active promotes at start+down and returns that instant.
func active(t *testing.T, c Config) (*Set, int64) {
	s := backup(t, c)
	now := s.NextDeadline()
	s.Tick(now, true)
	if s.State() != Active {
		t.Fatalf("state %v, want Active", s.State())
	}
	s.Actions()
	return s, now
}

func wantDeadline(t *testing.T, s *Set, want int64) {
	t.Helper()
	if got := s.NextDeadline(); got != want {
		t.Errorf("deadline %+.6f ms from start, want %+.6f ms", float64(got-start)/1e6, float64(want-start)/1e6)
	}
}

// The figures of the facts.
func TestTimers(t *testing.T) {
	for _, c := range []struct {
		priority   uint8
		interval   int64
		skew, down int64
	}{
		{100, 10 * ms, 6_093_750, 36_093_750},
		{254, 10 * ms, 78_125, 30_078_125},
		{100, second, 609_375_000, 3_609_375_000},
	} {
		in := Instance{cfg: router(c.priority), activeInterval: c.interval}
		if in.skewTime() != c.skew || in.activeDown() != c.down {
			t.Errorf("priority %d: skew %d down %d, want %d %d", c.priority, in.skewTime(), in.activeDown(), c.skew, c.down)
		}
	}
	v2 := Instance{cfg: Config{Version: 2, Priority: 100}, activeInterval: second}
	if v2.skewTime() != 609_375_000 {
		t.Errorf("v2: skew %d", v2.skewTime())
	}
}

// The state table of RFC 9568 section 6.4, each row with what must not make
// it happen. Own priority is 100, interval 100 ms unless a row says so.
func TestStateTable(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) { stateTable(t, router, lowAddr, highAddr) })
	t.Run("IPv6", func(t *testing.T) {
		stateTable(t, func(priority uint8, change ...func(*Config)) Config {
			return router(priority, append(change, v6)...)
		}, lowAddr6, highAddr6)
	})
}

func stateTable(t *testing.T, router func(uint8, ...func(*Config)) Config, lowAddr, highAddr netip.Addr) {
	I := 100 * ms
	t.Run("Initialize/startup, owner", func(t *testing.T) {
		s := NewSet([]Config{router(255)}, false)
		s.Start(start)
		want(t, s, Active, "send 255", "Initialize->Active", "promote owner")
		wantDeadline(t, s, start+I)
	})
	t.Run("Initialize/startup, owner without permission", func(t *testing.T) {
		s := NewSet([]Config{router(255)}, true)
		s.Start(start)
		want(t, s, Backup, "Initialize->Backup")
		wantDeadline(t, s, start+down(255, I))
	})
	t.Run("Initialize/startup, other", func(t *testing.T) {
		s := NewSet([]Config{router(100)}, false)
		s.Start(start)
		want(t, s, Backup, "Initialize->Backup")
		wantDeadline(t, s, start+down(100, I))
	})
	t.Run("Initialize/startup in fault", func(t *testing.T) {
		s := NewSet([]Config{router(255)}, false)
		s.SetFault(0, true, start)
		s.Start(start)
		want(t, s, Initialize)
		wantDeadline(t, s, 0)
		s.SetFault(0, false, start+1)
		want(t, s, Active, "send 255", "Initialize->Active", "promote owner")
	})
	t.Run("Initialize/anything else", func(t *testing.T) {
		s := NewSet([]Config{router(100)}, false)
		s.hear(t, 0, 0, lowAddr, I, start, start)
		s.Tick(start+1000*second, true)
		s.Wake(start + 1000*second)
		s.Shutdown(start)
		if s.TakeOver(start) || s.HandOver(start) {
			t.Error("hand-over in Initialize")
		}
		want(t, s, Initialize)
	})
	t.Run("Backup/shutdown", func(t *testing.T) {
		s := backup(t, router(100))
		s.Shutdown(start + 1)
		want(t, s, Initialize, "Backup->Initialize")
		wantDeadline(t, s, 0)
		s.SetFault(0, true, start+2)
		s.SetFault(0, false, start+3)
		want(t, s, Initialize) // a stopped set does not start by itself
	})
	t.Run("Backup/Active_Down_Timer", func(t *testing.T) {
		s := backup(t, router(100))
		at := start + down(100, I)
		s.Tick(at-1, true)
		want(t, s, Backup)
		s.Tick(at, false)
		want(t, s, Backup) // something is still unread: silence is not believed
		s.Tick(at, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote timeout")
		wantDeadline(t, s, at+I)
	})
	t.Run("Backup/handed over", func(t *testing.T) {
		s := backup(t, router(100))
		s.hear(t, 0, 200, highAddr, I, start, start)
		if !s.TakeOver(start + 5*ms) {
			t.Fatal("refused")
		}
		want(t, s, Active, "send 100", "Backup->Active", "promote handed-over")
		if s.TakeOver(start + 6*ms) {
			t.Error("an Active took over")
		}
		s.hear(t, 0, 200, highAddr, I, start+4*ms, start+7*ms)
		want(t, s, Active) // the former Active's last advert, late
		s.hear(t, 0, 200, highAddr, I, start+5*ms+I, start+5*ms+I)
		want(t, s, Backup, "Active->Backup", "demote higher-priority")
	})
	t.Run("Backup/priority 0", func(t *testing.T) {
		s := backup(t, router(100))
		s.hear(t, 0, 200, highAddr, 10*ms, start+ms, start+ms) // adopts 10 ms
		s.hear(t, 0, 0, highAddr, 10*ms, start+2*ms, start+3*ms)
		want(t, s, Backup)
		at := start + 2*ms + 6_093_750
		wantDeadline(t, s, at)
		s.Tick(at, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote priority-zero")
	})
	t.Run("Backup/higher or equal", func(t *testing.T) {
		for _, p := range []uint8{100, 101, 255} {
			s := backup(t, router(100))
			s.hear(t, 0, p, lowAddr, 50*ms, start+10*ms, start+20*ms)
			want(t, s, Backup)
			wantDeadline(t, s, start+10*ms+down(100, 50*ms)) // adopted, from kernel time
		}
	})
	t.Run("Backup/lower, no-preempt", func(t *testing.T) {
		s := backup(t, router(100, noPreempt))
		s.hear(t, 0, 99, highAddr, 50*ms, start+10*ms, start+10*ms)
		want(t, s, Backup)
		wantDeadline(t, s, start+10*ms+down(100, 50*ms))
	})
	t.Run("Backup/lower, preempt", func(t *testing.T) {
		s := backup(t, router(100))
		s.hear(t, 0, 99, highAddr, 50*ms, start+10*ms, start+10*ms)
		want(t, s, Backup, "would-preempt true")
		wantDeadline(t, s, start+down(100, I)) // the timer keeps running
		s.Tick(start+down(100, I), true)
		want(t, s, Active, "send 100", "would-preempt false", "Backup->Active", "promote timeout")
	})
	t.Run("Backup/lower, preempt not allowed", func(t *testing.T) {
		s := NewSet([]Config{router(100)}, true)
		s.Start(start)
		s.Actions()
		s.hear(t, 0, 99, highAddr, I, start+10*ms, start+10*ms)
		want(t, s, Backup, "would-preempt true")
		wantDeadline(t, s, start+10*ms+down(100, I))
		s.AllowPreempt(true)
		s.hear(t, 0, 99, highAddr, I, start+110*ms, start+110*ms)
		wantDeadline(t, s, start+10*ms+down(100, I)) // from now on the timer runs out
		s.hear(t, 0, 101, highAddr, I, start+120*ms, start+120*ms)
		want(t, s, Backup, "would-preempt false")
	})
	t.Run("Backup/lower, preempt not allowed, of a stranger", func(t *testing.T) {
		for _, c := range []struct{ vouched, armed int64 }{
			{0, 10 * ms},
			{209 * ms, 10 * ms}, // may be the last word of the one that was followed
			{210 * ms, 250 * ms},
			{149 * ms, 10 * ms}, // too old
		} {
			s := NewSet([]Config{router(100)}, true)
			s.Start(start)
			s.hear(t, 0, 200, highAddr, I, start+10*ms, start+10*ms)
			s.Actions()
			if c.vouched != 0 {
				s.Vouched(start + c.vouched)
			}
			s.hear(t, 0, 99, lowAddr, I, start+250*ms, start+250*ms)
			wantDeadline(t, s, start+c.armed+down(100, I))
			s.hear(t, 0, 200, highAddr, I, start+260*ms, start+260*ms)
			wantDeadline(t, s, start+260*ms+down(100, I))
		}
	})
	t.Run("Backup/owner preempts always", func(t *testing.T) {
		s := NewSet([]Config{router(255, noPreempt, delayed(second))}, true)
		s.Start(start)
		s.AllowPreempt(true)
		s.hear(t, 0, 254, highAddr, I, start+ms, start+ms)
		wantDeadline(t, s, start+down(255, I))
	})
	t.Run("Backup/preempt delay", func(t *testing.T) {
		s := backup(t, router(100, delayed(second)))
		for at := start; at < start+second; at += I {
			s.hear(t, 0, 99, highAddr, I, at, at)
			s.Tick(at+ms, true)
		}
		want(t, s, Backup)
		s.Tick(start+second, true) // armed once, by the first
		want(t, s, Backup, "would-preempt true")
		last := start + second - I
		s.hear(t, 0, 99, highAddr, I, start+second+ms, start+second+ms)
		wantDeadline(t, s, last+down(100, I))
	})
	t.Run("Backup/preempt delay cancelled", func(t *testing.T) {
		for _, p := range []uint8{0, 100} {
			s := backup(t, router(100, delayed(second)))
			s.hear(t, 0, 99, highAddr, I, start, start)
			s.hear(t, 0, p, highAddr, I, start+ms, start+ms)
			if s.members[0].delay != 0 {
				t.Errorf("priority %d does not cancel the delay", p)
			}
		}
	})
	t.Run("Active/shutdown", func(t *testing.T) {
		s, now := active(t, router(100))
		s.Shutdown(now + 1)
		want(t, s, Initialize, "send 0", "Active->Initialize", "demote shutdown")
		wantDeadline(t, s, 0)
	})
	t.Run("Active/Adver_Timer", func(t *testing.T) {
		s, now := active(t, router(100))
		s.Tick(now+I-1, true)
		want(t, s, Active)
		s.Tick(now+I+3*ms, true) // late: the next one keeps the phase
		want(t, s, Active, "send 100")
		wantDeadline(t, s, now+2*I)
	})
	t.Run("Active/priority 0", func(t *testing.T) {
		s, now := active(t, router(100))
		s.hear(t, 0, 0, highAddr, I, now+40*ms, now+40*ms)
		want(t, s, Active, "send 100")
		wantDeadline(t, s, now+40*ms+I)
	})
	t.Run("Active/higher", func(t *testing.T) {
		s, now := active(t, router(100))
		s.hear(t, 0, 101, lowAddr, 50*ms, now+40*ms, now+41*ms)
		want(t, s, Backup, "Active->Backup", "demote higher-priority")
		wantDeadline(t, s, now+40*ms+down(100, 50*ms))
	})
	t.Run("Active/equal, greater address", func(t *testing.T) {
		s, now := active(t, router(100))
		s.hear(t, 0, 100, highAddr, I, now+40*ms, now+40*ms)
		want(t, s, Backup, "Active->Backup", "demote higher-priority")
	})
	t.Run("Active/equal, lower address", func(t *testing.T) {
		s, now := active(t, router(100))
		s.hear(t, 0, 100, lowAddr, I, now+40*ms, now+40*ms)
		want(t, s, Active, "send 100", "announce")
		wantDeadline(t, s, now+I)
	})
	t.Run("Active/lower", func(t *testing.T) {
		s, now := active(t, router(100))
		s.hear(t, 0, 99, highAddr, I, now+40*ms, now+40*ms)
		want(t, s, Active, "send 100", "announce")
		wantDeadline(t, s, now+I) // timer unchanged
		s.hear(t, 0, 99, highAddr, I, now+90*ms, now+90*ms)
		want(t, s, Active, "send 100", "conflict 0 true")
		for i := range int64(1000) { // a flood does not make us flood
			s.hear(t, 0, 99, highAddr, I, now+90*ms+i, now+90*ms+i)
		}
		want(t, s, Active)
		s.Tick(now+I, true)
		s.Actions()
		s.Tick(now+91*ms+4*I, true)
		want(t, s, Active, "send 100", "conflict 0 false")
	})
	t.Run("Active/handed over", func(t *testing.T) {
		s, now := active(t, router(100))
		if !s.HandOver(now + ms) {
			t.Fatal("refused")
		}
		want(t, s, Backup, "Active->Backup", "demote handed-over")
		wantDeadline(t, s, now+ms+down(100, I))
		if s.HandOver(now + 2*ms) {
			t.Error("a Backup handed over")
		}
		s.Tick(now+ms+down(100, I), true) // nobody came
		want(t, s, Active, "send 100", "Backup->Active", "promote timeout")
	})
	t.Run("Active/refused", func(t *testing.T) {
		s, now := active(t, router(100))
		s.Refuse(now + ms)
		want(t, s, Backup, "send 0", "Active->Backup", "demote refused")
		s.Tick(now+ms+down(100, I), true)
		want(t, s, Backup) // not again at once
		s.Tick(now+ms+second, true)
		want(t, s, Active, "send 100", "Backup->Active", "promote timeout")
	})
}

func TestReceiveCounts(t *testing.T) {
	s := backup(t, router(100))
	s.hear(t, 0, 200, highAddr, 50*ms, start, start)
	s.hear(t, 0, 0, highAddr, 50*ms, start, start)
	m := Meta{Src: highAddr, Dst: Group4, TTL: 254}
	good := Advert{Version: 3, VRID: 10, Priority: 200, Interval: 50 * ms, Addresses: vip4}
	s.Receive(0, good.Append(nil, ChecksumAuto, m), m, start, start)
	m.TTL = TTL
	other := good
	other.Addresses = []byte{10, 0, 0, 101}
	s.Receive(0, other.Append(nil, ChecksumMessage, m), m, start, start)
	other.Interval = 0
	s.Receive(0, other.Append(nil, ChecksumAuto, m), m, start, start)
	v2 := good
	v2.Version, v2.Interval = 2, second
	s.Receive(0, v2.Append(nil, ChecksumAuto, m), m, start, start)
	bad := good.Append(nil, ChecksumAuto, m)
	bad[7]++
	s.Receive(0, bad, m, start, start)
	none := good
	none.Addresses = nil
	s.Receive(0, none.Append(nil, ChecksumAuto, m), m, start, start)
	s.Receive(0, append(good.Append(nil, ChecksumAuto, m), make([]byte, 20)...), m, start, start)

	got := *s.Status(0).Counters
	if diff := cmp.Diff(Counters{
		RcvdAdvertisements: 3, RcvdPriZeroPackets: 1, IPTTLErrors: 1, AddressListErrors: 1, AdvIntervalErrors: 1,
		VersionErrors: 1, ChecksumErrors: 1, CountErrors: 1, PacketLengthErrors: 1, IntervalChanges: 1,
	}, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	// Auto: as the peer does.
	var a Advert
	if sum := s.Advert(0, 100, &a); sum != ChecksumMessage {
		t.Errorf("checksum %d, want the peer's", sum)
	}
}

func TestMachineAllocatesNothing(t *testing.T) {
	s := backup(t, router(100))
	m := Meta{Src: highAddr, Dst: Group4, TTL: TTL}
	a := Advert{Version: 3, VRID: 10, Priority: 200, Interval: 100 * ms, Addresses: vip4}
	pdu := a.Append(nil, ChecksumAuto, m)
	now := start
	if n := testing.AllocsPerRun(1000, func() {
		now += 100 * ms
		s.Wake(now)
		s.Receive(0, pdu, m, now, now)
		s.Tick(now, true)
		s.Actions()
	}); n != 0 {
		t.Errorf("%v allocations per advert", n)
	}
}

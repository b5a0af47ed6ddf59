// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	millisecond = int64(1_000_000)
	second      = 1000 * millisecond
	start       = 100 * second
)

// Another timing holds from the next beginning on; the widest interval of an
// interface is that of its addresses as they are now.
func TestRetime(t *testing.T) {
	m := &Announcements{}
	m.Add(0, Timing{Repeat: 1, Interval: 50 * millisecond})
	m.Add(0, Timing{Repeat: 1})
	if m.Retime(0, Timing{Repeat: 1, Interval: 50 * millisecond}) {
		t.Error("the same timing is another one")
	}
	if !m.Retime(0, Timing{Repeat: 2}) {
		t.Error("another timing is the same")
	}
	m.Start(0, start)
	m.Start(1, start)
	if d := cmp.Diff([]string{"0:0", "0:1", "20:0r"}, script(t, m, start, start+second)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// script runs the machine from its own deadlines and writes down what it
// sends: "ms:address", a reply with "r".
func script(t *testing.T, m *Announcements, from, until int64) []string {
	t.Helper()
	var out []string
	for now := m.Next(); now != 0 && now < until; now = m.Next() {
		if now < from {
			now = from
		}
		before := len(out)
		m.Due(now, func(i int, reply bool) {
			out = append(out, fmt.Sprintf("%d:%d%s", (now-start)/millisecond, i, strings.Repeat("r", int(b2i(reply)))))
		})
		if len(out) == before {
			t.Fatalf("Next says %d ms, and nothing is due", (now-start)/millisecond)
		}
	}
	return out
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// usual are the defaults of the garp options, but two rounds to a set.
var usual = Timing{Delay: 5 * second, Refresh: 5 * second, Repeat: 2, RefreshRepeat: 1}

func with(change func(*Timing)) Timing {
	t := usual
	change(&t)
	return t
}

func TestAnnouncements(t *testing.T) {
	for _, c := range []struct {
		name   string
		timing []Timing // of each address, all on interface 0
		until  int64
		want   string
	}{
		{"one set at once, one later, then refreshes", []Timing{usual}, 16 * second,
			"0:0 20:0r 5000:0 5020:0r 10020:0 15020:0r"},
		{"no refresh", []Timing{with(func(t *Timing) { t.Refresh = 0 })}, 100 * second, "0:0 20:0r 5000:0 5020:0r"},
		{"no second set", []Timing{with(func(t *Timing) { t.Delay = 0 })}, 6 * second, "0:0 20:0r 5020:0"},
		{"neither", []Timing{with(func(t *Timing) { t.Delay, t.Refresh = 0, 0 })}, 100 * second, "0:0 20:0r"},
		{"a second set that begins within the first", []Timing{with(func(t *Timing) { t.Delay, t.Refresh = 10*millisecond, 0 })}, second,
			"0:0 20:0r 40:0 60:0r"},
		{"refreshes of three", []Timing{with(func(t *Timing) { t.Delay, t.RefreshRepeat = 0, 3 })}, 11 * second,
			"0:0 20:0r 5020:0 5040:0r 5060:0 10060:0r 10080:0 10100:0r"},
		{"all have their first before any has its second", []Timing{usual, usual, usual}, second,
			"0:0 0:1 0:2 20:0r 20:1r 20:2r"},
		{"paced by the operator", []Timing{with(func(t *Timing) { t.Interval = 15 * millisecond }), with(func(t *Timing) { t.Interval = 15 * millisecond })}, second,
			"0:0 15:1 30:0r 45:1r"},
		{"one group's pace is its interface's", []Timing{usual, with(func(t *Timing) { t.Interval = 100 * millisecond })}, 400 * millisecond,
			"0:0 100:1 200:0r 300:1r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Announcements
			for i, timing := range c.timing {
				m.Add(0, timing)
				m.Start(i, start)
			}
			if diff := cmp.Diff(strings.Fields(c.want), script(t, &m, start, start+c.until)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAnnounceAgain(t *testing.T) {
	var m Announcements
	m.Add(0, usual)
	m.Add(1, usual)
	if m.Next() != 0 {
		t.Error("there is work before Start")
	}
	m.Start(0, start)
	m.Start(1, start)
	script(t, &m, start, start+7*second)
	m.Stop(1)
	m.Start(0, start+7*second) // a conflict: from the first set on
	want := strings.Fields("7000:0 7020:0r 12000:0 12020:0r 17020:0")
	if diff := cmp.Diff(want, script(t, &m, start+7*second, start+20*second)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	m.Stop(0)
	if m.Next() != 0 {
		t.Error("there is work after Stop")
	}
}

// An address that is gone is announced no more, does not slow down what stays,
// and its index is the next one's.
func TestAnnounceRemove(t *testing.T) {
	var m Announcements
	for range 3 {
		m.Add(0, Timing{Repeat: 1, Interval: 100 * millisecond})
	}
	if i := m.Add(0, Timing{Repeat: 1, Interval: 500 * millisecond}); i != 3 {
		t.Errorf("the fourth is %d", i)
	}
	for i := range 4 {
		m.Start(i, start)
	}
	m.Remove(3)
	m.Remove(1)
	if diff := cmp.Diff(strings.Fields("0:0 100:2"), script(t, &m, start, start+second)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if i := m.Add(1, Timing{Repeat: 1}); i != 1 {
		t.Errorf("a new one is %d", i)
	}
	m.Start(1, start+second)
	if diff := cmp.Diff(strings.Fields("1000:1"), script(t, &m, start+second, start+2*second)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Refreshes can be put off, sets cannot.
func TestAnnounceHold(t *testing.T) {
	var m Announcements
	m.Add(0, usual)
	m.Start(0, start)
	var got []string
	for at := int64(0); at < 21*second; at += second {
		if at < 13*second {
			m.Hold(0, start+at+2*second)
		}
		got = append(got, script(t, &m, start+at, start+at+second)...)
	}
	want := strings.Fields("0:0 20:0r 5000:0 5020:0r 14000:0 19000:0r")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A thousand addresses: the first 64 of each interface at once, the rest at
// 4000 a second, everyone's first before anyone's second, and an interface
// does not wait for another.
func TestAnnounceCrowd(t *testing.T) {
	var m Announcements
	const n = 1000
	for i := range n {
		m.Add(0, usual)
		m.Start(i, start)
	}
	m.Add(1, usual)
	m.Start(n, start)
	sent, at := 0, make([]int64, n+1)
	for now := start; now < start+2*second; now += millisecond {
		m.Due(now, func(i int, reply bool) {
			if !reply {
				at[i] = now - start
			} else if i < n && sent < n {
				t.Fatalf("address %d has its second after %d announcements", i, sent)
			}
			if i < n {
				sent++
			}
		})
		if most := crowd + int((now-start)/crowdPace); sent > most {
			t.Fatalf("%d announcements after %d ms, want %d at most", sent, (now-start)/millisecond, most)
		}
	}
	if sent != 2*n {
		t.Errorf("%d announcements, want %d", sent, 2*n)
	}
	if at[0] != 0 || at[crowd-1] != 0 || at[crowd] == 0 || at[n] != 0 {
		t.Errorf("first announcements after %d, %d, %d; on the other interface %d", at[0], at[crowd-1], at[crowd], at[n])
	}
	if at[n-1] > (n-crowd)*crowdPace+2*millisecond {
		t.Errorf("the last address was announced after %d ms", at[n-1]/millisecond)
	}
	m.Due(start+60*second, func(int, bool) {})
	if allocs := testing.AllocsPerRun(100, func() { m.Due(start+61*second, func(int, bool) {}); m.Next() }); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// SPDX-License-Identifier: Apache-2.0

package track

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	t0       = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	errCheck = errors.New("exit status 1")
)

// A history is a word of results, + good and - bad; the levels are as after each.
func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		fall, rise int
		results    string
		levels     string // u d ?
	}{
		"the first good one counts":           {3, 5, "+", "u"},
		"the first bad one is counted":        {3, 1, "--", "??"},
		"bad from the beginning":              {3, 1, "---", "??d"},
		"bad ones between are forgotten":      {3, 1, "+--+--+", "uuuuuuu"},
		"failure-count in a row":              {3, 1, "+---", "uuud"},
		"one is enough if one is asked for":   {1, 1, "+-+-", "udud"},
		"rise in a row":                       {1, 3, "+-++-+++", "udddddd" + "u"},
		"more of the same changes nothing":    {2, 2, "++----++++", "uuudddduuu"[:3] + "ddd" + "duuu"},
		"unknown: a good one ends the series": {3, 2, "--+", "??u"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Check{Rule: Rule{Interval: time.Second, FailureCount: tt.fall, Rise: tt.rise}}
			var got strings.Builder
			for i, r := range tt.results {
				before := c.Level
				err := errCheck
				if r == '+' {
					err = nil
				}
				changed := c.Result(err, t0.Add(time.Duration(i)*time.Second))
				if changed != (c.Level != before) || changed && !c.Since.Equal(t0.Add(time.Duration(i)*time.Second)) {
					t.Errorf("result %d: changed %t, %v to %v since %v", i, changed, before, c.Level, c.Since)
				}
				got.WriteByte("?ud"[c.Level])
			}
			if d := cmp.Diff(tt.levels, got.String()); d != "" {
				t.Errorf("%s (-want +got):\n%s", tt.results, d)
			}
		})
	}
}

func TestCheckSaysWhy(t *testing.T) {
	c := Check{Rule: Rule{Interval: time.Second, FailureCount: 2, Rise: 2}}
	for i, tt := range []struct {
		result error
		why    string
	}{
		{errCheck, "exit status 1"},
		{errors.New("took longer than 5s"), "took longer than 5s (2 times in a row)"},
		{nil, "took longer than 5s (2 times in a row)"}, // not up yet
		{nil, ""},
		{errCheck, "exit status 1"}, // counted
		{errCheck, "exit status 1 (2 times in a row)"},
		{errCheck, "exit status 1 (2 times in a row)"}, // no news
		{errors.New("took longer than 5s"), "took longer than 5s"},
		{nil, "took longer than 5s"},
		{nil, ""},
	} {
		if c.Result(tt.result, t0); c.Why != tt.why {
			t.Errorf("result %d: %q, want %q", i, c.Why, tt.why)
		}
	}
}

func TestCheckPace(t *testing.T) {
	c := Check{Rule: Rule{Interval: time.Minute, FailureCount: 3, Rise: 1}}
	if !c.Next().IsZero() {
		t.Errorf("the first run waits until %v", c.Next())
	}
	at := func(d time.Duration) time.Time { return t0.Add(d) }
	is := func(want time.Duration) {
		t.Helper()
		if got := c.Next().Sub(t0); got != want {
			t.Errorf("the next run is after %v, want %v", got, want)
		}
	}
	c.Begin(at(0))
	is(time.Second) // somebody waits for a first level
	c.Begin(at(time.Second))
	is(2 * time.Second)
	c.Result(nil, at(time.Second))
	is(61 * time.Second)
	c.Begin(at(61*time.Second + 5*time.Millisecond)) // a late start does not shift what follows
	is(121 * time.Second)
	c.Begin(at(300 * time.Second)) // a run that took too long does not make a series
	is(360 * time.Second)
}

func TestLevel(t *testing.T) {
	for _, l := range []Level{Unknown, Up, Down} {
		if got := ParseLevel(l.String()); got != l {
			t.Errorf("%v is read as %v", l, got)
		}
	}
	if got := ParseLevel("sideways"); got != Unknown {
		t.Errorf("a strange word is read as %v", got)
	}
}

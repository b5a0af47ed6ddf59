// SPDX-License-Identifier: Apache-2.0

package track

import (
	"fmt"
	"time"
)

// Level is what is known of a thing.
type Level uint8

// Levels. Unknown: nothing was heard of it yet.
const (
	Unknown Level = iota
	Up
	Down
)

var levelNames = [...]string{Unknown: "unknown", Up: "up", Down: "down"}

// String is the level as it is shown, and as tandem hooks tells it.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// ParseLevel is String's inverse; a word of nobody is Unknown.
func ParseLevel(s string) Level {
	for l, name := range levelNames {
		if name == s {
			return Level(l)
		}
	}
	return Unknown
}

// Rule says when a health check runs and when its results change its level.
type Rule struct {
	Interval     time.Duration // from the beginning of one run to that of the next
	FailureCount int           // failures in a row that make it Down
	Rise         int           // good results in a row that make it Up again
}

// hasty is how often a check runs that has not come to a first level: a group
// waits for it.
const hasty = time.Second

// Check is the pure machine of one health check. It has no clock: now is any
// time that only goes forward.
type Check struct {
	Rule  Rule
	Level Level
	Why   string    // of Down; while failures are counted, of the latest one
	Since time.Time // of Level

	latest  string // what the latest failure said
	against int    // results in a row that speak against Level
	begun   time.Time
	next    time.Time
}

// Next is when to run it next; the zero time: now.
func (c *Check) Next() time.Time { return c.next }

// Begin notes that a run begins. A late beginning does not shift what follows;
// a run longer than the interval does.
func (c *Check) Begin(now time.Time) {
	every := c.Rule.Interval
	if c.Level == Unknown {
		every = min(every, hasty)
	}
	c.begun = now
	if c.next = c.next.Add(every); !c.next.After(now) {
		c.next = now.Add(every)
	}
}

// Result takes what a run came to: nil, or why it failed. It says whether the
// level changed. The first good one is enough for a check that nobody has heard
// of; a first bad one is counted like any other.
func (c *Check) Result(failure error, now time.Time) (changed bool) {
	want, need := Up, c.Rule.Rise
	if failure != nil {
		want, need = Down, c.Rule.FailureCount
		c.failed(failure.Error())
	}
	switch {
	case c.Level == want:
		c.against = 0
		if want == Up {
			c.Why, c.latest = "", ""
		}
		return false
	case c.Level == Unknown && want == Up:
		c.against = need
	default:
		c.against++
	}
	if c.against < need {
		return false
	}
	if want == Up {
		c.Why, c.latest = "", ""
	} else if need > 1 {
		c.Why = fmt.Sprintf("%s (%d times in a row)", c.Why, need)
	}
	if c.Level == Unknown {
		c.next = c.begun.Add(c.Rule.Interval)
	}
	c.Level, c.Since, c.against = want, now, 0
	return true
}

// failed keeps the words of a failure; more of the same are no news.
func (c *Check) failed(why string) {
	if why != c.latest {
		c.Why, c.latest = why, why
	}
}

// CheckID is the thing that the health check of a group or sync group is on a
// Board.
func CheckID(name string) string { return CheckPrefix + name }

// CheckPrefix begins the name of every health check.
const CheckPrefix = "health-check of "

// SPDX-License-Identifier: Apache-2.0

package syncproto

import "time"

// pauseFor is the shortest pause for the sake of the rate: whoever fills sleeps
// at least so long, and then sends what that allows in one go.
const pauseFor = int64(time.Millisecond)

// burstFor bounds what a silent sender saves up for later.
const burstFor = 5 * pauseFor

// pace is a token bucket that may go into debt by one datagram. It holds flow
// records only: heartbeats, acknowledgements, state, RELEASE and COMPLETE go
// out at once.
type pace struct {
	tokens int64 // bytes
	at     int64 // when they were counted
	until  int64 // no flow records before; 0: none wait for it
}

// spend takes n bytes out of the bucket and says whether it is empty now.
func (c *pace) spend(n, size int, rate, now int64) bool {
	if rate == 0 {
		return false
	}
	if c.until > now {
		return false // what went is not held to the rate
	}
	most := max(perPause(rate)*(burstFor/pauseFor), int64(size))
	c.tokens = min(most, c.tokens+rate/1000*min(now-c.at, int64(time.Second))/pauseFor)
	c.at = now
	c.tokens -= int64(n)
	if c.tokens > 0 {
		return false
	}
	want := max(perPause(rate), int64(size)) - c.tokens
	c.until = now + max(pauseFor, want*int64(time.Second)/rate)
	return true
}

func perPause(rate int64) int64 { return rate * pauseFor / int64(time.Second) }

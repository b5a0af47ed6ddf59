// SPDX-License-Identifier: Apache-2.0

package syncproto

// silence judges whether somebody is no longer heard.
//
// Who looks late has slept itself (a busy machine, a long walk under the lock):
// what came meanwhile waits in the socket. So a silence that is noticed late is
// judged again a heartbeat later, once.
type silence struct {
	doubted int64 // what heard was in the silence that was noticed late
	judge   int64 // when that is judged
}

// over says whether a silence since heard, of which due was to be the end, has
// lasted.
func (s *silence) over(heard, due, beat, now int64) bool {
	if now <= due {
		return false
	}
	if s.doubted != heard && now > due+beat {
		s.doubted, s.judge = heard, now+beat
	}
	return now >= s.judge
}

// next is when over is to be asked again.
func (s *silence) next(due int64) int64 { return max(due+1, s.judge) }

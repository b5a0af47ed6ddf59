// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/load"
)

// The limit is 360.9 ms and 50 ms, and a flow sends each 100 ms. All in ms.
func TestShort(t *testing.T) {
	var opts CrashOptions
	opts.defaults()
	c := &crash{opts: opts}
	for _, tt := range []struct {
		gap, silence, late int64
		want               bool
	}{
		{401, 380, 0, true},
		{500, 405, 0, true},   // one period more, as a flow counts
		{500, 430, 0, false},  // an outage that was too long
		{500, 430, 25, true},  // the machine was late
		{500, 450, 25, false}, // by less than that
		{600, 405, 0, false},  // some flows came back later than the others
	} {
		ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
		ch := &change{late: ms(tt.late), load: load.Report{UDPGap: load.Gaps{P99: ms(tt.gap)}, Silence: load.Silence{To: tt.silence * 1e6}}}
		if got := c.short(ch); got != tt.want {
			t.Errorf("%+v: %t", tt, got)
		}
	}
}

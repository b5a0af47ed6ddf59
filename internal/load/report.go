// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"time"
)

// Report is what the endpoints saw since the last Mark.
type Report struct {
	TCP, UDP  int      // how many there are
	TCPBroken []string // one sentence for each broken or silent connection
	UDPSilent []string // one sentence for each flow that is silent, or was translated anew

	// UDPGap is, per UDP flow, the longest time from the sending of a packet that
	// got lost to the arrival of the next one that did not.
	UDPGap Gaps
	// SteadyGap is, per conversation, the longest wait for a response; TCP's own
	// retransmission timer (200 ms, doubling) is in it.
	SteadyGap Gaps
	// BulkGap is, per transfer, the longest time in which no byte came.
	BulkGap Gaps
	// Silence is the longest time in which no packet of any flow came.
	Silence Silence
}

// Report looks at every connection and flow. SpeakIdle before it: an idle
// connection that did not speak since the mark counts as broken.
func (l *Load) Report() Report {
	now, mark := clock(), l.mark.Load()
	r := Report{TCP: len(l.conns), UDP: len(l.udp.flows), Silence: l.seen.silence()}
	gaps := map[int][]time.Duration{}
	for _, c := range l.conns {
		last, worst, err := c.read()
		gaps[c.kind] = append(gaps[c.kind], time.Duration(worst))
		switch {
		case err != nil:
			r.TCPBroken = append(r.TCPBroken, err.Error())
		case last <= mark, c.kind != kindIdle && now-last > int64(fresh):
			r.TCPBroken = append(r.TCPBroken, fmt.Sprintf("%s: silent for %s", c, ago(now, last)))
		}
	}
	for _, f := range l.udp.flows {
		last, worst, err := f.read()
		gaps[kindUDP] = append(gaps[kindUDP], time.Duration(worst))
		switch {
		case err != nil:
			r.UDPSilent = append(r.UDPSilent, err.Error())
		case last <= mark, now-last > int64(fresh):
			r.UDPSilent = append(r.UDPSilent, fmt.Sprintf("%s: silent for %s", f, ago(now, last)))
		}
	}
	r.UDPGap, r.SteadyGap, r.BulkGap = gapsOf(gaps[kindUDP]), gapsOf(gaps[kindSteady]), gapsOf(gaps[kindBulk])
	return r
}

func ago(now, last int64) string {
	if last == 0 {
		return "ever"
	}
	return time.Duration(now - last).Round(time.Millisecond).String()
}

// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"time"
)

// Report is what the endpoints saw since the last Mark.
type Report struct {
	TCP, UDP, Ping int // how many there are

	TCPBroken  []string // one sentence for each broken or silent connection
	UDPSilent  []string // one sentence for each flow that is silent, or was translated anew
	PingSilent []string // one sentence for each echo flow that is silent

	// UDPGap is, per UDP flow, the longest time from the sending of a packet that
	// got lost to the arrival of the next one that did not.
	UDPGap  Gaps
	PingGap Gaps // as UDPGap
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
	r := Report{TCP: len(l.conns), UDP: len(l.udp.flows), Ping: len(l.pings.flows), Silence: l.seen.silence()}
	j := judge{now: clock(), mark: l.mark.Load(), gaps: map[int][]time.Duration{}}
	for _, c := range l.conns {
		r.TCPBroken = append(r.TCPBroken, j.of(c.kind, c, &c.meter)...)
	}
	for _, f := range l.udp.flows {
		r.UDPSilent = append(r.UDPSilent, j.of(kindUDP, f, &f.meter)...)
	}
	for _, p := range l.pings.flows {
		r.PingSilent = append(r.PingSilent, j.of(kindPing, p, &p.meter)...)
	}
	r.UDPGap, r.PingGap = gapsOf(j.gaps[kindUDP]), gapsOf(j.gaps[kindPing])
	r.SteadyGap, r.BulkGap = gapsOf(j.gaps[kindSteady]), gapsOf(j.gaps[kindBulk])
	return r
}

// judge collects gaps by kind and says what is wrong with a flow.
type judge struct {
	now, mark int64
	gaps      map[int][]time.Duration
}

// of gives one sentence, or none when the flow is well.
func (j *judge) of(kind int, name fmt.Stringer, m *meter) []string {
	last, worst, err := m.read()
	silent := last <= j.mark || kind != kindIdle && j.now-last > int64(fresh)
	if silent { // a standstill that goes on is one
		worst = max(worst, j.now-max(last, j.mark))
	}
	j.gaps[kind] = append(j.gaps[kind], time.Duration(worst))
	switch {
	case err != nil:
		return []string{err.Error()}
	case silent:
		return []string{fmt.Sprintf("%s: silent for %s", name, ago(j.now, last))}
	}
	return nil
}

func ago(now, last int64) string {
	if last == 0 {
		return "ever"
	}
	return time.Duration(now - last).Round(time.Millisecond).String()
}

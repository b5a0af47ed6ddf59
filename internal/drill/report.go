// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// progress prints what happens, with the seconds since the start.
type progress struct {
	out   io.Writer
	began time.Time
}

func newProgress(out io.Writer) *progress { return &progress{out: out, began: time.Now()} }

func (p *progress) say(format string, args ...any) {
	fmt.Fprintf(p.out, "%6.1f s  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

// change is one thing that was done to the pair, and what came of it.
type change struct {
	title   string
	number  int
	winner  string        // the router that is Active afterwards
	at      int64         // when it was done
	late    time.Duration // by which the machine was, until the takeover
	before  netlab.WireStats
	wire    netlab.WireStats
	load    load.Report
	crowd   load.CrowdResult
	line    []moment
	trouble string
}

// moment is a line of the timeline.
type moment struct {
	after time.Duration
	what  string
}

func (c *crash) begin(title string) *change {
	ch := &change{title: title, number: len(c.changes) + 1, before: c.wire.Stats()}
	c.say("change %d: %s", ch.number, title)
	c.pulse.worst()
	return ch
}

// outage is how long no packet of any flow must come to be called one: the flows
// together send some thousand a second.
const outage = 50 * time.Millisecond

// finish puts the timeline together: what the endpoints saw, and what the
// daemon says of its takeover, on one clock.
func (ch *change) finish(r load.Report, w netlab.WireStats, s *control.Status) {
	ch.load, ch.wire = r, w
	add := func(at int64, format string, args ...any) {
		ch.line = append(ch.line, moment{time.Duration(at - ch.at), fmt.Sprintf(format, args...)})
	}
	add(ch.at, "%s", ch.title)
	if r.Silence.Length() > outage {
		add(r.Silence.From, "last packet")
		add(r.Silence.To, "first packet after, %.1f ms after the last", float64(r.Silence.Length())/1e6)
	}
	if t := s.Last; t != nil {
		start := t.Start.UnixNano() - wallOffset()
		if start > ch.at { // not one of before
			add(start, "%s: %s (%s)", ch.winner, t.Kind, t.Reason)
			for _, step := range t.Steps {
				what := step.Name
				if strings.HasPrefix(what, "committed") {
					what += fmt.Sprintf(" (%d flows, %d failed)", t.Committed, t.Failed)
				}
				add(start+int64(step.AtMS*1e6), "%s: %s", ch.winner, what)
			}
		}
	}
	slices.SortStableFunc(ch.line, func(a, b moment) int { return int(a.after - b.after) })
}

// wallOffset is CLOCK_REALTIME minus CLOCK_MONOTONIC; of several readings the
// tightest counts, since we may be off the processor between two clocks.
func wallOffset() (offset int64) {
	best := int64(1 << 62)
	for range 8 {
		before := netlab.Now()
		wall := time.Now().UnixNano()
		after := netlab.Now()
		if after-before < best {
			best, offset = after-before, wall-(before+after)/2
		}
	}
	return offset
}

// tell prints a change.
func (p *progress) tell(ch *change) {
	if ch.trouble != "" {
		fmt.Fprintf(p.out, "          TROUBLE: %s\n", ch.trouble)
	}
	for _, m := range ch.line {
		fmt.Fprintf(p.out, "          %+9.1f ms  %s\n", float64(m.after)/1e6, m.what)
	}
	r := &ch.load
	if r.Silence.Length() <= outage {
		fmt.Fprintf(p.out, "          no outage: the longest time without any packet was %.1f ms\n", float64(r.Silence.Length())/1e6)
	}
	fmt.Fprintf(p.out, "          TCP broken %d of %d, UDP silent %d of %d, further flows %d of %d (%.1f s, %d passes)\n",
		len(r.TCPBroken), r.TCP, len(r.UDPSilent), r.UDP, ch.crowd.Answered, ch.crowd.Of, ch.crowd.Took.Seconds(), ch.crowd.Passes)
	fmt.Fprintf(p.out, "          gap per UDP flow %s; conversation %s; bulk %s\n", r.UDPGap, r.SteadyGap, r.BulkGap)
	fmt.Fprintf(p.out, "          RST %d, ICMP errors %d, of both %d from the routers\n", ch.wire.RST-ch.before.RST,
		ch.wire.ICMPErrors-ch.before.ICMPErrors, ch.wire.FromRouters()-ch.before.FromRouters())
	p.some("broken", r.TCPBroken)
	p.some("silent", r.UDPSilent)
	p.some("no answer", ch.crowd.Missing)
	if len(ch.wire.Samples) > len(ch.before.Samples) {
		p.some("on the wire", ch.wire.Samples[len(ch.before.Samples):])
	}
}

func (p *progress) some(what string, lines []string) {
	for i, l := range lines {
		if i == 4 {
			fmt.Fprintf(p.out, "            ... and %d more\n", len(lines)-i)
			return
		}
		fmt.Fprintf(p.out, "            %s: %s\n", what, l)
	}
}

// limit of the p99 gap. With adverts faster than the flows' packets one lost
// packet is already a gap of a whole period: less cannot be told apart.
func (c *crash) limit() time.Duration {
	limit := ActiveDown(100, c.opts.Interval) + GapSlack
	if period := c.opts.Mix.UDPPeriod; c.opts.Interval < period {
		limit = max(limit, period+GapSlack)
	}
	return limit
}

// short says whether an outage was. A flow counts whole periods: where its gap has
// one more, or the machine itself was late, the silence of all flows decides.
func (c *crash) short(ch *change) bool {
	limit := c.limit()
	late := limit + ch.late
	return ch.load.UDPGap.P99 <= limit || ch.load.Silence.Length() <= late && ch.load.UDPGap.P99 <= late+c.opts.Mix.UDPPeriod
}

// verdict prints the closing lines and says whether everything held.
func (c *crash) verdict(changes []change, left int) bool {
	limit := c.limit()
	held := len(changes) == 3 && left == 0
	fmt.Fprintf(c.out, "\n%-36s %11s %11s %15s %23s %5s\n", "", "TCP broken", "UDP silent", "gap p50/p99/max", "further flows answered", "RST")
	for i := range changes {
		ch := &changes[i]
		r := &ch.load
		ok := len(r.TCPBroken) == 0 && len(r.UDPSilent) == 0 && ch.crowd.Answered == ch.crowd.Of && c.short(ch)
		held = held && ok
		fmt.Fprintf(c.out, "%-36s %11s %11s %15s %23s %5d %s\n", fmt.Sprintf("%d %s", ch.number, ch.title),
			fmt.Sprintf("%d of %d", len(r.TCPBroken), r.TCP), fmt.Sprintf("%d of %d", len(r.UDPSilent), r.UDP),
			fmt.Sprintf("%d/%d/%d ms", r.UDPGap.P50.Milliseconds(), r.UDPGap.P99.Milliseconds(), r.UDPGap.Max.Milliseconds()),
			fmt.Sprintf("%d of %d", ch.crowd.Answered, ch.crowd.Of), ch.wire.RST-ch.before.RST, word(ok))
	}
	fmt.Fprintf(c.out, "\nAll counted by the endpoints. Limit of the p99 gap: %.1f ms (Active_Down_Interval of the Backup, %.1f ms, + %d ms).\n",
		float64(limit)/1e6, float64(ActiveDown(100, c.opts.Interval))/1e6, GapSlack.Milliseconds())
	for i := range changes {
		if ch := &changes[i]; ch.load.UDPGap.P99 > limit {
			fmt.Fprintf(c.out, "Change %d: no packet came for %.1f ms, the machine itself was late by up to %.1f ms, and a flow sends each %d ms.\n",
				ch.number, float64(ch.load.Silence.Length())/1e6, float64(ch.late)/1e6, c.opts.Mix.UDPPeriod.Milliseconds())
		}
	}
	fmt.Fprintf(c.out, "Took %.0f s. %s\n", time.Since(c.began).Seconds(), map[bool]string{true: "Everything held.", false: "NOT everything held."}[held])
	return held
}

func word(ok bool) string {
	if ok {
		return "held"
	}
	return "FAILED"
}

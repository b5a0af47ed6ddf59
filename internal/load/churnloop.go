// SPDX-License-Identifier: Apache-2.0

package load

import "time"

// churnLoop is the part of a crowd's loop that runs a churn.
type churnLoop struct {
	churnJob *churnJob
	churn    *churnMachine // nil until the gateways are known
	lives    uint32        // numbers that are used up
	bad      int           // frames with a wrong checksum
	out      packets
	shown    int64 // when ChurnSoFar was last renewed
}

// free takes the next churn when none runs.
func (l *crowdLoop) free() <-chan *churnJob {
	if l.churnJob != nil {
		return nil
	}
	return l.churns
}

// churnBurst is how many packets go out before the stations listen again.
const churnBurst = 4 * batchSize

func (l *crowdLoop) churnWork() {
	if !l.m.gwOK[0] || !l.m.gwOK[1] {
		if l.churnJob.ctx.Err() != nil {
			l.churnEnd(ChurnResult{})
			return
		}
		l.askGateways(time.Now())
		return
	}
	now := clock()
	if l.churn == nil {
		l.churn, l.bad = newChurnMachine(l.churnJob.cfg, l.m, l.lives, now), 0
	}
	select {
	case <-l.churnJob.cfg.Stop:
		l.churn.stopped = true
	default:
	}
	l.churnSpeak(now)
	switch r := l.churnResult(now); {
	case l.churn.over() || l.churnJob.ctx.Err() != nil:
		l.lives += uint32(r.Client.Born)
		l.churnEnd(r)
	case now-l.shown > int64(100*time.Millisecond):
		l.shown = now
		l.show(r)
	}
}

func (l *crowdLoop) churnResult(now int64) ChurnResult {
	r := l.churn.res
	r.Alive, r.Bad = l.churn.alive, r.Bad+l.bad
	r.Births, r.Took = time.Duration(l.churn.last-l.churn.began), time.Duration(now-l.churn.began)
	return r
}

func (l *crowdLoop) churnEnd(r ChurnResult) {
	l.show(r)
	l.churnJob.reply <- r
	l.churnJob, l.churn = nil, nil
}

func (l *crowdLoop) show(r ChurnResult) {
	r.At = nil
	l.mu.Lock()
	l.soFar = r
	l.mu.Unlock()
}

// churnSpeak sends what is due. Nearly all of it is the client's.
func (l *crowdLoop) churnSpeak(now int64) {
	n := 0
	for range churnBurst {
		l.out.n = 0
		side, ok := l.churn.due(now, &l.out)
		if !ok {
			break
		}
		if side == sideWAN {
			l.tx.write(l.fds[sideLAN], n)
			n = 0
			l.append(0, sideWAN, &l.out.seg[0])
			l.tx.write(l.fds[sideWAN], 1)
			l.churn.res.Packets++
			continue
		}
		if n += l.put(n, sideLAN); n == batchSize {
			l.tx.write(l.fds[sideLAN], n)
			n = 0
		}
	}
	l.tx.write(l.fds[sideLAN], n)
}

// put appends what the machine said at place n of the batch.
func (l *crowdLoop) put(n, side int) int {
	for i := range l.out.n {
		l.append(n+i, side, &l.out.seg[i])
	}
	l.churn.res.Packets += int64(l.out.n)
	return l.out.n
}

// churnFrame handles a frame of a churn; it returns how many answers it put at
// place n.
func (l *crowdLoop) churnFrame(side int, s *segment, n int, now int64) int {
	if l.churn == nil {
		return 0 // of one that has ended
	}
	l.out.n = 0
	l.churn.receive(side, s, now, &l.out)
	return l.put(n, side)
}

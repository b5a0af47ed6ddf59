// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// crowdLoop is the runner of a crowdMachine: one goroutine, two sockets.
type crowdLoop struct {
	*Crowd
	rx, tx  *batch
	payload [crowdPayload]byte

	job       *job
	began     time.Time
	todo      []int32 // flows of this pass
	sent      int     // of todo
	passBegan time.Time
	asked     time.Time // ARP request for a gateway

	churnLoop
}

// retryAfter is the pause between two passes over what did not answer.
const retryAfter = 200 * time.Millisecond

func (c *Crowd) loop() {
	runtime.LockOSThread() // it sits in poll(2)
	defer close(c.done)
	l := &crowdLoop{Crowd: c, rx: newBatch(), tx: newBatch()}
	for {
		select {
		case <-c.quit:
			return
		case j := <-c.jobs:
			l.accept(j)
		case j := <-l.free():
			l.churnJob = j
		default:
		}
		l.hear()
		if l.job != nil {
			l.work()
		}
		if l.churnJob != nil {
			l.churnWork()
		}
		l.wait()
	}
}

// wait sleeps until something comes, not longer than the pacing allows.
func (l *crowdLoop) wait() {
	timeout := 20 // milliseconds
	if l.job != nil && l.sent < len(l.todo) || l.churnJob != nil {
		timeout = 1
	}
	fds := []unix.PollFd{{Fd: int32(l.fds[0]), Events: unix.POLLIN}, {Fd: int32(l.fds[1]), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
		time.Sleep(time.Millisecond)
	}
}

func (l *crowdLoop) accept(j *job) {
	l.hear() // what came before belongs to the round before
	l.job, l.began = j, time.Now()
	l.m.begin(j.round)
	l.pass()
}

// pass collects what has not answered.
func (l *crowdLoop) pass() {
	l.todo, l.sent, l.passBegan = l.todo[:0], 0, time.Now()
	for i := range l.m.flows {
		if !l.m.flows[i].done {
			l.todo = append(l.todo, int32(i))
		}
	}
	l.m.res.Passes++
}

func (l *crowdLoop) work() {
	now := time.Now()
	switch {
	case l.m.left == 0 || now.After(l.job.end) || l.job.ctx.Err() != nil:
		l.finish()
	case !l.m.gwOK[0] || !l.m.gwOK[1]:
		l.askGateways(now)
	case l.sent < len(l.todo):
		l.pace(now)
	case now.Sub(l.passBegan) < retryAfter+time.Duration(len(l.todo))*time.Second/time.Duration(l.m.rate):
	case l.m.oneWay:
		l.finish()
	default:
		l.pass()
	}
}

func (l *crowdLoop) finish() {
	r := l.m.res
	r.Took = time.Since(l.began)
	for i := range l.m.flows {
		if !l.m.flows[i].done && len(r.Missing) < 10 {
			r.Missing = append(r.Missing, l.m.describe(i))
		}
	}
	l.job.reply <- r
	l.job = nil
}

// askGateways resolves what is not known yet, and restarts the clock of the
// pass: time without a gateway is not part of the pacing.
func (l *crowdLoop) askGateways(now time.Time) {
	l.passBegan = now
	if now.Sub(l.asked) < 100*time.Millisecond {
		return
	}
	l.asked = now
	for side := range l.fds {
		if !l.m.gwOK[side] {
			broadcast := [6]byte{255, 255, 255, 255, 255, 255}
			_, _ = unix.Write(l.fds[side], buildARP(arpRequest, broadcast, l.m.mac[side], l.m.addr[side], l.m.gw[side]))
		}
	}
}

// pace speaks to as many flows as are due.
func (l *crowdLoop) pace(now time.Time) {
	due := min(int(now.Sub(l.passBegan).Seconds()*float64(l.m.rate))+1, len(l.todo))
	due = min(due, l.sent+4*batchSize) // after a late wake-up: no flood
	for l.sent < due {
		// One batch per station: neighbours alternate between them.
		end := min(due, l.sent+batchSize)
		for side := range l.fds {
			l.speak(l.todo[l.sent:end], side)
		}
		l.sent = end
	}
}

func (l *crowdLoop) speak(flows []int32, side int) {
	n := 0
	for _, i := range flows {
		f := &l.m.flows[i]
		if f.done || f.broken {
			continue
		}
		if s, from := l.m.speak(int(i), l.m.serverFirst(int(i)), &l.payload); from == side {
			l.append(n, side, &s)
			n++
		}
	}
	l.tx.write(l.fds[side], n)
}

func (l *crowdLoop) append(n, side int, s *segment) {
	l.tx.put(n, len(build(l.tx.slot(n), l.m.gwHW[side], l.m.mac[side], s)))
}

// hear takes all that waits at both stations, and answers.
func (l *crowdLoop) hear() {
	for side, fd := range l.fds {
		for {
			n := l.rx.read(fd)
			if n == 0 {
				break
			}
			answers, now := 0, clock()
			for i := range n {
				if answers > batchSize-2 { // a frame has two answers at most
					l.tx.write(fd, answers)
					answers = 0
				}
				answers += l.frame(side, l.rx.frame(i), answers, now)
			}
			l.tx.write(fd, answers)
		}
	}
}

// frame handles one frame; it returns how many answers it put at place n.
func (l *crowdLoop) frame(side int, b []byte, n int, now int64) int {
	if p, ok := parseARP(b); ok {
		if answer := l.m.arp(side, p); answer != nil {
			_, _ = unix.Write(l.fds[side], answer)
		}
		return 0
	}
	var s segment
	if err := parse(b, &s); err != nil {
		if errors.Is(err, errChecksum) {
			l.m.res.Bad++
			l.bad++
		}
		return 0 // ICMP errors are the wire's business
	}
	if isChurn(side, &s) {
		return l.churnFrame(side, &s, n, now)
	}
	if out, reply := l.m.receive(side, &s, &l.payload); reply {
		l.append(n, side, &out)
		return 1
	}
	return 0
}

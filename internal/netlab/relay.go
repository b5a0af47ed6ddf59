// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Stages of this file: 1 what a relay does, 2 its life, 3 the way of a frame.
// What is done to the bytes of one is in harm.go.

// Harm is what a Relay does to UDP datagrams; shares are from 0 to 1. ARP and
// the like pass unharmed, as long as anything passes.
type Harm struct {
	Lose      float64
	Duplicate float64       // one more copy
	Replay    float64       // one more copy, up to two seconds later
	Corrupt   float64       // bits or bytes of the payload; of half of them the UDP checksum is put right
	Delay     time.Duration // of every frame
	Jitter    time.Duration // at most, beyond Delay and by chance: frames overtake each other
}

// RelayStats counts frames.
type RelayStats struct {
	Passed, Lost, Duplicated, Replayed, Corrupted int
	Overtook                                      int // left before one that had come earlier
	Parted                                        int // came while the relay was parted
}

// Relay stands in the middle of the sync link: what one router sends is read
// from its switch port, and written to that of the other. It begins harmless.
type Relay struct {
	lab  *Lab
	fds  [2]int // switch ports of r1 and r2
	done sync.WaitGroup
	stop chan struct{}

	mu     sync.Mutex
	rng    *rand.Rand
	harm   Harm
	parted bool
	dark   [2]bool // a router without power
	left   int     // UDP frames from side until the relay parts itself; 0: never
	side   int
	cut    chan struct{}
	queue  delayed
	seq    uint64
	latest uint64
	wake   chan struct{}
	stats  RelayStats
	procs  int // GOMAXPROCS before
}

// relayProcs is more than there are processors: a test that reads what 100,000
// flows print has its goroutines on all of GOMAXPROCS, and the relay's would wait
// for longer than a peer does. Threads share what there is.
const relayProcs = 8

// Relay puts one into the sync link; seed makes what it does by chance
// repeatable, as far as frames come in the same order.
func (l *Lab) Relay(seed uint64) (*Relay, error) {
	r := &Relay{lab: l, fds: [2]int{-1, -1}, stop: make(chan struct{}), wake: make(chan struct{}, 1),
		rng: rand.New(rand.NewPCG(seed, seed))}
	if l.opts.Third {
		return nil, errors.New("put a relay into the sync link: there are three routers")
	}
	for i, router := range l.Routers() {
		fd, err := l.Switch.PacketSocket(router.port(Sync), nil)
		if err == nil {
			r.fds[i] = fd
			tv := unix.NsecToTimeval(int64(50 * time.Millisecond)) // how long Close waits
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		}
		if err == nil {
			err = l.isolate(router, true)
		}
		if err != nil {
			r.closeSockets()
			return nil, fmt.Errorf("put a relay into the sync link: %w", err)
		}
	}
	l.relay.Store(r)
	r.procs = runtime.GOMAXPROCS(max(relayProcs, runtime.GOMAXPROCS(0)))
	r.done.Add(3)
	go r.read(0)
	go r.read(1)
	go r.deliver()
	return r, nil
}

// isolate keeps the switch from passing frames between the routers by itself.
func (l *Lab) isolate(r *Router, on bool) error {
	p, err := l.Switch.nl.LinkByName(r.port(Sync))
	if err != nil {
		return fmt.Errorf("find port %q: %w", r.port(Sync), err)
	}
	if err := l.Switch.nl.LinkSetIsolated(p, on); err != nil {
		return fmt.Errorf("isolate port %q: %w", r.port(Sync), err)
	}
	return nil
}

// Close takes the relay out: the switch passes frames again.
func (r *Relay) Close() (err error) {
	r.lab.relay.CompareAndSwap(r, nil)
	close(r.stop)
	r.done.Wait()
	runtime.GOMAXPROCS(r.procs)
	for _, router := range r.lab.Routers() {
		err = errors.Join(err, r.lab.isolate(router, false))
	}
	r.closeSockets()
	return err
}

func (r *Relay) closeSockets() {
	for _, fd := range r.fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Harm says what is done from now on.
func (r *Relay) Harm(h Harm) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.harm = h
}

// Part lets nothing through, in neither direction; carriers stay.
func (r *Relay) Part() { r.part(true) }

// Heal undoes Part. What was under way is lost.
func (r *Relay) Heal() { r.part(false) }

func (r *Relay) part(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parted, r.left = on, 0
}

// PartAfter parts the link after n more large datagrams of a router (of 600
// bytes at least, so full of records), and closes the channel then.
func (r *Relay) PartAfter(from *Router, n int) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.side, r.left, r.cut = from.Index-1, n, make(chan struct{})
	return r.cut
}

// Stats reads the counters.
func (r *Relay) Stats() RelayStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// goDark is a power cut: no frame of dying processes gets out.
func (r *Relay) goDark(index int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dark[index-1] = true
}

func (r *Relay) read(side int) {
	defer r.done.Done()
	buf := make([]byte, 65536)
	for {
		select {
		case <-r.stop:
			return
		default:
		}
		n, _, err := unix.Recvfrom(r.fds[side], buf, 0)
		switch {
		case err == nil:
			r.take(side, buf[:n])
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
		default:
			return
		}
	}
}

// take decides what becomes of a frame.
func (r *Relay) take(side int, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parted || r.dark[0] || r.dark[1] {
		r.stats.Parted++
		return
	}
	h := r.harm
	if !isUDP(b) {
		h = Harm{Delay: h.Delay}
	} else {
		fixChecksum(b) // the sender leaves it to its network card
		r.countdown(side, len(b))
	}
	if r.chance(h.Lose) {
		r.stats.Lost++
		return
	}
	if r.chance(h.Duplicate) {
		r.stats.Duplicated++
		r.send(side, b, &h, 0)
	}
	if r.chance(h.Replay) {
		r.stats.Replayed++
		r.send(side, b, &h, time.Duration(r.rng.Int64N(int64(2*time.Second))))
	}
	if r.chance(h.Corrupt) {
		r.stats.Corrupted++
		b = append([]byte(nil), b...)
		corrupt(b, r.rng)
	}
	r.stats.Passed++
	r.send(side, b, &h, 0)
}

func (r *Relay) countdown(side, size int) {
	if r.left == 0 || side != r.side || size < 600 {
		return
	}
	if r.left--; r.left == 0 {
		r.parted = true
		close(r.cut)
	}
}

func (r *Relay) chance(share float64) bool { return share > 0 && r.rng.Float64() < share }

// send writes a frame, or has it wait.
func (r *Relay) send(side int, b []byte, h *Harm, late time.Duration) {
	wait := h.Delay + late
	if h.Jitter > 0 {
		wait += time.Duration(r.rng.Int64N(int64(h.Jitter)))
	}
	r.seq++
	if wait == 0 && len(r.queue) == 0 {
		r.write(side, r.seq, b)
		return
	}
	heap.Push(&r.queue, waiting{time.Now().Add(wait), r.seq, side, append([]byte(nil), b...)})
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Relay) write(side int, seq uint64, b []byte) {
	if seq < r.latest {
		r.stats.Overtook++
	}
	r.latest = max(r.latest, seq)
	_, _ = unix.Write(r.fds[1-side], b) // a port that is down loses it, as a cable does
}

// deliver writes what has waited long enough.
func (r *Relay) deliver() {
	defer r.done.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(r.due())
		select {
		case <-r.stop:
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// due writes what is due and says how long the next has to wait.
func (r *Relay) due() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) > 0 {
		if wait := time.Until(r.queue[0].at); wait > 0 {
			return wait
		}
		w := heap.Pop(&r.queue).(waiting)
		if r.parted || r.dark[0] || r.dark[1] {
			r.stats.Parted++
			continue
		}
		r.write(w.side, w.seq, w.frame)
	}
	return time.Hour
}

// waiting is a frame that came at side and leaves at the other one later.
type waiting struct {
	at    time.Time
	seq   uint64
	side  int
	frame []byte
}

// delayed is a heap by time.
type delayed []waiting

func (d delayed) Len() int           { return len(d) }
func (d delayed) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d delayed) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *delayed) Push(x any)        { *d = append(*d, x.(waiting)) }
func (d *delayed) Pop() any {
	old := *d
	w := old[len(old)-1]
	old[len(old)-1] = waiting{}
	*d = old[:len(old)-1]
	return w
}

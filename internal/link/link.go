// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/syncproto"
)

// DefaultPort is tandem's UDP port; conntrackd may hold 3780 on the same host.
const DefaultPort = 3781

// Locked is a Node with its one lock, and the links that carry its datagrams.
type Locked struct {
	sync.Mutex
	*syncproto.Node
	links []*Link // complete before the first of them runs
}

// Wake says that the Node has something to send. It wakes the links that carry
// what is not a heartbeat; call it without the lock or with it.
func (n *Locked) Wake() {
	woken := false
	for _, l := range n.links {
		if l.used.Load() {
			woken = true
			l.Wake()
		}
	}
	if !woken && len(n.links) > 0 {
		n.links[0].Wake() // for the timers
	}
}

// Flush sends what waits on the caller's thread: a window of changes costs no
// hand-over to another one. Call it without the lock.
func (n *Locked) Flush() {
	flushed := false
	for _, l := range n.links {
		if l.used.Load() {
			flushed = true
			l.flush()
		}
	}
	if !flushed && len(n.links) > 0 {
		n.links[0].flush() // for the timers
	}
}

// kick wakes the links that sleep for too long after what was done just now;
// by is not asleep. The lock is held.
func (n *Locked) kick(by *Link, now int64) {
	due := n.NextDeadline()
	for _, l := range n.links {
		if d := min(due, l.due(now)); l != by && d < l.armed.Load()-int64(kickSlack) {
			l.Wake()
		}
	}
}

// kickSlack is how much too late a link may wake by itself. After each window
// of changes the first thing due is that they are given up for lost, which may
// wait: to wake a link costs more than the window.
const kickSlack = 15 * time.Millisecond

// Config is one sync link.
type Config struct {
	Interface string
	Peers     []netip.Addr // empty: found on the link
	Listen    netip.Addr   // invalid: the interface's first address
	Group     netip.Addr   // of calls; invalid: 225.0.0.50 or ff02::5450
	Port      uint16       // default 3781
	Now       func() int64 // CLOCK_MONOTONIC in ns; default the kernel's
	KeyFile   string       // see LoadSecrets; empty: datagrams are not sealed
	Gate      Gate         // nil: every datagram comes through the stack
	Notify    func()       // called without the lock after datagrams came and after ticks, not after Flush
	Log       *slog.Logger
}

// Link is one sync link at work.
type Link struct {
	cfg   Config
	node  *Locked
	order int                    // among the Node's links, the best one first
	at    atomic.Pointer[socket] // nil: none is open
	armed atomic.Int64           // when carry wakes by itself
	used  atomic.Bool            // a peer's path in use is on this link
	out   sender

	// When everybody is called next, until when often, and when a station may be
	// given up for another one; the Node's lock.
	nextCall, eager, nextEvict int64
	ready                      chan struct{}
	once                       sync.Once

	keys    keyFile
	secrets atomic.Pointer[[]Secret] // nil: datagrams are not sealed
	told    told                     // under the Node's lock

	mu    sync.Mutex // stats, peers; taken after the Node's
	stats Stats
	peers []*station
}

// New makes a Link; nothing is opened before Run. Of several links of a Node
// the one made first is preferred.
func New(cfg Config, node *Locked) *Link {
	if cfg.Port == 0 {
		cfg.Port = DefaultPort
	}
	if cfg.Now == nil {
		cfg.Now = monotonic
	}
	if cfg.Notify == nil {
		cfg.Notify = func() {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Link{cfg: cfg, node: node, ready: make(chan struct{})}
	l.stats.Interface, l.keys.path = cfg.Interface, cfg.KeyFile
	node.Lock()
	defer node.Unlock()
	l.order = len(node.links)
	node.links = append(node.links, l)
	for _, a := range cfg.Peers {
		l.addStation(a.Unmap().WithZone(""), true, cfg.Now())
	}
	return l
}

// monotonic is CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("link: read CLOCK_MONOTONIC: " + err.Error())
	}
	return ts.Nano()
}

// String names the link.
func (l *Link) String() string { return "sync link " + l.cfg.Interface }

// Ready is closed once the sockets are open.
func (l *Link) Ready() <-chan struct{} { return l.ready }

// Wake says that the Node has something to send. It never blocks; call it
// without the lock or with it.
func (l *Link) Wake() {
	if s := l.at.Load(); s != nil {
		s.waiter.Ring()
	}
}

// reopenEvery is how often a link whose interface is gone looks for it.
const reopenEvery = time.Second

// errChanged: the interface is another one now; the socket must be bound anew.
var errChanged = errors.New("interface was replaced")

// Run opens the socket and carries datagrams until ctx ends. The socket is
// opened in the network namespace of the thread that calls it. An interface
// that vanishes later is waited for, and so is one that is missing at the start
// where the Node has other links: a router that lost a card must come up.
func (l *Link) Run(ctx context.Context) error {
	if err := l.loadKeys(); err != nil {
		return err
	}
	for first := true; ; first = false {
		s, err := l.open()
		switch {
		case err == nil:
			l.once.Do(func() { close(l.ready) })
			err = l.attend(ctx, s)
		case first && len(l.node.links) == 1:
			return err
		}
		l.once.Do(func() { close(l.ready) })
		if ctx.Err() != nil {
			return nil
		}
		l.cfg.Log.Warn("sync link interrupted", "interface", l.cfg.Interface, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reopenEvery):
		}
	}
}

// attend carries datagrams and looks after the interface until one of the two
// ends.
func (l *Link) attend(ctx context.Context, s *socket) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, l.Wake)()
	l.at.Store(s)
	l.out.begin(s)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(l.carry(ctx, s)) })
	cancel(l.watch(ctx, s))
	wg.Wait()
	l.out.begin(nil)
	l.at.Store(nil)
	s.close()
	return context.Cause(ctx)
}

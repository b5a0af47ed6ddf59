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

// Locked is a Node with its one lock.
type Locked struct {
	sync.Mutex
	*syncproto.Node
}

// Config is one sync link.
type Config struct {
	Interface string
	Peers     []netip.Addr // empty: found on the link
	Listen    netip.Addr   // invalid: the interface's first address
	Port      uint16       // default 3781
	Now       func() int64 // CLOCK_MONOTONIC in ns; default the kernel's
	KeyFile   string       // see LoadSecrets; empty: datagrams are not sealed
	Notify    func()       // called without the lock after datagrams came and after ticks
	Log       *slog.Logger
}

// Link is one sync link at work.
type Link struct {
	cfg   Config
	node  *Locked
	wake  chan struct{}
	armed atomic.Int64 // when the sender wakes by itself
	ready chan struct{}
	once  sync.Once

	keys    keyFile
	secrets atomic.Pointer[[]Secret] // nil: datagrams are not sealed

	mu    sync.Mutex // stats, peers; taken after the Node's
	stats Stats
	peers []*station
}

// station is a peer and where it is.
type station struct {
	addr netip.Addr
	peer *syncproto.Peer
}

// New makes a Link; nothing is opened before Run.
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
	l := &Link{cfg: cfg, node: node, wake: make(chan struct{}, 1), ready: make(chan struct{})}
	l.stats.Interface, l.keys.path = cfg.Interface, cfg.KeyFile
	for _, a := range cfg.Peers {
		l.addPeer(a.Unmap().WithZone(""))
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
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// reopenEvery is how often a link whose interface is gone looks for it.
const reopenEvery = time.Second

// errChanged: the interface is another one now; the socket must be bound anew.
var errChanged = errors.New("interface was replaced")

// Run opens the socket and carries datagrams until ctx ends. The socket is
// opened in the network namespace of the thread that calls it. An interface
// that vanishes later is waited for.
func (l *Link) Run(ctx context.Context) error {
	if err := l.loadKeys(); err != nil {
		return err
	}
	for first := true; ; first = false {
		s, err := l.open()
		switch {
		case err == nil:
			l.once.Do(func() { close(l.ready) })
			err = l.carry(ctx, s)
		case first:
			return err
		}
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

// carry runs the receiver, the sender and the watch over the interface until
// one of them ends.
func (l *Link) carry(ctx context.Context, s *socket) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, task := range []func(context.Context, *socket) error{l.receive, l.send} {
		wg.Go(func() { cancel(task(ctx, s)) })
	}
	cancel(l.watch(ctx, s))
	s.close()
	wg.Wait()
	return context.Cause(ctx)
}

// addPeer adds a peer that is not there yet.
func (l *Link) addPeer(a netip.Addr) (added bool) {
	l.node.Lock()
	defer l.node.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, st := range l.peers {
		if st.addr == a {
			return false
		}
	}
	st := &station{addr: a, peer: l.node.AddPeer(a.String(), l.cfg.Now())}
	l.peers = append(l.peers[:len(l.peers):len(l.peers)], st)
	return true
}

// stations gives the peers; the slice is never written to.
func (l *Link) stations() []*station {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peers
}

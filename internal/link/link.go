// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/tandem-ha/tandem/syncproto"
)

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
	Log       *slog.Logger
}

// Link is one sync link at work.
type Link struct{}

// New makes a Link; nothing is opened before Run.
func New(cfg Config, node *Locked) *Link { return &Link{} }

// Run opens the sockets and carries datagrams until ctx ends. It opens them
// in the network namespace of the thread that calls it.
func (l *Link) Run(ctx context.Context) error { return nil }

// Ready is closed once the sockets are open.
func (l *Link) Ready() <-chan struct{} { return nil }

// String names the link.
func (l *Link) String() string { return "" }

// Wake says that the Node has something to send. It never blocks; call it
// without the lock or with it.
func (l *Link) Wake() {}

// Stats is what a Link counted since Run.
type Stats struct {
	Interface                        string
	Carrier                          bool
	MTU                              int
	LastHeard                        time.Time // of any datagram on the port; zero: never
	SentDatagrams, SentBytes         uint64
	ReceivedDatagrams, ReceivedBytes uint64
	SendErrors                       uint64
	LastSendError                    string
	DroppedHops, DroppedInterface    uint64 // hop limit not 255, other interface
	DroppedStranger                  uint64 // source is no peer
	Peers                            []PeerStats
}

// PeerStats is one peer on this link.
type PeerStats struct {
	Address   netip.Addr
	Name      string
	Up        bool
	LastHeard time.Time // zero: never
}

// Stats gives the counters.
func (l *Link) Stats() Stats { return Stats{} }

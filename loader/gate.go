// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/maps"
)

// Rates of one bucket, of which a peer's address has 32 for hellos that name a
// value of ours, 32 for others and one for calls, and all strangers have 256. A
// peer that is paired says hello each 20 ms for a second (syncproto).
const (
	helloEvery    = 20 * time.Millisecond
	helloBurst    = 20
	strangerEvery = time.Second
	strangerBurst = 3
)

// noWindow is a pair beyond those whose windows are held.
const noWindow = ^uint32(0)

// GateOptions is one sync link.
type GateOptions struct {
	Interface string
	Port      uint16
	Sealed    bool // datagrams must be sealed; else they must not
	Discover  bool // peers are found: strangers may say hello
	Log       *slog.Logger
}

// GatePeer is a peer's address on the link and what it may say. Sessions are
// as on the wire.
type GatePeer struct {
	Addr         netip.Addr
	Paired       bool
	Theirs, Mine [16]byte
	Offered      bool
	Spare        [16]byte // a value of ours that it may name to begin a pair
	Highest      uint64   // sequence received of the pair
	Received     *[64]uint64
}

// GateKey is what stamps of one key of the link are made with.
type GateKey struct {
	ID    byte
	Stamp [16]byte
}

func (p *GatePeer) same(q *GatePeer) bool {
	return p.Addr == q.Addr && p.Paired == q.Paired && p.Theirs == q.Theirs && p.Mine == q.Mine &&
		p.Offered == q.Offered && p.Spare == q.Spare
}

// Gate drops on XDP of the sync link what is not of a live session, before the
// stack. It has no say in anything else: where it cannot be attached, the link
// works without. It is safe for concurrent use.
type Gate struct {
	iface   string
	log     *slog.Logger
	ns      namespace
	nl      *netlink.Handle
	coll    *ebpf.Collection
	windows *maps.SyncWindows
	ports   *ports
	stop    context.CancelFunc
	ended   chan error

	mu     sync.Mutex
	closed bool
	told   []GatePeer
	keys   []GateKey
	pairs  map[bpf.SyncPair]uint32 // and their windows
	named  map[bpf.SyncNamed]struct{}
	peers  map[bpf.OwnKey]struct{}
	free   []uint32 // windows
}

// OpenGate loads the gate and attaches it to the interface, also when that
// comes later or is replaced, in the network namespace of the calling thread.
// That it cannot be attached is no error: see Mode.
func OpenGate(o GateOptions) (*Gate, error) {
	g := &Gate{iface: o.Interface, log: o.Log, pairs: map[bpf.SyncPair]uint32{},
		named: map[bpf.SyncNamed]struct{}{}, peers: map[bpf.OwnKey]struct{}{}}
	if err := g.open(o); err != nil {
		return nil, errors.Join(fmt.Errorf("open gate: %w", err), g.Close())
	}
	_ = g.ports.sync() // logged there, and told by Mode
	var ctx context.Context
	ctx, g.stop = context.WithCancel(context.Background())
	g.ended = make(chan error, 1)
	go func() { g.ended <- g.ports.watch(ctx) }()
	return g, nil
}

func (g *Gate) open(o GateOptions) (err error) {
	if g.ns, err = currentNamespace(); err != nil {
		return err
	}
	if g.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	spec, err := gateSpec(o)
	if err != nil {
		return err
	}
	if g.coll, err = load(spec, "tandem_sync"); err != nil {
		return err
	}
	if g.windows, err = maps.OpenSyncWindows(g.coll.Maps["tandem_windows"]); err != nil {
		return err
	}
	for i := range g.windows.Len() {
		g.free = append(g.free, uint32(i))
	}
	h := &hook{prog: g.coll.Programs["tandem_sync"], name: "tandem_sync", rung: rungXDP,
		alone: []string{"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"}}
	g.ports = newPorts(g.ns, g.nl, h, selection{include: []string{o.Interface}, exact: true}, o.Log)
	return nil
}

// gateSpec gives tandem_sync with its settings.
func gateSpec(o GateOptions) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.Sync()
	if err != nil {
		return nil, fmt.Errorf("read gate program: %w", err)
	}
	var seed uint64
	if err := binary.Read(rand.Reader, binary.NativeEndian, &seed); err != nil {
		return nil, fmt.Errorf("draw seed: %w", err)
	}
	set := setter{spec: spec}
	set.to("port", o.Port)
	seal, trailer := uint8(0), uint8(4)
	if o.Sealed {
		seal, trailer = 1, 16
	}
	set.to("seal", seal)
	set.to("trailer", trailer)
	set.to("discover", o.Discover)
	set.to("seed", seed)
	set.to("hello_every", uint64(helloEvery))
	set.to("hello_burst", uint64((helloBurst-1)*helloEvery))
	set.to("stranger_every", uint64(strangerEvery))
	set.to("stranger_burst", uint64((strangerBurst-1)*strangerEvery))
	return spec, set.err
}

// Tell says what may pass from now on. Call it at every change before anything
// is sent that was made after it, and after each batch that was received.
func (g *Gate) Tell(peers []GatePeer, keys []GateKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	if !slices.Equal(keys, g.keys) {
		g.stamps(keys)
		g.keys = append(g.keys[:0], keys...)
	}
	if !slices.EqualFunc(peers, g.told, func(a, b GatePeer) bool { return a.same(&b) }) {
		g.change(peers)
		g.told = append(g.told[:0], peers...)
	}
	for i := range peers {
		p := &peers[i]
		if w := g.pairs[pairKey(p)]; p.Paired && w != noWindow {
			g.windows.Set(int(w), p.Highest, p.Received)
		}
	}
}

// stamps takes the keys that are no longer used, and puts in those that are.
func (g *Gate) stamps(keys []GateKey) {
	m := g.coll.Maps["tandem_stamps"]
	for _, k := range g.keys {
		if !slices.Contains(keys, k) {
			g.failed(m.Put(uint32(k.ID), &bpf.SyncStamp{}))
		}
	}
	for _, k := range keys {
		s := session(k.Stamp)
		g.failed(m.Put(uint32(k.ID), &bpf.SyncStamp{Key: s.Half, Known: 1}))
	}
}

// change takes what may not pass any more out of the maps, and puts in what may.
func (g *Gate) change(peers []GatePeer) {
	pairs, named, known := map[bpf.SyncPair]struct{}{}, map[bpf.SyncNamed]struct{}{}, map[bpf.OwnKey]struct{}{}
	for i := range peers {
		p := &peers[i]
		known[ownKey(p.Addr)] = struct{}{}
		if p.Paired {
			pairs[pairKey(p)] = struct{}{}
			named[namedKey(p.Addr, p.Mine)] = struct{}{}
		}
		if p.Offered {
			named[namedKey(p.Addr, p.Spare)] = struct{}{}
		}
	}
	for key, w := range g.pairs {
		if _, stays := pairs[key]; !stays {
			g.failed(g.coll.Maps["tandem_pairs"].Delete(&key))
			delete(g.pairs, key)
			if w != noWindow {
				g.windows.Set(int(w), 0, nil)
				g.free = append(g.free, w)
			}
		}
	}
	differ(g, g.coll.Maps["tandem_peers"], g.peers, known, bpf.SyncBuckets{})
	differ(g, g.coll.Maps["tandem_named"], g.named, named, uint8(1))
	for key := range pairs {
		if _, is := g.pairs[key]; !is {
			g.pairs[key] = g.window()
			g.failed(g.coll.Maps["tandem_pairs"].Put(&key, g.pairs[key]))
		}
	}
}

func (g *Gate) window() uint32 {
	if len(g.free) == 0 {
		return noWindow
	}
	w := g.free[len(g.free)-1]
	g.free = g.free[:len(g.free)-1]
	return w
}

// differ makes a map hold the keys of next.
func differ[K comparable, V any](g *Gate, m *ebpf.Map, have, next map[K]struct{}, value V) {
	for key := range have {
		if _, stays := next[key]; !stays {
			g.failed(m.Delete(&key))
			delete(have, key)
		}
	}
	for key := range next {
		if _, is := have[key]; !is {
			g.failed(m.Put(&key, &value))
			have[key] = struct{}{}
		}
	}
}

// failed: a gate that cannot be told would drop what it must not, so it goes.
func (g *Gate) failed(err error) {
	if err == nil || errors.Is(err, ebpf.ErrKeyNotExist) {
		return
	}
	g.log.Warn("the gate cannot be told of a session, so it is taken away", "interface", g.iface, "error", err)
	g.ports.leave("it could not be told of a session: " + err.Error())
}

func session(s [16]byte) bpf.SyncSession {
	return bpf.SyncSession{Half: [2]uint64{binary.NativeEndian.Uint64(s[:8]), binary.NativeEndian.Uint64(s[8:])}}
}

func pairKey(p *GatePeer) bpf.SyncPair {
	return bpf.SyncPair{Family: family(p.Addr), Addr: words(p.Addr), Theirs: session(p.Theirs), Mine: session(p.Mine)}
}

func namedKey(a netip.Addr, mine [16]byte) bpf.SyncNamed {
	return bpf.SyncNamed{Family: family(a), Addr: words(a), Mine: session(mine)}
}

func family(a netip.Addr) uint32 {
	if a.Unmap().Is4() {
		return uint32(conntrack.IPv4)
	}
	return uint32(conntrack.IPv6)
}

// Mode is "native" or "generic" where it stands, else "", and why.
func (g *Gate) Mode() (mode, why string) {
	g.ports.mu.Lock()
	defer g.ports.mu.Unlock()
	for _, p := range g.ports.byIndex {
		if x, ok := p.at.(xdpLink); ok {
			return x.mode, ""
		}
	}
	if g.ports.left != "" {
		return "", g.ports.left
	}
	for _, f := range g.ports.failed {
		return "", f.why
	}
	return "", fmt.Sprintf("interface %q is not there", g.iface)
}

// GateStats counts packets by what became of them.
type GateStats struct {
	PassedOther      uint64 `json:"passed_other"`  // no datagram of the sync link
	PassedUnseen     uint64 `json:"passed_unseen"` // too many IPv6 extension headers to tell
	PassedData       uint64 `json:"passed_data"`
	PassedHello      uint64 `json:"passed_hello"`
	PassedCall       uint64 `json:"passed_call"`
	DroppedFragment  uint64 `json:"dropped_fragment"`
	DroppedHops      uint64 `json:"dropped_hops"`      // hop limit not 255
	DroppedShort     uint64 `json:"dropped_short"`     // no room for header and trailer
	DroppedVersion   uint64 `json:"dropped_version"`   // another magic or version
	DroppedType      uint64 `json:"dropped_type"`      // neither data, hello nor call
	DroppedSeal      uint64 `json:"dropped_seal"`      // not sealed though it must, or the reverse
	DroppedKey       uint64 `json:"dropped_key"`       // sealed with a key that is not ours
	DroppedForged    uint64 `json:"dropped_forged"`    // the stamp is not the key's
	DroppedStranger  uint64 `json:"dropped_stranger"`  // source is no peer
	DroppedSession   uint64 `json:"dropped_session"`   // data of no live session
	DroppedReplay    uint64 `json:"dropped_replay"`    // received before, or too old
	DroppedReflected uint64 `json:"dropped_reflected"` // a hello of our own
	DroppedRate      uint64 `json:"dropped_rate"`      // hellos and calls, too many
}

// Stats may be called until Close.
func (g *Gate) Stats() GateStats {
	n, _ := maps.Counters[bpf.SyncCounters](g.coll.Maps["tandem_gated"]) // fails after Close only
	return GateStats{PassedOther: n.PassedOther, PassedUnseen: n.PassedUnseen, PassedData: n.PassedData,
		PassedHello: n.PassedHello, PassedCall: n.PassedCall, DroppedFragment: n.DroppedFragment, DroppedHops: n.DroppedHops,
		DroppedShort: n.DroppedShort, DroppedVersion: n.DroppedVersion, DroppedType: n.DroppedType, DroppedSeal: n.DroppedSeal,
		DroppedKey: n.DroppedKey, DroppedForged: n.DroppedForged, DroppedStranger: n.DroppedStranger, DroppedSession: n.DroppedSession, DroppedReplay: n.DroppedReplay,
		DroppedReflected: n.DroppedReflected, DroppedRate: n.DroppedRate}
}

// Close takes the gate away; a second time it does nothing.
func (g *Gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	var errs []error
	if g.stop != nil {
		g.stop()
		errs = append(errs, <-g.ended)
	}
	if g.ports != nil {
		errs = append(errs, g.ports.close())
	}
	if g.windows != nil {
		errs = append(errs, g.windows.Close())
	}
	if g.coll != nil {
		g.coll.Close()
	}
	if g.nl != nil {
		g.nl.Close()
	}
	g.ns.close()
	return errors.Join(errs...)
}

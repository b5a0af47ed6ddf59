// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/maps"
)

// fencePriorities are tried in this order. The kernel gives a BPF program no
// priority that another hook holds, and -150 is mangle's; all of them lie
// between conntrack (-200) and DNAT (-100).
var fencePriorities = func() (p []int32) {
	for i := int32(-150); i < -100; i++ {
		p = append(p, i)
	}
	for i := int32(-151); i > -200; i-- {
		p = append(p, i)
	}
	return p
}()

// Fence drops what the kernel table does not know, on every interface, until a
// deadline that stands in the program: neither a crash nor a hang can leave it
// up. It is safe for concurrent use.
type Fence struct {
	log     *slog.Logger
	coll    *ebpf.Collection
	control *maps.FenceControl
	links   []link.Link // the netfilter rung
	ports   *ports      // the TC rung
	nl      *netlink.Handle
	ns      namespace
	kind    string

	mu    sync.Mutex
	up    bool
	local map[bpf.OwnKey]struct{}
}

// OpenFence attaches the fence in the network namespace of the calling thread,
// down: it passes everything.
func OpenFence(log *slog.Logger) (*Fence, error) {
	f, err := openFenceNetfilter(log)
	if errors.Is(err, ebpf.ErrNotSupported) {
		log.Info("no netfilter programs (Linux 6.4): the fence stands at TC and sees TCP and UDP only", "error", err)
		f, err = openFenceTC(log, "")
	}
	if err != nil {
		return nil, fmt.Errorf("open fence: %w", err)
	}
	return f, nil
}

func openFenceNetfilter(log *slog.Logger) (*Fence, error) {
	if err := features.HaveProgramType(ebpf.Netfilter); err != nil {
		return nil, err
	}
	spec, err := bpf.Fence()
	if err != nil {
		return nil, err
	}
	f := &Fence{log: log, kind: "netfilter", local: map[bpf.OwnKey]struct{}{}}
	if f.coll, err = load(spec, "tandem_fence"); err != nil {
		return nil, err
	}
	if err := f.attachNetfilter(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if f.control, err = maps.OpenFenceControl(f.coll.Maps[".bss"]); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Fence) attachNetfilter() error {
	for name, family := range map[string]link.NetfilterProtocolFamily{
		"tandem_fence4": link.NetfilterProtoIPv4, "tandem_fence6": link.NetfilterProtoIPv6,
	} {
		l, err := attachNetfilter(f.coll.Programs[name], family, link.NetfilterInetPreRouting, fencePriorities)
		if err != nil {
			return fmt.Errorf("attach %s to prerouting: %w", name, err)
		}
		f.links = append(f.links, l)
	}
	return nil
}

// attachNetfilter attaches to a hook at the first of the priorities that is
// free.
func attachNetfilter(prog *ebpf.Program, family link.NetfilterProtocolFamily, hook link.NetfilterInetHook, priorities []int32) (l link.Link, err error) {
	for _, priority := range priorities {
		l, err = link.AttachNetfilter(link.NetfilterOptions{
			Program: prog, ProtocolFamily: family, Hook: hook, Priority: priority,
		})
		if !errors.Is(err, unix.EBUSY) {
			return l, err
		}
	}
	return nil, err
}

// Kind is "netfilter" or the rung of TC below 6.4: "tcx", "clsact".
func (f *Fence) Kind() string { return f.kind }

// Up raises the fence for d.
func (f *Fence) Up(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ports != nil {
		_ = f.ports.sync() // logged there; interfaces that came since
	}
	f.up = true
	f.control.SetDeadline(now() + d.Nanoseconds())
}

// Renew lets a fence that is up stay for d from now; after Down it does
// nothing.
func (f *Fence) Renew(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.up {
		f.control.SetDeadline(now() + d.Nanoseconds())
	}
}

// Down lowers the fence.
func (f *Fence) Down() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up = false
	f.control.SetDeadline(0)
}

// now is the kernel's bpf_ktime_get_ns: CLOCK_MONOTONIC.
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("read CLOCK_MONOTONIC: " + err.Error())
	}
	return ts.Nano()
}

// SetLocal replaces the set of own, non-virtual addresses: packets to them
// pass. What cannot be set is logged and stays fenced.
func (f *Fence) SetLocal(addrs []netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.coll.Maps["tandem_own"]
	next := make(map[bpf.OwnKey]struct{}, len(addrs))
	for _, a := range addrs {
		key := ownKey(a)
		if err := m.Put(&key, uint8(1)); err != nil {
			f.log.Warn("cannot let an own address through the fence", "address", a, "error", err)
			continue
		}
		next[key] = struct{}{}
	}
	for key := range f.local {
		if _, stays := next[key]; stays {
			continue
		}
		if err := m.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			f.log.Warn("cannot take an address out of the fence's exceptions", "error", err)
		}
	}
	f.local = next
}

func ownKey(a netip.Addr) bpf.OwnKey {
	key := bpf.OwnKey{Family: uint32(conntrack.IPv6), Addr: words(a)}
	if a.Unmap().Is4() {
		key.Family = uint32(conntrack.IPv4)
	}
	return key
}

// SetPorts names the UDP port of the sync link, whose multicast passes.
func (f *Fence) SetPorts(sync uint16) { f.control.SetSyncPort(sync) }

// FenceStats counts packets while the fence was up.
type FenceStats struct {
	DroppedNew      uint64 `json:"dropped_new"`      // no entry
	DroppedInvalid  uint64 `json:"dropped_invalid"`  // fits no entry
	PassedKnown     uint64 `json:"passed_known"`     // of an entry, or related to one
	PassedUntracked uint64 `json:"passed_untracked"` // the ruleset does not track it
	PassedLocal     uint64 `json:"passed_local"`     // to an own address, or over lo
	PassedLink      uint64 `json:"passed_link"`      // link-local multicast and broadcast, ND
	PassedAdvert    uint64 `json:"passed_advert"`    // VRRP
	PassedSync      uint64 `json:"passed_sync"`      // the sync link's multicast
	PassedUnseen    uint64 `json:"passed_unseen"`    // TC only: neither TCP nor UDP, or a fragment
}

// Stats may be called until Close.
func (f *Fence) Stats() FenceStats {
	n, _ := maps.Counters[bpf.FenceCounters](f.coll.Maps["tandem_fenced"]) // fails after Close only
	return FenceStats{
		DroppedNew: n.DroppedNew, DroppedInvalid: n.DroppedInvalid, PassedKnown: n.PassedKnown,
		PassedUntracked: n.PassedUntracked, PassedLocal: n.PassedLocal, PassedLink: n.PassedLink,
		PassedAdvert: n.PassedAdvert, PassedSync: n.PassedSync, PassedUnseen: n.PassedUnseen,
	}
}

// Close removes the fence.
func (f *Fence) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, l := range f.links {
		errs = append(errs, l.Close())
	}
	if f.ports != nil {
		errs = append(errs, f.ports.close())
	}
	if f.control != nil {
		errs = append(errs, f.control.Close())
	}
	if f.coll != nil {
		f.coll.Close()
	}
	if f.nl != nil {
		f.nl.Close()
		f.ns.close()
	}
	f.links, f.ports, f.control, f.coll, f.nl = nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

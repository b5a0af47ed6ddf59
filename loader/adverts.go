// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/maps"
)

// Adverts copies VRRP adverts that reach any of its interfaces into a ring,
// with kernel time, and passes them on. The ring's reader may be another
// process (maps.OpenRing).
type Adverts struct {
	ns     namespace
	nl     *netlink.Handle
	coll   *ebpf.Collection
	xdp    *ebpf.Collection // nil: see ladder
	ladder *ladder
	ports  *ports
	stop   context.CancelFunc
	ended  chan error
}

// AdvertOptions says where adverts are taken.
type AdvertOptions struct {
	Interfaces []string
	XDP        bool // at XDP where that can be, of interfaces that are there now
	Log        *slog.Logger
}

// OpenAdverts attaches to the named interfaces, also when they come later or
// come back, in the network namespace of the calling thread. Without XDP it
// fails if one that is there has no place at TC ingress; with XDP it does not,
// see Way.
func OpenAdverts(o AdvertOptions) (*Adverts, error) {
	a, err := openAdverts(o, "")
	if err != nil {
		return nil, fmt.Errorf("open adverts: %w", err)
	}
	return a, nil
}

// openAdverts: rung as in chooseRung.
func openAdverts(o AdvertOptions, rung string) (*Adverts, error) {
	rung, _, err := chooseRung(rung)
	if err != nil {
		return nil, err
	}
	a := &Adverts{}
	if err := a.open(o, rung); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	var ctx context.Context
	ctx, a.stop = context.WithCancel(context.Background())
	a.ended = make(chan error, 1)
	go func() { a.ended <- a.ports.watch(ctx) }()
	return a, nil
}

func (a *Adverts) open(o AdvertOptions, rung string) (err error) {
	if a.ns, err = currentNamespace(); err != nil {
		return err
	}
	if a.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	spec, err := bpf.Advert()
	if err != nil {
		return err
	}
	if a.coll, err = load(spec, "tandem_advert"); err != nil {
		return err
	}
	tc := &hook{prog: a.coll.Programs["tandem_advert"], name: "tandem_advert", rung: rung, nl: a.nl}
	a.ladder = &ladder{tc: tc, why: map[string]string{}, log: o.Log}
	if o.XDP {
		a.ladder.missing = a.openXDP()
	}
	a.ports = newPorts(a.ns, a.nl, a.ladder, selection{include: o.Interfaces, exact: true}, o.Log)
	err = a.ports.sync()
	a.ladder.started = true // nobody else has ports yet
	if o.XDP {
		return nil // logged there, and told by Way
	}
	return err
}

// openXDP loads the program for XDP, with the ring and the counters of that for
// TC.
func (a *Adverts) openXDP() error {
	spec, err := bpf.AdvertXDP()
	if err != nil {
		return err
	}
	shared := map[string]*ebpf.Map{}
	for _, name := range []string{"tandem_adverts", "tandem_advstat"} {
		shared[name] = a.coll.Maps[name]
	}
	if a.xdp, err = loadShared(spec, "tandem_adv_xdp", shared); err != nil {
		return err
	}
	a.ladder.xdp = advertXDP(a.xdp.Programs["tandem_adv_xdp"])
	return nil
}

// Way is how adverts are taken from an interface now: "xdp (native)", "xdp
// (generic)", "tc"; "socket" where no program can be, and "" where it is not
// there. Of a lower rung than asked for it says why.
func (a *Adverts) Way(iface string) (way, why string) {
	a.ports.mu.Lock()
	defer a.ports.mu.Unlock()
	for _, p := range a.ports.byIndex {
		if p.name != iface {
			continue
		}
		if x, ok := p.at.(xdpLink); ok {
			return x.String(), x.why
		}
		return "tc", a.ladder.why[iface]
	}
	for _, f := range a.ports.failed {
		if f.name == iface {
			return "socket", f.why
		}
	}
	return "", ""
}

// Follow makes these the interfaces, in place of those before: soon, and where
// both lists have one it stays attached.
func (a *Adverts) Follow(interfaces []string) {
	a.ports.choose(selection{include: interfaces, exact: true})
}

// Ring gives a descriptor of the ring for another process: the caller closes
// it.
func (a *Adverts) Ring() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(a.coll.Maps["tandem_adverts"].FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the ring of adverts: %w", os.NewSyscallError("fcntl", err))
	}
	return os.NewFile(uintptr(fd), "tandem_adverts"), nil
}

// AdvertStats counts packets of IP protocol 112.
type AdvertStats struct {
	Copied    uint64 `json:"copied"`
	Full      uint64 `json:"full"`      // lost, the ring was full
	Malformed uint64 `json:"malformed"` // of Copied: without payload
	Fragment  uint64 `json:"fragment"`  // not copied
}

// Stats may be called until Close.
func (a *Adverts) Stats() AdvertStats {
	n, _ := maps.Counters[bpf.AdvertCounters](a.coll.Maps["tandem_advstat"]) // fails after Close only
	return AdvertStats{Copied: n.Copied, Full: n.Full, Malformed: n.Malformed, Fragment: n.Fragment}
}

// Close detaches from all interfaces.
func (a *Adverts) Close() error {
	var errs []error
	if a.stop != nil {
		a.stop()
		errs = append(errs, <-a.ended)
	}
	if a.ports != nil {
		errs = append(errs, a.ports.close())
	}
	for _, c := range []*ebpf.Collection{a.xdp, a.coll} {
		if c != nil {
			c.Close()
		}
	}
	if a.nl != nil {
		a.nl.Close()
	}
	a.ns.close()
	return errors.Join(errs...)
}

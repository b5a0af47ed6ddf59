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
	ns    namespace
	nl    *netlink.Handle
	coll  *ebpf.Collection
	ports *ports
	stop  context.CancelFunc
	ended chan error
}

// OpenAdverts attaches to TC ingress of the named interfaces, also when they
// come later or come back, in the network namespace of the calling thread.
func OpenAdverts(interfaces []string, log *slog.Logger) (*Adverts, error) {
	a, err := openAdverts(interfaces, log, "")
	if err != nil {
		return nil, fmt.Errorf("open adverts: %w", err)
	}
	return a, nil
}

// openAdverts: rung as in chooseRung.
func openAdverts(interfaces []string, log *slog.Logger, rung string) (*Adverts, error) {
	rung, _, err := chooseRung(rung)
	if err != nil {
		return nil, err
	}
	a := &Adverts{}
	if err := a.open(interfaces, log, rung); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	var ctx context.Context
	ctx, a.stop = context.WithCancel(context.Background())
	a.ended = make(chan error, 1)
	go func() { a.ended <- a.ports.watch(ctx) }()
	return a, nil
}

func (a *Adverts) open(interfaces []string, log *slog.Logger, rung string) (err error) {
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
	h := &hook{prog: a.coll.Programs["tandem_advert"], name: "tandem_advert", rung: rung, nl: a.nl}
	a.ports = newPorts(a.ns, h, selection{include: interfaces, exact: true}, log)
	return a.ports.sync()
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

// Mode is the rung of the ladder: tcx or clsact.
func (a *Adverts) Mode() string { return a.ports.hook.rung }

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
	if a.coll != nil {
		a.coll.Close()
	}
	if a.nl != nil {
		a.nl.Close()
	}
	a.ns.close()
	return errors.Join(errs...)
}

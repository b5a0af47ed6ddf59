// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// removed is why an attachment is lost that nobody of us took away.
const removed = "somebody removed it"

// Rungs of the ladder of modes: ways to attach to TC, and the one to XDP.
const (
	rungXDP    = "xdp"    // a link (5.9): goes away with the process
	rungTCX    = "tcx"    // a link (6.6): goes away with the process
	rungClsact = "clsact" // a direct-action filter: goes away when removed
)

// errForeignQdisc says that a qdisc which is not ours leaves no place for a
// filter. It is never replaced.
var errForeignQdisc = errors.New("a foreign ingress qdisc leaves no place for clsact: replace it by clsact or use another mode")

// hook is one program at one TC hook, or at XDP, of any number of interfaces.
type hook struct {
	prog   *ebpf.Program
	name   string // of the program and the filter
	egress bool
	rung   string
	nl     *netlink.Handle

	// XDP: types of links that may not lie on the interface, since the program
	// would see their packets, and those to which it is attached generically,
	// since their driver would hand it on to other links.
	alone, generic []string
}

func (h *hook) String() string { return h.name }

// chooseRung takes the first rung of the ladder that this kernel has. want is
// a rung by name, or "" for the first that works.
func chooseRung(want string) (rung, why string, err error) {
	if want == rungClsact {
		return rungClsact, "asked for", nil
	}
	err = haveTCX()
	switch {
	case err == nil:
		return rungTCX, "tcx links work", nil
	case want == rungTCX:
		return "", "", fmt.Errorf("attach by tcx (Linux 6.6): %w", err)
	case errors.Is(err, ebpf.ErrNotSupported):
		return rungClsact, "tcx needs Linux 6.6: " + err.Error(), nil
	}
	return "", "", fmt.Errorf("probe tcx: %w", err)
}

// haveTCX tries a real link on lo of this namespace with an empty program.
func haveTCX() error {
	if err := features.HaveProgramType(ebpf.SchedCLS); err != nil {
		return err
	}
	prog, err := ebpf.NewProgram(emptyTC())
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: loopback, Program: prog, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		return err
	}
	return l.Close()
}

// attach puts the program before all others that are there: one of them may
// end the chain with TC_ACT_OK. Ours always passes on to the next.
func (h *hook) attach(l netlink.Link, all []netlink.Link) (attachment, error) {
	switch h.rung {
	case rungTCX:
		return h.attachTCX(l.Attrs())
	case rungXDP:
		return h.attachXDP(l, all)
	}
	return h.attachFilter(l)
}

type tcxLink struct{ link.Link }

func (h *hook) attachTCX(l *netlink.LinkAttrs) (attachment, error) {
	at := ebpf.AttachTCXIngress
	if h.egress {
		at = ebpf.AttachTCXEgress
	}
	lk, err := link.AttachTCX(link.TCXOptions{Interface: l.Index, Program: h.prog, Attach: at, Anchor: link.Head()})
	if err != nil {
		return nil, fmt.Errorf("attach %s to %q by tcx: %w", h.name, l.Name, err)
	}
	return tcxLink{lk}, nil
}

func (tcxLink) String() string { return rungTCX }

// lost: a link that was detached by force, or whose interface went, has no
// interface.
func (t tcxLink) lost([]netlink.Link) string {
	if info, err := t.Info(); err != nil || info.TCX() == nil || info.TCX().Ifindex == 0 {
		return removed
	}
	return ""
}

func (t tcxLink) detach() error { return t.Close() }

// filter is a direct-action filter of ours on clsact.
type filter struct {
	h       *hook
	link    netlink.Link
	spec    netlink.BpfFilter
	ownRoot bool // clsact was added for it
}

// ourHandle tells our filters from others of the same priority.
const ourHandle = 0x7a6d

func (h *hook) parent() uint32 {
	if h.egress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

func (h *hook) attachFilter(l netlink.Link) (attachment, error) {
	f := &filter{h: h, link: l}
	var err error
	if f.ownRoot, err = h.ensureClsact(l); err != nil {
		return nil, fmt.Errorf("attach %s to %q: %w", h.name, l.Attrs().Name, err)
	}
	h.removeStale(l)
	if err = f.add(); err != nil {
		_ = f.removeRoot()
		return nil, fmt.Errorf("attach %s to %q: add filter: %w", h.name, l.Attrs().Name, err)
	}
	return f, nil
}

// add tries the lowest priorities first: a priority may be held by a filter of
// another kind or protocol.
func (f *filter) add() (err error) {
	for pref := uint16(1); pref <= 16; pref++ {
		f.spec = netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: f.link.Attrs().Index, Parent: f.h.parent(), Handle: ourHandle,
				Priority: pref, Protocol: unix.ETH_P_ALL,
			},
			Fd: f.h.prog.FD(), Name: f.h.name, DirectAction: true,
		}
		if err = f.h.nl.FilterAdd(&f.spec); err == nil {
			return nil
		}
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return err
}

// ensureClsact gives the interface its clsact qdisc unless it has one.
func (h *hook) ensureClsact(l netlink.Link) (added bool, err error) {
	qdiscs, err := h.nl.QdiscList(l)
	if err != nil {
		return false, fmt.Errorf("list qdiscs: %w", err)
	}
	for _, q := range qdiscs {
		switch {
		case q.Type() == "clsact", q.Type() == "ingress" && !h.egress:
			return false, nil
		case q.Type() == "ingress":
			return false, errForeignQdisc
		}
	}
	if err := h.nl.QdiscAdd(clsactOf(l)); err != nil {
		return false, fmt.Errorf("add clsact: %w", err)
	}
	return true, nil
}

func clsactOf(l netlink.Link) netlink.Qdisc {
	return &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// removeStale removes filters of ours that a killed process left.
func (h *hook) removeStale(l netlink.Link) {
	for _, f := range h.filters(l) {
		if f.Handle == ourHandle {
			_ = h.nl.FilterDel(f)
		}
	}
}

// filters lists the BPF filters with the hook's name, whoever added them.
func (h *hook) filters(l netlink.Link) (ours []*netlink.BpfFilter) {
	all, err := h.nl.FilterList(l, h.parent())
	if err != nil {
		return nil
	}
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, h.name) {
			ours = append(ours, b)
		}
	}
	return ours
}

func (f *filter) String() string { return rungClsact }

func (f *filter) lost([]netlink.Link) string {
	for _, o := range f.h.filters(f.link) {
		if o.Handle == f.spec.Handle && o.Priority == f.spec.Priority {
			return ""
		}
	}
	return removed
}

func (f *filter) detach() error {
	err := f.h.nl.FilterDel(&f.spec)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		err = nil // somebody removed it, or its interface is gone
	}
	return errors.Join(err, f.removeRoot())
}

// removeRoot removes the clsact that was added here once nobody uses it.
func (f *filter) removeRoot() error {
	if !f.ownRoot {
		return nil
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_EGRESS, netlink.HANDLE_MIN_INGRESS} {
		if all, err := f.h.nl.FilterList(f.link, parent); err != nil || len(all) > 0 {
			return nil
		}
	}
	err := f.h.nl.QdiscDel(clsactOf(f.link))
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// loopback is lo's index in every network namespace (LOOPBACK_IFINDEX).
const loopback = 1

// emptyTC is a program that passes everything on.
func emptyTC() *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "tandem_probe", Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	}
}

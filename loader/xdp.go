// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Modes of XDP.
const (
	xdpNative  = "native"  // in the driver, before there is an skb
	xdpGeneric = "generic" // any driver, before the stack
)

// xdpLink is a program at XDP of one interface.
type xdpLink struct {
	link.Link
	hook *hook
	on   *netlink.LinkAttrs
	mode string
	why  string // it is not native
}

// attachXDP tries the driver, then the generic hook. An interface has room for
// one program: a foreign one stays.
func (h *hook) attachXDP(l netlink.Link, all []netlink.Link) (attachment, error) {
	on := l.Attrs()
	if err := h.free(on, all); err != nil {
		return nil, fmt.Errorf("attach %s to %q: %w", h.name, on.Name, err)
	}
	native := h.driven(l)
	if native == nil {
		lk, err := attachXDP(h.prog, on.Index, link.XDPDriverMode)
		if err == nil {
			return xdpLink{Link: lk, hook: h, on: on, mode: xdpNative}, nil
		}
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("attach %s to %q by xdp: %w", h.name, on.Name, err)
		}
		native = err
	}
	lk, err := attachXDP(h.prog, on.Index, link.XDPGenericMode)
	if err != nil {
		return nil, fmt.Errorf("attach %s to %q by xdp: native: %w; generic: %w", h.name, on.Name, native, err)
	}
	return xdpLink{Link: lk, hook: h, on: on, mode: xdpGeneric, why: native.Error()}, nil
}

func attachXDP(p *ebpf.Program, index int, mode link.XDPAttachFlags) (link.Link, error) {
	return link.AttachXDP(link.XDPOptions{Program: p, Interface: index, Flags: mode})
}

// driven says why the program is not for the interface's driver.
func (h *hook) driven(l netlink.Link) error {
	if slices.Contains(h.generic, l.Type()) {
		return fmt.Errorf("the driver of a %s hands the program on to its members", l.Type())
	}
	return nil
}

// free says why the interface is none for a program of ours.
func (h *hook) free(l *netlink.LinkAttrs, all []netlink.Link) error {
	if why := h.shared(l, all); why != "" {
		return errors.New(why)
	}
	if l.Xdp != nil && l.Xdp.Attached {
		name := programName(ebpf.ProgramID(l.Xdp.ProgId))
		return fmt.Errorf("the XDP program %q (id %d) is there already and is left alone", name, l.Xdp.ProgId)
	}
	return nil
}

// shared says what lies on the interface whose packets the program must not
// see, "" for nothing.
func (h *hook) shared(l *netlink.LinkAttrs, all []netlink.Link) string {
	for _, o := range all {
		// The peer of a veth is named as its parent, too.
		if a := o.Attrs(); slices.Contains(h.alone, o.Type()) && a.ParentIndex == l.Index && a.NetNsID < 0 {
			return fmt.Sprintf("%s %q lies on it: the program would see its packets, too", o.Type(), a.Name)
		}
	}
	return ""
}

func (x xdpLink) String() string { return fmt.Sprintf("xdp (%s)", x.mode) }

// lost: removed as of tcxLink, or others came to lie on the interface.
func (x xdpLink) lost(all []netlink.Link) string {
	if info, err := x.Info(); err != nil || info.XDP() == nil || info.XDP().Ifindex == 0 {
		return removed
	}
	return x.hook.shared(x.on, all)
}

func (x xdpLink) detach() error { return x.Close() }

// haveXDP tries a real link on lo of this namespace with an empty program.
func haveXDP() error {
	prog, err := ebpf.NewProgram(emptyXDP())
	if err != nil {
		return err
	}
	defer prog.Close()
	lk, err := attachXDP(prog, loopback, link.XDPGenericMode)
	if err != nil {
		return err
	}
	return lk.Close()
}

// emptyXDP is a program that passes everything on.
func emptyXDP() *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: "tandem_probe", Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	}
}

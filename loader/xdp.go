// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"

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
	mode string
}

// attachXDP tries the driver, then the generic hook. An interface has room for
// one program: a foreign one stays. An interface that others lie upon is none
// of the sync link alone: its program would see their packets.
func (h *hook) attachXDP(l *netlink.LinkAttrs) (attachment, error) {
	if err := h.free(l); err != nil {
		return nil, fmt.Errorf("attach %s to %q: %w", h.name, l.Name, err)
	}
	lk, err := attachXDP(h.prog, l.Index, link.XDPDriverMode)
	mode := xdpNative
	if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EEXIST) {
		mode = xdpGeneric
		native := err
		if lk, err = attachXDP(h.prog, l.Index, link.XDPGenericMode); err != nil {
			err = fmt.Errorf("native: %w; generic: %w", native, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("attach %s to %q by xdp: %w", h.name, l.Name, err)
	}
	return xdpLink{lk, mode}, nil
}

func attachXDP(p *ebpf.Program, index int, mode link.XDPAttachFlags) (link.Link, error) {
	return link.AttachXDP(link.XDPOptions{Program: p, Interface: index, Flags: mode})
}

// free says why the interface is none for a program of ours.
func (h *hook) free(l *netlink.LinkAttrs) error {
	if l.Xdp != nil && l.Xdp.Attached {
		name := programName(ebpf.ProgramID(l.Xdp.ProgId))
		return fmt.Errorf("the XDP program %q (id %d) is there already and is left alone", name, l.Xdp.ProgId)
	}
	all, err := h.nl.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, o := range all {
		// The peer of a veth is named as its parent, too.
		switch a := o.Attrs(); o.Type() {
		case "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap":
			if a.ParentIndex == l.Index && a.NetNsID < 0 {
				return fmt.Errorf("%s %q lies on it: the program would see its packets, too", o.Type(), a.Name)
			}
		}
	}
	return nil
}

// alive: as of tcxLink.
func (x xdpLink) alive() bool {
	info, err := x.Info()
	return err == nil && info.XDP() != nil && info.XDP().Ifindex != 0
}

func (x xdpLink) detach() error { return x.Close() }

// haveXDP tries a real link on lo of this namespace with an empty program.
func haveXDP() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "tandem_probe", Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
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

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// Link is a place where a program of ours is attached: a BPF link, or a filter
// on clsact (which has no id). Type is tcx, xdp, clsact or netfilter.
type Link struct {
	ID        uint32 `json:"id"`
	Type      string `json:"type"`
	Program   uint32 `json:"program"`
	Name      string `json:"name"`      // of the program
	Interface string `json:"interface"` // "" when it is none of this network namespace
	Hook      string `json:"hook"`
}

// Links lists them. It needs no daemon, but CAP_SYS_ADMIN.
func Links() ([]Link, error) {
	at, err := interfacesOf()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out, err := bpfLinks(at)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return append(out, filterLinks()...), nil
}

// interfaces are those of this network namespace by what is attached to them. A
// link itself tells an index, and that may be another namespace's.
type interfaces struct {
	tcx map[link.ID]string
	xdp map[xdpPlace]netlink.Link
}

// xdpPlace is where a program of XDP is: no two namespaces have the program of
// one daemon.
type xdpPlace struct {
	program uint32
	index   int
}

func interfacesOf() (interfaces, error) {
	at := interfaces{map[link.ID]string{}, map[xdpPlace]netlink.Link{}}
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return at, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if x := l.Attrs().Xdp; x != nil && x.Attached {
			at.xdp[xdpPlace{x.ProgId, l.Attrs().Index}] = l
		}
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXEgress, ebpf.AttachTCXIngress} {
			r, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: hook})
			if err != nil {
				break // no tcx (6.6)
			}
			for _, p := range r.Programs {
				if id, ok := p.LinkID(); ok {
					at.tcx[id] = l.Attrs().Name
				}
			}
		}
	}
	return at, nil
}

func bpfLinks(at interfaces) ([]Link, error) {
	out := []Link{}
	it := &link.Iterator{}
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if errors.Is(err, os.ErrNotExist) || err == nil && info.Program == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		name := programName(info.Program)
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		out = append(out, describeLink(info, name, at))
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return nil, err
	}
	return out, nil
}

func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return ""
	}
	return info.Name
}

func describeLink(info *link.Info, name string, at interfaces) Link {
	l := Link{ID: uint32(info.ID), Program: uint32(info.Program), Name: name, Type: "other"}
	switch info.Type {
	case link.TCXType:
		l.Type, l.Hook = rungTCX, "tc-ingress"
		if tcx := info.TCX(); tcx != nil {
			l.Interface = at.tcx[info.ID]
			if ebpf.AttachType(tcx.AttachType) == ebpf.AttachTCXEgress {
				l.Hook = "tc-egress"
			}
		}
	case link.XDPType:
		l.Type, l.Hook = rungXDP, rungXDP
		if x := info.XDP(); x != nil {
			if on := at.xdp[xdpPlace{l.Program, int(x.Ifindex)}]; on != nil {
				l.Interface, l.Hook = on.Attrs().Name, xdpHook(on)
			}
		}
	case link.NetfilterType:
		l.Type, l.Hook = "netfilter", "prerouting"
		if nf := info.Netfilter(); nf != nil {
			l.Hook = fmt.Sprintf("prerouting, priority %d", nf.Priority)
		}
	}
	return l
}

// xdpHook is the hook with its mode.
func xdpHook(on netlink.Link) string {
	mode := xdpNative
	if on.Attrs().Xdp.AttachMode == nl.XDP_ATTACHED_SKB {
		mode = xdpGeneric
	}
	return fmt.Sprintf("%s (%s)", rungXDP, mode)
}

// filterLinks lists filters of ours on clsact in this network namespace.
func filterLinks() (out []Link) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil
	}
	for _, l := range links {
		for parent, hook := range map[uint32]string{
			netlink.HANDLE_MIN_EGRESS: "tc-egress", netlink.HANDLE_MIN_INGRESS: "tc-ingress",
		} {
			filters, err := netlink.FilterList(l, parent)
			if err != nil {
				continue
			}
			for _, f := range filters {
				if b, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, prefix) {
					out = append(out, Link{Type: rungClsact, Program: uint32(b.Id), Name: b.Name, Interface: l.Attrs().Name, Hook: hook})
				}
			}
		}
	}
	return out
}

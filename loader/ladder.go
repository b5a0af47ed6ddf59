// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// errStarted: a driver that is given a program, or loses it, resets many cards,
// which on an Active is a second of silence.
var errStarted = errors.New("it is attached when the daemon starts, not later: that may reset the card")

// ladder puts adverts' program on an interface: at XDP where that was asked for
// and may be, else at TC. Where neither can be the raw socket is left.
//
//	before the election   XDP in the driver, else generic, else TC
//	after                 TC
//
// Its methods are called under the lock of ports.
type ladder struct {
	tc      *hook
	xdp     *hook // nil: was not asked for, or cannot be, see missing
	missing error // why there is no XDP for any interface
	started bool
	why     map[string]string // by interface: it is not at XDP though asked for
	log     *slog.Logger
}

// advertXDP is the hook of the upper rung. A VLAN may not lie on the interface:
// a card that takes the tag off leaves no trace of it in the packet, and the
// VLAN's adverts would be taken for the interface's. Members of a bond have
// indices of their own.
func advertXDP(prog *ebpf.Program) *hook {
	return &hook{prog: prog, name: "tandem_adv_xdp", rung: rungXDP, alone: []string{"vlan"}, generic: []string{"bond"}}
}

func (d *ladder) String() string { return "adverts" }

func (d *ladder) attach(l netlink.Link, all []netlink.Link) (attachment, error) {
	name := l.Attrs().Name
	if d.xdp == nil && d.missing == nil {
		return d.tc.attach(l, all)
	}
	at, err := d.attachXDP(l, all)
	if err == nil {
		delete(d.why, name)
		if x := at.(xdpLink); x.why != "" {
			d.log.Warn("adverts are taken by XDP, but not in the driver", "interface", name, "reason", x.why)
		}
		return at, nil
	}
	if d.why[name] != err.Error() {
		d.log.Warn("adverts are not taken by XDP", "interface", name, "reason", err)
	}
	d.why[name] = err.Error()
	return d.tc.attach(l, all)
}

func (d *ladder) attachXDP(l netlink.Link, all []netlink.Link) (attachment, error) {
	if d.missing != nil {
		return nil, d.missing
	}
	if d.started {
		if err := d.xdp.free(l.Attrs(), all); err != nil {
			return nil, err
		}
		return nil, errStarted
	}
	return d.xdp.attach(l, all)
}

// driverless are types of links that groups are on and that have no driver's
// XDP.
var driverless = []string{"bridge", "ipvlan", "macvlan", "team", "vlan", "vxlan"}

// ForetellXDP says what asking for XDP comes to on an interface of all those
// that there are: none is why TC takes over, generic why it is not in the
// driver. A driver that has no XDP shows when it is tried only. A program of a
// tandem that runs is no obstacle.
func ForetellXDP(l netlink.Link, all []netlink.Link) (none, generic error) {
	h, on := advertXDP(nil), *l.Attrs()
	if on.Xdp != nil && strings.HasPrefix(programName(ebpf.ProgramID(on.Xdp.ProgId)), prefix) {
		on.Xdp = nil
	}
	if none = h.free(&on, all); none != nil {
		return none, nil
	}
	if slices.Contains(driverless, l.Type()) {
		return nil, fmt.Errorf("a %s has no driver of its own", l.Type())
	}
	return nil, h.driven(l)
}

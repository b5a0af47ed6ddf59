// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/maps"
)

// openFenceTC is the fence below 6.4: TC ingress of every interface but lo and
// members of a bond or bridge. rung as in chooseRung.
func openFenceTC(log *slog.Logger, rung string) (*Fence, error) {
	rung, _, err := chooseRung(rung)
	if err != nil {
		return nil, err
	}
	f := &Fence{log: log, kind: rung, local: map[bpf.OwnKey]struct{}{}}
	if err := f.openTC(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Fence) openTC() error {
	spec, err := bpf.FenceTC()
	if err != nil {
		return err
	}
	if f.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	if f.ns, err = currentNamespace(); err != nil {
		return err
	}
	if f.coll, err = load(spec, "tandem_fence_tc"); err != nil {
		return err
	}
	if f.control, err = maps.OpenFenceControl(f.coll.Maps[".bss"]); err != nil {
		return err
	}
	h := &hook{prog: f.coll.Programs["tandem_fence_tc"], name: "tandem_fence_tc", rung: f.kind, nl: f.nl}
	f.ports = newPorts(f.ns, f.nl, h, selection{}, f.log)
	return f.ports.sync()
}

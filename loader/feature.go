// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/conntrack"
)

// Feature is something that tandem uses if the kernel has it.
type Feature struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what it is for, or why it is missing
	Needs  string `json:"needs"`  // the least kernel, or the configuration
}

// Features tries each on this kernel: what is loaded for it is closed again.
func Features() []Feature {
	probes := []struct {
		name, use, needs string
		try              func() error
	}{
		{"btf", "programs find the kernel's fields", "CONFIG_DEBUG_INFO_BTF", func() error { _, err := btf.LoadKernelSpec(); return err }},
		{"ctnetlink", "flows are read and written", "CONFIG_NF_CT_NETLINK and CAP_NET_ADMIN", tryTable},
		{"ring-buffer", "flows reach the daemon", "Linux 5.8", func() error { return features.HaveMapType(ebpf.RingBuf) }},
		{"capture-tc", "flows are seen at TC egress", "Linux 5.8, BTF", func() error { return tryLoad(bpf.Flow) }},
		{"direct-reads", "packets cost less than with reads by helper", "Linux 6.2", tryDirect},
		{"tcx", "programs are attached by links, which never stay behind", "Linux 6.6", haveTCX},
		{"adverts-tc", "adverts carry kernel time", "Linux 5.8", func() error { return tryLoad(bpf.Advert) }},
		{"adverts-xdp", "adverts are seen before the stack, where advert = \"xdp\" asks for it", "Linux 5.18, BTF", tryAdvertXDP},
		{"fence-netfilter", "the fence sees every protocol", "Linux 6.4", tryFence},
		{"accept-mode", "virtual addresses may accept nothing (accept-mode = false)", "Linux 6.4", tryAccept},
		{"gate-xdp", "floods of the sync link end before the stack", "Linux 5.18", tryGate},
		{"fence-tc", "the fence below 6.4: TCP and UDP only", "Linux 5.18", func() error { return tryLoad(bpf.FenceTC) }},
	}
	var out []Feature
	for _, p := range probes {
		f := Feature{Name: p.name, OK: true, Detail: p.use, Needs: p.needs}
		if err := p.try(); err != nil {
			f.OK, f.Detail = false, oneLine(err)
		}
		out = append(out, f)
	}
	return out
}

// oneLine leaves the verifier's log out.
func oneLine(err error) string {
	var v *ebpf.VerifierError
	if errors.As(err, &v) {
		return fmt.Sprintf("refused by the verifier: %v", v.Cause)
	}
	if errors.Is(err, os.ErrPermission) {
		return "not permitted: run as root; " + err.Error()
	}
	return err.Error()
}

func tryTable() error {
	t, err := conntrack.Open()
	if err != nil {
		return err
	}
	_, _, err = t.Count()
	return errors.Join(err, t.Close())
}

func tryLoad(spec func() (*ebpf.CollectionSpec, error)) error {
	s, err := spec()
	if err != nil {
		return err
	}
	coll, err := load(s, "probe")
	if err != nil {
		return err
	}
	coll.Close()
	return nil
}

func tryDirect() error {
	return tryLoad(func() (*ebpf.CollectionSpec, error) {
		o := Options{Policy: conntrack.DefaultPolicy()}.withDefaults()
		return flowSpec(&o, 0, true)
	})
}

// tryGate loads the gate and attaches to lo, which has no driver of its own.
func tryGate() error {
	if err := haveXDP(); err != nil {
		return err
	}
	return tryLoad(func() (*ebpf.CollectionSpec, error) { return gateSpec(GateOptions{Port: 3781}) })
}

// tryAdvertXDP: which mode an interface gets is up to its driver.
func tryAdvertXDP() error {
	if err := haveXDP(); err != nil {
		return err
	}
	return tryLoad(bpf.AdvertXDP)
}

func tryAccept() error {
	if err := features.HaveProgramType(ebpf.Netfilter); err != nil {
		return err
	}
	return tryLoad(bpf.Accept)
}

func tryFence() error {
	if err := features.HaveProgramType(ebpf.Netfilter); err != nil {
		return err
	}
	return tryLoad(bpf.Fence)
}

// SPDX-License-Identifier: Apache-2.0

//go:build vm

package guest

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestVMKernel(t *testing.T) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	if release := unix.ByteSliceToString(name.Release[:]); !strings.HasPrefix(release, "6.1.") {
		t.Errorf("uname -r = %q, want 6.1.x", release)
	}
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatalf("load the kernel's BTF: %v", err)
	}
	if _, err := spec.AnyTypeByName("sk_buff"); err != nil {
		t.Errorf("find sk_buff in the kernel's BTF: %v", err)
	}
}

// nf_conntrack is a module here, yet capture's CO-RE reads find what they read in
// the BTF of vmlinux: no module's BTF has to be searched.
func TestVMConntrackBTF(t *testing.T) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nf_conn", "nf_conntrack_tuple_hash", "nf_ct_ext"} {
		var s *btf.Struct
		if err := spec.TypeByName(name, &s); err != nil {
			t.Errorf("find struct %s in vmlinux: %v", name, err)
		}
	}
}

// Ladders must be climbed down here: what 6.1 lacks is part of the promise.
func TestVMLacksNetfilterPrograms(t *testing.T) {
	if err := features.HaveProgramType(ebpf.Netfilter); !errors.Is(err, ebpf.ErrNotSupported) {
		t.Errorf("BPF_PROG_TYPE_NETFILTER: %v, want it unsupported before 6.4", err)
	}
}

func TestVMAttachTC(t *testing.T) {
	link := addLink(t, &netlink.Veth{LinkAttrs: attrs("v0"), PeerName: "v1"})
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := netlink.QdiscAdd(clsact); err != nil {
		t.Fatalf("add clsact: %v", err)
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		t.Fatalf("load a program: %v", err)
	}
	defer prog.Close()
	filter := &netlink.BpfFilter{
		FilterAttrs:  netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd:           prog.FD(),
		Name:         "guest",
		DirectAction: true,
	}
	if err := netlink.FilterAdd(filter); err != nil {
		t.Fatalf("attach the program: %v", err)
	}
}

func TestVMVLANOnBond(t *testing.T) {
	bond := netlink.NewLinkBond(attrs("b0"))
	bond.Mode = netlink.BOND_MODE_ACTIVE_BACKUP
	link := addLink(t, bond)
	vlan := attrs("b0.7")
	vlan.ParentIndex = link.Attrs().Index
	addLink(t, &netlink.Vlan{LinkAttrs: vlan, VlanId: 7, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
}

func TestVMKernelTable(t *testing.T) {
	content, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	if err != nil || strings.TrimSpace(string(content)) == "0" {
		t.Errorf("nf_conntrack_max = %q, %v", content, err)
	}
}

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

// addLink adds a link that the test's end removes, and returns it as the kernel has it.
func addLink(t *testing.T, link netlink.Link) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatalf("add %s %q: %v", link.Type(), link.Attrs().Name, err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(link) })
	made, err := netlink.LinkByName(link.Attrs().Name)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// SPDX-License-Identifier: Apache-2.0

package live

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What advert = "xdp" comes to, by interface.
func TestXDP(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread's namespace ends with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	add := func(l netlink.Link) netlink.Link {
		t.Helper()
		if err := netlink.LinkAdd(l); err != nil {
			t.Fatal(err)
		}
		made, err := netlink.LinkByName(l.Attrs().Name)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	attrs := func(name string) netlink.LinkAttrs { return netlink.LinkAttrs{Name: name} }
	plain := add(&netlink.Veth{LinkAttrs: attrs("plain"), PeerName: "peer"})
	taken := add(&netlink.Veth{LinkAttrs: attrs("taken"), PeerName: "peer2"})
	bridge := add(&netlink.Bridge{LinkAttrs: attrs("bridge")})
	above := attrs("above")
	above.ParentIndex = plain.Attrs().Index
	macvlan := add(&netlink.Macvlan{LinkAttrs: above, Mode: netlink.MACVLAN_MODE_PRIVATE})
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "foreign", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	if err := netlink.LinkSetXdpFd(taken, prog.FD()); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, begins, ends string
		forwards           string
	}{
		{"plain", "", "", "0"}, // a macvlan on it, as of a virtual MAC, is no obstacle
		{"plain", `"plain": it forwards: `, `write advert = "auto"`, "1"},
		{"taken", `"taken": the XDP program "foreign" (id `, "is left alone: adverts are taken by TC there", "1"},
		{"bridge", `"bridge": a bridge has no driver`, "gains nothing over TC", "1"},
		{"above", `"above": a macvlan has no driver`, "gains nothing over TC", "0"},
	} {
		for _, l := range []netlink.Link{plain, taken, bridge, macvlan} {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+l.Attrs().Name+"/forwarding", []byte(tc.forwards), 0); err != nil {
				t.Fatal(err)
			}
		}
		l, err := netlink.LinkByName(tc.name)
		if err != nil {
			t.Fatal(err)
		}
		a := &asker{cfg: load(t, "[capture]\nadvert = \"xdp\"\n")}
		a.xdp(l, []netlink.Link{plain, taken, bridge, macvlan})
		text := ""
		for _, f := range a.found {
			text += f.Text
		}
		_, said, _ := strings.Cut(text, "capture.advert: xdp on ")
		if !strings.HasPrefix(said, tc.begins) || !strings.HasSuffix(said, tc.ends) || len(a.found) > 1 || (tc.begins == "") != (text == "") {
			t.Errorf("%s, forwarding %s: %q", tc.name, tc.forwards, text)
		}
	}
}

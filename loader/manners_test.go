// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// foreign is somebody else's program: it counts its runs and ends the chain
// with verdict.
func foreign(t testing.TB, typ ebpf.ProgramType, verdict int32) (*ebpf.Program, func() uint64) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	attach := ebpf.AttachNone
	if typ == ebpf.Netfilter {
		attach = ebpf.AttachNetfilter
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "foreign", Type: typ, AttachType: attach, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMapValue(asm.R1, m.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, verdict),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); m.Close() })
	return p, func() (n uint64) {
		if err := m.Lookup(uint32(0), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
}

const tcOK = 0 // TC_ACT_OK: ends the chain

func device(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Error(err)
	}
	return l
}

// TestForeignTCX: a program that was there first, and ends the chain, neither
// hides packets from the capture nor suffers from it.
func TestForeignTCX(t *testing.T) {
	l := newLab(t)
	l.serve(80)
	prog, runs := foreign(t, ebpf.SchedCLS, tcOK)
	l.in(l.router, func() {
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXEgress, ebpf.AttachTCXIngress} {
			lk, err := link.AttachTCX(link.TCXOptions{Interface: device(t, "out").Attrs().Index, Program: prog, Attach: at})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { lk.Close() })
		}
	})
	seenRunning(t, l, runs, rungTCX)
}

func TestForeignClsact(t *testing.T) {
	l := newLab(t)
	l.serve(80)
	prog, runs := foreign(t, ebpf.SchedCLS, -1) // TC_ACT_UNSPEC: filters go in the order of their priority
	l.in(l.router, func() {
		out := device(t, "out")
		if err := netlink.QdiscAdd(clsactOf(out)); err != nil {
			t.Error(err)
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_EGRESS, netlink.HANDLE_MIN_INGRESS} {
			if err := netlink.FilterAdd(foreignFilter(out, parent, prog)); err != nil {
				t.Error(err)
			}
		}
	})
	seenRunning(t, l, runs, rungClsact)
	l.in(l.router, func() { // the qdisc is not ours: it stays, and nothing else does
		if q, _ := netlink.QdiscList(device(t, "out")); !hasClsact(q) {
			t.Error("a foreign clsact was removed")
		}
		if q, _ := netlink.QdiscList(device(t, "in")); hasClsact(q) {
			t.Error("our clsact was left behind")
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_EGRESS, netlink.HANDLE_MIN_INGRESS} {
			if f, _ := netlink.FilterList(device(t, "out"), parent); len(f) != 1 {
				t.Errorf("filters left: %v", f)
			}
		}
	})
}

func foreignFilter(l netlink.Link, parent uint32, prog *ebpf.Program) netlink.Filter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: parent, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL},
		Fd:          prog.FD(), Name: "foreign", DirectAction: true,
	}
}

func hasClsact(qdiscs []netlink.Qdisc) bool {
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			return true
		}
	}
	return false
}

// seenRunning runs the capture, the fence at TC and adverts beside a foreign
// program and checks that all see packets, and the foreign one afterwards too.
func seenRunning(t *testing.T, l *lab, runs func() uint64, rung string) {
	t.Helper()
	conn := l.dial("udp", "10.1.0.1:80")
	exchange(t, conn)
	if runs() == 0 {
		t.Fatal("the foreign program does not run")
	}
	t.Run("capture", func(t *testing.T) {
		inner := *l
		inner.t = t
		_, sink := inner.capture(Options{Policy: conntrack.DefaultPolicy(), Mode: rung})
		fence := inner.fence(rung)
		before := runs()
		exchange(t, inner.dial("udp", "10.1.0.1:80"))
		sink.find(t, "UDP told", func(e *entry) bool { return e.told > 0 })
		if runs() == before {
			t.Error("the foreign program no longer runs")
		}
		fence.Up(time.Minute)
		if tryExchange(inner.dial("udp", "10.1.0.1:80"), 100*time.Millisecond) == nil {
			t.Error("the fence let a new flow pass")
		}
	})
	before := runs()
	exchange(t, conn)
	if runs() == before {
		t.Error("the foreign program was removed")
	}
}

// TestForeignNetfilter: the fence's priority is mangle's, and the kernel gives
// a BPF program none that is taken.
func TestForeignNetfilter(t *testing.T) {
	l := newLab(t)
	l.serve(80)
	prog, runs := foreign(t, ebpf.Netfilter, 1)
	l.in(l.router, func() {
		lk, err := link.AttachNetfilter(link.NetfilterOptions{
			Program: prog, ProtocolFamily: link.NetfilterProtoIPv4, Hook: link.NetfilterInetPreRouting, Priority: -150,
		})
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { lk.Close() })
		nft(t, "table ip lab { chain m { type filter hook prerouting priority -149; meta mark set 1; }; }")
	})
	fence := l.fence("netfilter")
	fence.Up(time.Minute)
	if tryExchange(l.dial("udp", "10.1.0.1:80"), 100*time.Millisecond) == nil {
		t.Error("the fence let a new flow pass")
	}
	if runs() == 0 {
		t.Error("the foreign program does not run")
	}
	fence.Down()
	exchange(t, l.dial("udp", "10.1.0.1:80"))
}

// TestRemovedIsAttachedAgain: somebody detaches our program.
func TestRemovedIsAttachedAgain(t *testing.T) {
	for _, rung := range modes {
		t.Run(rung, func(t *testing.T) {
			l := newLab(t)
			l.serve(80)
			c, sink := l.capture(Options{Policy: conntrack.DefaultPolicy(), Mode: rung})
			l.in(l.router, func() { removeOurs(t, c, rung) })
			deadline := time.Now().Add(patience)
			for c.Stats().Restored < 2 {
				if time.Now().After(deadline) {
					t.Fatalf("not attached again: %+v", c.Stats())
				}
				time.Sleep(50 * time.Millisecond)
			}
			exchange(t, l.dial("udp", "10.1.0.1:80"))
			sink.find(t, "UDP told", func(e *entry) bool { return e.told > 0 })
			awaitAudit(t, c, 1) // what passed meanwhile was not seen
		})
	}
}

// removeOurs detaches the capture from both interfaces as an operator would.
func removeOurs(t *testing.T, c *Capture, rung string) {
	if rung == rungClsact {
		for _, name := range []string{"in", "out"} {
			if err := netlink.QdiscDel(clsactOf(device(t, name))); err != nil {
				t.Error(err)
			}
		}
		return
	}
	c.ports.mu.Lock()
	defer c.ports.mu.Unlock()
	for _, p := range c.ports.byIndex {
		forceOff(t, p.at.(tcxLink))
	}
}

// TestLateInterface: an interface that comes while the capture runs.
func TestLateInterface(t *testing.T) {
	l := newLab(t)
	l.serve(80)
	c, sink := l.capture(Options{Policy: conntrack.DefaultPolicy()})
	other := newNS61(t)
	l.wire(other, "eth0", "late")
	l.in(l.router, func() { addr(t, "late", "10.3.0.1/24") })
	l.in(other, func() {
		addr(t, "eth0", "10.3.0.2/24")
		run(t, "ip", "route", "add", "default", "via", "10.3.0.1")
		awaitUp(t, "eth0")
	})
	l.in(l.router, func() { awaitUp(t, "late") })
	deadline := time.Now().Add(patience)
	for len(c.Stats().Interfaces) < 3 {
		if time.Now().After(deadline) {
			t.Fatalf("not attached: %v", c.Stats().Interfaces)
		}
		time.Sleep(10 * time.Millisecond)
	}
	audits := c.Stats().Audits
	l.in(other, func() { run(t, "ping", "-c1", "-W10", "10.2.0.2") })
	sink.find(t, "ping told", func(e *entry) bool { return e.told > 0 && e.flow.Orig.Src == ip("10.3.0.2") })
	awaitAudit(t, c, max(1, audits-1)) // what passed before it was attached was not seen
	l.in(l.router, func() { run(t, "ip", "link", "del", "late") })
	deadline = time.Now().Add(patience)
	for len(c.Stats().Interfaces) > 2 {
		if time.Now().After(deadline) {
			t.Fatalf("not left: %v", c.Stats().Interfaces)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestForeignIngressQdisc: it holds the place of clsact and is left alone; the
// other interface is captured.
func TestForeignIngressQdisc(t *testing.T) {
	l := newLab(t)
	ingress := func() *netlink.Ingress {
		return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: device(t, "out").Attrs().Index, Parent: netlink.HANDLE_INGRESS}}
	}
	l.in(l.router, func() {
		if err := netlink.QdiscAdd(ingress()); err != nil {
			t.Error(err)
		}
	})
	c, _ := l.capture(Options{Policy: conntrack.DefaultPolicy(), Mode: rungClsact})
	if got := c.Stats().Interfaces; len(got) != 1 || got[0] != "in" {
		t.Errorf("captured %v, want in", got)
	}
	l.fence(rungClsact) // ingress has a place there
	l.in(l.router, func() {
		if q, _ := netlink.QdiscList(device(t, "out")); hasClsact(q) || len(q) < 2 {
			t.Errorf("the foreign qdisc was touched: %v", q)
		}
	})
}

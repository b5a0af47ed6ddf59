// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	xdp "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/link"
	"github.com/tandem-ha/tandem/loader"
	"github.com/tandem-ha/tandem/syncproto"
)

var (
	gateDatagrams = flag.Int("gate.datagrams", 100_000, "datagrams of one measurement, and how many are sent in a second")
	gateRounds    = flag.Int("gate.rounds", 3, "measurements of each")
)

// BenchmarkGate is what a datagram costs that is hostile and comes by the sync
// link of a live, sealed pair: with the gate and without it. What the sender and
// the link take is measured with an empty program that drops all, in the same
// round, and taken off.
//
//	go test ./bench -run '^$' -bench Gate -benchtime 1x
func BenchmarkGate(b *testing.B) {
	p := newGatePair(b)
	fmt.Printf("time of processors beyond the sender, us per hostile datagram, %d at %d/s, median (least to most) of %d rounds, %s\n",
		*gateDatagrams, *gateDatagrams, *gateRounds, kernel())
	for b.Loop() {
		for _, kind := range []string{"invented", "replayed", "of the pair, junk inside", "of the pair, with its stamp"} {
			frames := p.hostile(kind)
			var sender, with, without []float64
			for range *gateRounds {
				base := p.under(b, p.dropAll, frames)
				sender = append(sender, base)
				without = append(without, p.under(b, func() func() { return func() {} }, frames)-base)
				with = append(with, p.under(b, p.gate, frames)-base)
			}
			fmt.Printf("%-27s without %s; with %s; the sender %s\n", kind, spread(without, "%.2f"), spread(with, "%.2f"), spread(sender, "%.2f"))
		}
	}
}

// gatePair is two nodes at work on one cable; hostile datagrams go to the first
// in the name of the second.
type gatePair struct {
	b           *testing.B
	here, there netns.NsHandle
	socket      int      // in there
	seen        [][]byte // frames of the second to the first
	held        []byte   // one that did not arrive
	tell        *relay
}

// relay hands what a link tells to the gate that stands, if one does.
type relay struct {
	b    *testing.B
	gate *loader.Gate // under the Node's lock
	node *link.Locked
	last []link.GatePeer
	keys []link.GateKey
}

func (r *relay) Tell(peers []link.GatePeer, keys []link.GateKey) {
	r.last, r.keys = append(r.last[:0], peers...), append(r.keys[:0], keys...)
	if r.gate == nil {
		return
	}
	var out []loader.GatePeer
	for _, p := range peers {
		out = append(out, loader.GatePeer{Addr: p.Addr, Paired: p.Paired, Theirs: p.Theirs, Mine: p.Mine,
			Offered: p.Offered, Spare: p.Spare, Highest: p.Highest, Received: p.Received})
	}
	var stamps []loader.GateKey
	for _, k := range keys {
		stamps = append(stamps, loader.GateKey(k))
	}
	r.gate.Tell(out, stamps)
}

func within(b *testing.B, ns netns.NsHandle, fn func() error) {
	b.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with it
		err := netns.Set(ns)
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func newGatePair(b *testing.B) *gatePair {
	p := &gatePair{b: b}
	for _, ns := range []*netns.NsHandle{&p.here, &p.there} {
		home, err := netns.Get()
		if err != nil {
			b.Fatal(err)
		}
		within(b, home, func() (err error) { *ns, err = netns.New(); return err })
		home.Close()
		b.Cleanup(func() { ns.Close() })
	}
	within(b, p.here, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "sync0"}, PeerName: "sync0", PeerNamespace: netlink.NsFd(p.there)})
	})
	addrs := [2]netip.Addr{netip.MustParseAddr("192.168.255.1"), netip.MustParseAddr("192.168.255.2")}
	key := filepath.Join(b.TempDir(), "sync.key")
	line, err := link.NewSecret()
	if err == nil {
		err = os.WriteFile(key, []byte(line), 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	for i, ns := range []netns.NsHandle{p.here, p.there} {
		within(b, ns, func() error {
			l, err := netlink.LinkByName("sync0")
			if err == nil {
				err = netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: addrs[i].AsSlice(), Mask: net.CIDRMask(24, 32)}})
			}
			if err == nil {
				err = netlink.LinkSetUp(l)
			}
			return err
		})
	}
	within(b, p.there, p.openSocket)
	b.Cleanup(func() { unix.Close(p.socket) })
	for i, ns := range []netns.NsHandle{p.here, p.there} {
		node := &link.Locked{Node: syncproto.New(syncproto.Config{Policy: conntrack.DefaultPolicy(), Rand: crand.Reader})}
		cfg := link.Config{Interface: "sync0", Peers: addrs[1-i : 2-i], KeyFile: key}
		if i == 0 {
			p.tell = &relay{b: b, node: node}
			cfg.Gate = p.tell
		}
		l := link.New(cfg, node)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			within(b, ns, func() error { return l.Run(ctx) })
		}()
		b.Cleanup(func() { cancel(); <-done })
	}
	p.record()
	return p
}

func (p *gatePair) openSocket() error {
	ifi, err := net.InterfaceByName("sync0")
	if err != nil {
		return err
	}
	if p.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(htons(unix.ETH_P_ALL))); err != nil {
		return err
	}
	return unix.Bind(p.socket, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifi.Index})
}

// Places in a frame.
const (
	frameUDP      = 14 + 20
	frameDatagram = frameUDP + 8
	frameType     = frameDatagram + 3
	frameSequence = frameDatagram + 8
	frameSender   = frameDatagram + 16
	frameRecords  = frameDatagram + 48
)

// record takes frames of the live pair, and then one that never arrives.
func (p *gatePair) record() {
	for end := time.Now().Add(30 * time.Second); len(p.seen) < 20 || p.seen[len(p.seen)-1][frameType] != 2; {
		if time.Now().After(end) {
			p.b.Fatalf("the pair sent %d frames: it is not up", len(p.seen))
		}
		p.seen = append(p.seen, p.sniff(2*time.Second)...)
	}
	undo := p.dropAll()
	for p.held == nil {
		for _, lost := range p.sniff(300 * time.Millisecond) {
			p.held = lost
		}
	}
	undo()
	// What follows is sent only.
	if err := unix.SetsockoptInt(p.socket, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		p.b.Fatal(err)
	}
}

// sniff takes what the second node sends.
func (p *gatePair) sniff(d time.Duration) (frames [][]byte) {
	buf := make([]byte, 2048)
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, from, err := unix.Recvfrom(p.socket, buf, unix.MSG_DONTWAIT)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if a, ok := from.(*unix.SockaddrLinklayer); ok && a.Pkttype == unix.PACKET_OUTGOING && n > frameRecords && buf[12] == 8 && buf[13] == 0 {
			f := append([]byte(nil), buf[:n]...)
			f[frameUDP+6], f[frameUDP+7] = 0, 0 // it was left to the card
			frames = append(frames, f)
		}
	}
	return frames
}

func (p *gatePair) hostile(kind string) (frames [][]byte) {
	last := p.seen[len(p.seen)-1]
	for i := range 1024 {
		f := append([]byte(nil), last...)
		switch kind {
		case "invented":
			_, _ = crand.Read(f[frameSender:])
		case "replayed":
			f = p.seen[len(p.seen)-1-i%10]
		case "of the pair, junk inside": // and sequences that are to come: one stamp in 256 is good
			binary.BigEndian.PutUint64(f[frameSequence:], binary.BigEndian.Uint64(last[frameSequence:])+1_000_000+uint64(i))
			_, _ = crand.Read(f[frameRecords:])
		default: // of one that was held up
			f = append([]byte(nil), p.held...)
			_, _ = crand.Read(f[frameRecords:])
		}
		frames = append(frames, f)
	}
	return frames
}

// dropAll is an empty program that drops every packet.
func (p *gatePair) dropAll() (undo func()) {
	var lk xdp.Link
	within(p.b, p.here, func() error {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "drop_all", Type: ebpf.XDP, License: "Apache-2.0",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
		if err != nil {
			return err
		}
		defer prog.Close()
		ifi, err := net.InterfaceByName("sync0")
		if err != nil {
			return err
		}
		lk, err = xdp.AttachXDP(xdp.XDPOptions{Program: prog, Interface: ifi.Index, Flags: xdp.XDPDriverMode})
		return err
	})
	return func() { lk.Close() }
}

func (p *gatePair) gate() (undo func()) {
	var g *loader.Gate
	within(p.b, p.here, func() (err error) {
		g, err = loader.OpenGate(loader.GateOptions{Interface: "sync0", Port: link.DefaultPort, Sealed: true, Log: slog.New(slog.DiscardHandler)})
		return err
	})
	if mode, why := g.Mode(); mode != "native" {
		p.b.Fatalf("the gate does not stand: %q (%s)", mode, why)
	}
	use := func(to *loader.Gate) {
		p.tell.node.Lock()
		defer p.tell.node.Unlock()
		p.tell.gate = to
		p.tell.Tell(append([]link.GatePeer(nil), p.tell.last...), append([]link.GateKey(nil), p.tell.keys...))
	}
	use(g)
	return func() { use(nil); g.Close() }
}

// under sends the frames while something stands and gives the time spent for
// each, in us.
func (p *gatePair) under(b *testing.B, stand func() (undo func()), frames [][]byte) float64 {
	undo := stand()
	defer undo()
	time.Sleep(300 * time.Millisecond)
	hdrs, iovs := make([]mmsghdr, len(frames)), make([]unix.Iovec, len(frames))
	for i, f := range frames {
		iovs[i].Base = &f[0]
		iovs[i].SetLen(len(f))
		hdrs[i].hdr.Iov = &iovs[i]
		hdrs[i].hdr.SetIovlen(1)
	}
	const batch = 32
	busy := spentTime(b)
	begin := time.Now()
	for sent := 0; sent < *gateDatagrams; {
		_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(p.socket), uintptr(unsafe.Pointer(&hdrs[sent%len(hdrs)])), batch, 0, 0, 0)
		switch errno {
		case 0:
			sent += batch
		case unix.ENOBUFS: // the other end does not get at its queue
			time.Sleep(100 * time.Microsecond)
		default:
			b.Fatalf("send: %v", errno)
		}
		if ahead := time.Until(begin.Add(time.Duration(sent) * time.Second / time.Duration(*gateDatagrams))); ahead > 100*time.Microsecond {
			time.Sleep(ahead)
		}
	}
	time.Sleep(50 * time.Millisecond)
	runtime.KeepAlive(iovs)
	return float64(spentTime(b)-busy) / float64(time.Microsecond) / float64(*gateDatagrams)
}

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// spentTime is what this process and the kernel's threads for soft interrupts
// spent: sender, both nodes and the way between them run in its context or in
// theirs. Other processes of the machine do not count.
func spentTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	sum := time.Duration(ts.Nano())
	threads, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		b.Fatal(err)
	}
	for _, comm := range threads {
		name, err := os.ReadFile(comm)
		if err != nil || !strings.HasPrefix(string(name), "ksoftirqd/") {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(comm), "schedstat"))
		if err != nil {
			b.Fatal(err)
		}
		ns, err := strconv.ParseInt(strings.Fields(string(stat))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

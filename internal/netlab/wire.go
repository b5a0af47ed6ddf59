// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Wire counts TCP resets and ICMP errors at the moment they enter a switch
// from one of its ports, each once, whoever they are for.
type Wire struct {
	lab  *Lab
	fd   int
	stop chan struct{}
	done chan struct{}

	mu  sync.Mutex
	sum WireStats
}

// WireStats is what a Wire has seen. What routers say to each other on the sync
// link is in ByPort only.
type WireStats struct {
	RST        int            // TCP segments with RST set, IPv4 and IPv6
	ICMPErrors int            // ICMP types 3, 4, 11, 12; ICMPv6 types below 128
	ByPort     map[string]int // both, by the switch port they came in at, e.g. "wan.r1"
	ByMAC      map[string]int // both, by the sender's hardware address
	Samples    []string       // the first few, as text
}

// FromRouters is how many of them a router sent.
func (s WireStats) FromRouters() (n int) {
	for port, count := range s.ByPort {
		switch port {
		case "lan.r1", "lan.r2", "lan.r3", "wan.r1", "wan.r2", "wan.r3":
			n += count
		}
	}
	return n
}

// Wire starts counting.
func (l *Lab) Wire() (*Wire, error) {
	w := &Wire{lab: l, stop: make(chan struct{}), done: make(chan struct{})}
	prog, err := bpf.Assemble(wireFilter)
	if err != nil {
		return nil, fmt.Errorf("assemble wire filter: %w", err)
	}
	if w.fd, err = l.Switch.PacketSocket("", prog); err != nil {
		return nil, err
	}
	tv := unix.Timeval{Usec: 100_000} // how long Stop may wait for the reader
	if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		unix.Close(w.fd)
		return nil, fmt.Errorf("set receive timeout of wire: %w", err)
	}
	w.sum.ByPort, w.sum.ByMAC = map[string]int{}, map[string]int{}
	go w.read()
	return w, nil
}

// Stats returns a copy of the counts.
func (w *Wire) Stats() WireStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sum
	s.ByPort, s.ByMAC = maps.Clone(s.ByPort), maps.Clone(s.ByMAC)
	s.Samples = append([]string(nil), s.Samples...)
	return s
}

// Close ends counting.
func (w *Wire) Close() error {
	close(w.stop)
	<-w.done
	return unix.Close(w.fd)
}

func (w *Wire) read() {
	defer close(w.done)
	buf := make([]byte, 256)
	for {
		select {
		case <-w.stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if err != nil {
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok {
			w.count(buf[:n], ll.Ifindex)
		}
	}
}

func (w *Wire) count(frame []byte, ifindex int) {
	port, ok := w.lab.ports.get(ifindex)
	if !ok || len(frame) < 34 || frame[12] != 0x08 && len(frame) < 54 {
		return // the same frame again, on the bridge device or at a station
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sum.ByPort[port]++
	if strings.HasPrefix(port, Sync) {
		return // between the routers: a daemon that is not there yet draws "port unreachable"
	}
	v4 := frame[12] == 0x08
	proto := frame[20] // IPv6 next header
	if v4 {
		proto = frame[23]
	}
	if proto == unix.IPPROTO_TCP {
		w.sum.RST++
	} else {
		w.sum.ICMPErrors++
	}
	w.sum.ByMAC[net.HardwareAddr(frame[6:12]).String()]++
	if len(w.sum.Samples) < 10 {
		l4, src, dst := 14+int(frame[14]&15)*4, frame[26:30], frame[30:34]
		if !v4 {
			l4, src, dst = 54, frame[22:38], frame[38:54]
		}
		text := fmt.Sprintf("%s: %v > %v proto %d", port, net.IP(src), net.IP(dst), proto)
		if len(frame) >= l4+4 {
			text += fmt.Sprintf(" %d,%d", int(frame[l4])<<8|int(frame[l4+1]), int(frame[l4+2])<<8|int(frame[l4+3]))
		}
		w.sum.Samples = append(w.sum.Samples, text)
	}
}

// wireFilter passes TCP with RST and ICMP errors; first fragments only.
var wireFilter = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 15},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 22},
	bpf.LoadAbsolute{Off: 20, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 20},
	bpf.LoadMemShift{Off: 14}, // 5: X = IPv4 header length
	bpf.LoadAbsolute{Off: 23, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMP, SkipTrue: 3},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 16},
	bpf.LoadIndirect{Off: 14 + 13, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 4, SkipTrue: 13, SkipFalse: 14},
	bpf.LoadIndirect{Off: 14, Size: 1}, // 11: ICMP type
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 3, SkipTrue: 11},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 4, SkipTrue: 10},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 11, SkipTrue: 9},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 12, SkipTrue: 8},
	bpf.Jump{Skip: 8},
	bpf.LoadAbsolute{Off: 20, Size: 1}, // 17: IPv6
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 3},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 5},
	bpf.LoadAbsolute{Off: 54 + 13, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 4, SkipTrue: 2, SkipFalse: 3},
	bpf.LoadAbsolute{Off: 54, Size: 1}, // 22: ICMPv6 type
	bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: 128, SkipTrue: 1},
	bpf.RetConstant{Val: 128}, // 24
	bpf.RetConstant{Val: 0},   // 25
}

// PacketSocket opens a raw packet socket in the namespace, on one interface or
// ("") on all, for frames that come in. A filter may be nil.
func (n *Namespace) PacketSocket(iface string, filter []bpf.RawInstruction) (fd int, err error) {
	err = n.Run(func() error {
		// Protocol 0: nothing is received before the filter stands.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return preparePacketSocket(fd, iface, filter)
	})
	if err != nil {
		if fd > 0 {
			unix.Close(fd)
		}
		return -1, fmt.Errorf("open packet socket on %q of %q: %w", iface, n.Name, err)
	}
	return fd, nil
}

func preparePacketSocket(fd int, iface string, filter []bpf.RawInstruction) error {
	index := 0
	if iface != "" {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		index = i.Index
	}
	if len(filter) > 0 {
		raw := make([]unix.SockFilter, len(filter))
		for i, in := range filter {
			raw[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
		}
		prog := &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, prog); err != nil {
			return fmt.Errorf("attach filter: %w", err)
		}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("ignore outgoing: %w", err)
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

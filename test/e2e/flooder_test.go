// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// flood sends frames to both routers, out of the switch's ports, until stopped.
type flood struct {
	begun   time.Time
	perSec  int // frames to all together
	sent    atomic.Uint64
	ending  atomic.Bool
	stopped chan struct{}
}

// floodBatch is how many frames one system call sends. It may be short: the kernel
// gives the processor to no thread that it wakes before the last of them.
const floodBatch = 32

// startFlood sends frames out of switch ports, by their names.
func startFlood(t *testing.T, l *netlab.Lab, perSec int, frames map[string][][]byte) *flood {
	t.Helper()
	f := &flood{begun: time.Now(), perSec: perSec, stopped: make(chan struct{})}
	var rings []*txRing
	for port, all := range frames {
		fd, err := l.Switch.PacketSocket(port, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		r, err := newTxRing(fd, all)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Munmap(r.mem) })
		rings = append(rings, r)
	}
	go f.run(rings)
	t.Cleanup(f.stop)
	return f
}

// run is a thread of its own, before the others of this machine as far as that is
// short of real time: frames of a wire come with the network card's interrupts.
func (f *flood) run(rings []*txRing) {
	runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -10)
	defer close(f.stopped)
	for n := 0; !f.ending.Load(); n += floodBatch * len(rings) {
		for _, r := range rings {
			f.sent.Add(uint64(r.send(floodBatch)))
		}
		due := f.begun.Add(time.Duration(n) * time.Second / time.Duration(f.perSec))
		if ahead := time.Until(due); ahead > 100*time.Microsecond {
			time.Sleep(ahead)
		}
	}
}

// rate is frames per second so far.
func (f *flood) rate() float64 { return float64(f.sent.Load()) / time.Since(f.begun).Seconds() }

func (f *flood) stop() {
	f.ending.Store(true)
	<-f.stopped
}

// txRing is a packet socket's memory that the kernel sends from (packet(7),
// PACKET_TX_RING), filled once with frames that are sent over and over. sendmmsg(2)
// yields after each message, to the very threads that the frames wake: by it a
// quarter of the rate was reached, with half of the processor idle.
type txRing struct {
	fd, at, frames int
	mem            []byte
}

// A slot of the ring: struct tpacket2_hdr (status 32, length 32, ...), struct
// virtio_net_hdr (flags 8, gso_type 8, hdr_len 16, ...), then the frame. hdr_len
// is how much of a frame lies in one piece: all, as a driver delivers a short one.
// Without it that would be the Ethernet header.
const (
	txSlot   = 2048
	txBlock  = 64 << 10
	txHeader = 32
	txVirtio = 10
)

func newTxRing(fd int, frames [][]byte) (r *txRing, err error) {
	const perBlock = txBlock / txSlot
	blocks := len(frames) / perBlock // some of the last frames are left out
	req := unix.TpacketReq{Block_size: txBlock, Block_nr: uint32(blocks), Frame_size: txSlot, Frame_nr: uint32(blocks * perBlock)}
	for _, o := range []struct{ option, value int }{
		{unix.PACKET_VERSION, unix.TPACKET_V2}, {unix.PACKET_QDISC_BYPASS, 1}, {unix.PACKET_VNET_HDR, 1},
	} {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_PACKET, o.option, o.value)
		}
	}
	if err == nil {
		err = unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_TX_RING, &req)
	}
	if err != nil {
		return nil, err
	}
	r = &txRing{fd: fd, frames: blocks * perBlock}
	if r.mem, err = unix.Mmap(fd, 0, blocks*txBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	for i := range r.frames {
		slot := r.mem[i*txSlot:]
		binary.NativeEndian.PutUint32(slot[4:], uint32(txVirtio+len(frames[i])))
		binary.NativeEndian.PutUint16(slot[txHeader+2:], uint16(len(frames[i])))
		copy(slot[txHeader+txVirtio:], frames[i])
	}
	return r, nil
}

// send sends the next n frames and returns how many went: none where the port is
// down. The kernel frees a slot as soon as its frame is received.
func (r *txRing) send(n int) int {
	for i := range n {
		atomic.StoreUint32(r.status(r.at+i), unix.TP_STATUS_SEND_REQUEST)
	}
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(r.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0 // the kernel goes on where it stopped
	}
	sent := 0
	for i := range n {
		if atomic.LoadUint32(r.status(r.at+i)) == unix.TP_STATUS_AVAILABLE {
			sent++
		}
	}
	r.at = (r.at + n) % r.frames
	return sent
}

func (r *txRing) status(i int) *uint32 {
	return (*uint32)(unsafe.Pointer(&r.mem[i%r.frames*txSlot]))
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

// order is what the election thread wants of the stage.
type order struct {
	kind orderKind
	set  uint16
	term uint32
	fd   int

	linger  bool          // orderRemove: the role was handed over
	seats   []seat        // orderBegin: the members; orderGroup: one as it is to be
	vouched bool          // orderBegin: see holdRefreshes
	sure    *atomic.Int64 // orderBegin: until when the role is certain, see stageSet
}

// seat is one group of a set, on a port.
type seat struct {
	group, port uint16
	cfg         group
}

type orderKind uint8

const (
	orderBegin orderKind = iota + 1
	orderGo              // report that the ports are known
	orderInstall
	orderRemove
	orderAnnounce
	orderHush
	orderGroup
	orderEnd
	orderClose
	orderQuit
)

// report is what the stage did or saw.
type report struct {
	kind   reportKind
	set    uint16
	group  uint16
	port   uint16 // reportPort; reportAddress: the address's index in its group
	term   uint32
	reason reason
	rx     int
	index  int32
	addr   netip.Addr
	errno  unix.Errno
	on     bool
}

type reportKind uint8

const (
	reportReady reportKind = iota + 1
	reportPort
	reportInstalled
	reportRemoved
	reportAddress
	reportMAC   // on: the group's virtual MAC device is there
	reportEnded // nothing is left of the set here
)

const (
	refreshEvery = int64(time.Second)            // of a lifetime of vip.Lifetime
	deadAfter    = int64(2 * time.Second)        // an election thread that did not turn for so long
	repairEvery  = int64(200 * time.Millisecond) // at most, per set
	repairLater  = int64(20 * time.Millisecond)  // until it is asked again whether it may be done
	queueLength  = 4096
)

// stage is the second thread: everything that may wait for the rtnl lock.
// It keeps the multicast memberships, the addresses and their announcements,
// and reports what happens to links. Orders and reports are queues of values
// with an eventfd each; neither side ever waits for the other.
type stage struct {
	clock   *clock
	orders  chan order
	reports chan report
	kick    int // eventfd: an order is waiting
	wake    int // eventfd of the election thread
	alive   atomic.Int64
	vouched *atomic.Uint64 // of the shared page
	done    chan struct{}

	watch *vip.Watch
	conn  *vip.Conn
	garp  *vip.Announcer
	links map[string]vip.Link
	own   map[int32][]netip.Prefix
	own6  map[int32][]netip.Prefix
	local map[int32]vip.Local // for IPv6 groups

	said   vip.Announcements
	spoken []spoken       // by index in said
	wires  map[string]int // interfaces in said
	sleeps sleeps

	ports   []*stagePort
	sets    []*stageSet
	refresh int64             // next
	restore map[string]func() // by interface: undo of vip.KeepSecondaries, at the end
	ending  bool
}

func newStage(c *clock, wake int) (*stage, error) {
	st := &stage{
		clock: c, wake: wake,
		orders: make(chan order, queueLength), reports: make(chan report, queueLength),
		done:  make(chan struct{}),
		links: map[string]vip.Link{}, own: map[int32][]netip.Prefix{}, own6: map[int32][]netip.Prefix{}, local: map[int32]vip.Local{},
		restore: map[string]func(){}, wires: map[string]int{},
	}
	var err error
	if st.kick, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	if st.watch, err = vip.OpenWatch(); err != nil {
		return nil, err
	}
	if st.conn, err = vip.Open(); err != nil {
		return nil, err
	}
	st.garp, err = vip.OpenAnnouncer()
	return st, err
}

// order queues o; from the election thread.
func (st *stage) order(o order) {
	select {
	case st.orders <- o:
	default: // 4096 orders behind: rtnl has been held for minutes; lifetimes end by themselves
	}
	signalFD(st.kick)
}

// close ends the stage, from the election thread after its loop.
func (st *stage) close() {
	st.order(order{kind: orderQuit})
	select {
	case <-st.done:
	case <-time.After(time.Second):
	}
}

func (st *stage) report(r report) {
	select {
	case st.reports <- r:
	default:
	}
	signalFD(st.wake)
}

func (st *stage) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(st.done)
	st.readAll()
	fds := []unix.PollFd{{Fd: int32(st.kick), Events: unix.POLLIN}, {Fd: int32(st.watch.FD()), Events: unix.POLLIN}}
	for !st.ending {
		unix.Poll(fds, st.timeout())
		if fds[0].Revents != 0 {
			drainFD(st.kick)
		}
		st.obey()
		st.look()
		st.lookForSleep(st.clock.now())
		st.makeMACs(st.clock.now())
		st.work(st.clock.now())
	}
	st.leave()
	for _, undo := range st.restore {
		undo()
	}
	st.watch.Close()
	st.conn.Close()
	st.garp.Close()
}

// timeout is the time to the next work in milliseconds, rounded up.
func (st *stage) timeout() int {
	now := st.clock.now()
	next := earlier(earlier(now+int64(time.Hour), st.said.Next()), st.nextMAC())
	for _, ss := range st.sets {
		next = earlier(next, ss.next(st.refresh))
	}
	return int(max(0, next-now+999_999) / 1_000_000)
}

func (st *stage) obey() {
	for {
		select {
		case o := <-st.orders:
			switch o.kind {
			case orderBegin:
				st.begin(o)
			case orderGo:
				st.report(report{kind: reportReady})
			case orderClose:
				unix.Close(o.fd)
			case orderQuit:
				st.ending = true
			default:
				if ss := st.set(o.set); ss != nil {
					st.obeyFor(ss, o)
				}
			}
		default:
			return
		}
	}
}

// obeyFor is what concerns one set.
func (st *stage) obeyFor(ss *stageSet, o order) {
	switch o.kind {
	case orderInstall:
		st.install(ss, o)
	case orderRemove:
		st.remove(ss, o)
	case orderAnnounce:
		st.announce(ss, st.clock.now())
	case orderHush:
		st.hush(ss)
	case orderGroup:
		st.reconfigure(ss, o.seats[0])
	case orderEnd:
		st.end(ss)
	}
}

// look takes in what the kernel reports of links and addresses.
func (st *stage) look() {
	lost, err := st.watch.Read(st.linkChanged, st.addressChanged)
	if lost || err != nil {
		st.readAll()
	}
}

// readAll reads the whole state: at the start, and after lost notices.
func (st *stage) readAll() {
	list, err := vip.Links()
	if err != nil {
		fmt.Fprintln(os.Stderr, "adverts:", err)
		return
	}
	clear(st.links)
	clear(st.own)
	clear(st.own6)
	clear(st.local)
	for _, l := range list {
		st.links[l.Name] = l
		st.readOwn(l.Index)
	}
	st.checkMACs()
	for _, p := range st.ports {
		st.checkPort(p)
	}
}

func (st *stage) readOwn(index int32) {
	if own, err := vip.Own(index); err == nil {
		st.own[index] = own
	}
	if own, err := vip.Own6(index); err == nil {
		st.own6[index] = own
	}
	if local, err := vip.LinkLocal(index, st.local[index].Addr); err == nil {
		st.local[index] = local
	}
}

func (st *stage) linkChanged(l vip.Link) {
	if old, known := st.links[l.Name]; known && !l.Deleted && moved(old, l) {
		st.announceOn(l.Name, st.clock.now())
	}
	st.watchMAC(l)
	for name, old := range st.links { // renamed, or gone
		if old.Index == l.Index && (l.Deleted || name != l.Name) {
			delete(st.links, name)
		}
	}
	if l.Deleted {
		delete(st.own, l.Index)
		delete(st.own6, l.Index)
		delete(st.local, l.Index)
	} else {
		if _, known := st.own[l.Index]; !known {
			st.readOwn(l.Index)
		}
		st.links[l.Name] = l
	}
	for _, p := range st.ports {
		st.checkPort(p)
	}
}

func (st *stage) addressChanged(a vip.AddressNote) {
	if a.Proto == vip.Proto {
		if a.Deleted {
			st.missing(a.Address)
		}
		return
	}
	st.readOwn(a.IfIndex)
	for _, p := range st.ports {
		st.checkPort(p)
	}
}

// signalFD adds to an eventfd, drainFD empties one (or a timerfd).
func signalFD(fd int) {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(fd, one[:])
}

func drainFD(fd int) {
	var b [8]byte
	unix.Read(fd, b[:])
}

// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/vrrp"
)

// The shared page: a memfd of 64-bit words, written by the child's election
// thread alone, read by the daemon whenever it likes. One word goes the other
// way: vouched, so that an election never waits for the daemon's answer. Counters are plain
// atomic words; what must fit together (state, Active, since) stands behind a
// sequence word that is odd while it changes.
//
//	head | group 0 | group 1 | .. | interface 0 | ..
//
// There is room for as many groups and interfaces as the child may ever have.
// Memory is what of it was written.
const (
	wordsHead      = 4 + 2*wordsHistogram
	wordsHistogram = len(Bounds) + 3
	wordsGroup     = 8 + groupCounters
	wordsInterface = 6
	groupCounters  = int(unsafe.Sizeof(vrrp.Counters{}) / 8)
)

type shm struct {
	file  *os.File
	mem   []byte
	words []atomic.Uint64

	room int // of groups, and of interfaces

	mu   sync.Mutex // last: reading after close
	last *Status
}

func shmSize(room int) int { return 8 * (wordsHead + room*(wordsGroup+wordsInterface)) }

func createShm(room int) (*shm, error) {
	fd, err := unix.MemfdCreate("tandem-adverts", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create shared memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "tandem-adverts")
	if err := f.Truncate(int64(shmSize(room))); err != nil {
		f.Close()
		return nil, fmt.Errorf("size shared memory: %w", err)
	}
	s, err := mapShm(f, room)
	if err != nil {
		f.Close()
	}
	return s, err
}

func mapShm(f *os.File, room int) (*shm, error) {
	size := shmSize(room)
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	return &shm{
		file:  f,
		mem:   mem,
		words: unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(&mem[0])), size/8),
		room:  room,
	}, nil
}

func (s *shm) group(i int) []atomic.Uint64 {
	at := wordsHead + i*wordsGroup
	return s.words[at : at+wordsGroup]
}

func (s *shm) iface(i int) []atomic.Uint64 {
	at := wordsHead + s.room*wordsGroup + i*wordsInterface
	return s.words[at : at+wordsInterface]
}

func (s *shm) sent() []atomic.Uint64      { return s.words[4 : 4+wordsHistogram] }
func (s *shm) decided() []atomic.Uint64   { return s.words[4+wordsHistogram : wordsHead] }
func (s *shm) unsent() *atomic.Uint64     { return &s.words[0] }
func (s *shm) ringMissed() *atomic.Uint64 { return &s.words[1] }
func (s *shm) vouched() *atomic.Uint64    { return &s.words[2] } // the daemon's: see Process.Vouch

// vouch is the daemon's only word in the page.
func (s *shm) vouch(at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem != nil {
		s.vouched().Store(uint64(at))
	}
}

// observe counts one lateness of ns nanoseconds; early counts as 0.
func observe(h []atomic.Uint64, ns int64) {
	us := max(ns, 0) / 1000
	i := 0
	for i < len(Bounds) && us > Bounds[i] {
		i++
	}
	h[i].Add(1)
	h[len(Bounds)+1].Add(uint64(us))
	if top := &h[len(Bounds)+2]; uint64(us) > top.Load() {
		top.Store(uint64(us))
	}
}

// groupCell is one group's published state.
type groupCell struct {
	state          vrrp.State
	reason         reason
	priority       uint8
	activePriority uint8
	flags          uint8
	active         netip.Addr
	activeInterval int64
	since          int64
	checksum       vrrp.Checksum // of the next advert
	peerChecksum   vrrp.Checksum // of the last one heard
	counters       *vrrp.Counters
}

const (
	cellWouldPreempt = 1 << iota
	cellConflict
	cellAddressesIn
)

// publish writes group i. The child's election thread is the only writer.
func (s *shm) publish(i int, c *groupCell) {
	w := s.group(i)
	seq := w[0].Load()
	w[0].Store(seq + 1)
	w[1].Store(uint64(c.state) | uint64(c.reason)<<8 | uint64(c.priority)<<16 |
		uint64(c.activePriority)<<24 | uint64(c.flags)<<32 | uint64(addrLen(c.active))<<40)
	var raw [16]byte
	if c.active.IsValid() {
		raw = c.active.As16()
	}
	w[2].Store(*(*uint64)(unsafe.Pointer(&raw[0])))
	w[3].Store(*(*uint64)(unsafe.Pointer(&raw[8])))
	w[4].Store(uint64(c.activeInterval))
	w[5].Store(uint64(c.since))
	w[6].Store(uint64(c.checksum) | uint64(c.peerChecksum)<<8)
	counters := (*[groupCounters]uint64)(unsafe.Pointer(c.counters))
	for j := range counters {
		w[8+j].Store(counters[j])
	}
	w[0].Store(seq + 2)
}

func (s *shm) publishInterface(i int, c *vrrp.InterfaceCounters) {
	w := s.iface(i)
	for j, v := range (*[wordsInterface]uint64)(unsafe.Pointer(c)) {
		w[j].Store(v)
	}
}

// clearGroup makes the cell of a group that is gone that of one not yet heard of.
func (s *shm) clearGroup(i int) { s.publish(i, &groupCell{counters: &vrrp.Counters{}}) }

func addrLen(a netip.Addr) int {
	switch {
	case !a.IsValid():
		return 0
	case a.Is4():
		return 4
	}
	return 16
}

// status reads everything; after close it is the last value.
func (s *shm) status(n *names) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem == nil {
		return *s.last
	}
	return s.read(n)
}

func (s *shm) read(n *names) Status {
	st := Status{Unsent: s.unsent().Load(), RingMissed: s.ringMissed().Load(),
		Sent: readHistogram(s.sent()), Decided: readHistogram(s.decided())}
	for i := range n.groups {
		if n.groups[i].live() {
			st.Groups = append(st.Groups, s.readGroup(i, n))
		}
	}
	for i, p := range n.ports {
		if p.name == "" {
			continue
		}
		c := st.iface(p.name)
		for j := range s.iface(i) { // one port for each family
			(*[wordsInterface]uint64)(unsafe.Pointer(&c.Counters))[j] += s.iface(i)[j].Load()
		}
	}
	return st
}

// iface is the interface of that name, a new one if need be.
func (st *Status) iface(name string) *InterfaceStatus {
	for i := range st.Interfaces {
		if st.Interfaces[i].Name == name {
			return &st.Interfaces[i]
		}
	}
	st.Interfaces = append(st.Interfaces, InterfaceStatus{Name: name})
	return &st.Interfaces[len(st.Interfaces)-1]
}

func readHistogram(w []atomic.Uint64) (h Histogram) {
	for i := range h.Buckets {
		h.Buckets[i] = w[i].Load()
	}
	h.Sum, h.Max = w[len(Bounds)+1].Load(), w[len(Bounds)+2].Load()
	return h
}

// readGroup retries while the child writes. A child stopped amid a write
// would keep it for ever, so after many tries the torn value is taken.
func (s *shm) readGroup(i int, n *names) GroupStatus {
	w := s.group(i)
	var v [wordsGroup]uint64
	for range 1000 {
		seq := w[0].Load()
		for j := range v {
			v[j] = w[j].Load()
		}
		if seq%2 == 0 && w[0].Load() == seq {
			break
		}
	}
	return n.groupStatus(i, &v)
}

func (n *names) groupStatus(i int, v *[wordsGroup]uint64) GroupStatus {
	cfg := &n.groups[i]
	flags := uint8(v[1] >> 32)
	g := GroupStatus{
		Name: cfg.Name, Set: n.sets[cfg.set], Interface: cfg.Interface, VRID: cfg.VRID,
		State:          vrrp.State(v[1]),
		Priority:       uint8(v[1] >> 16),
		ActivePriority: uint8(v[1] >> 24),
		ActiveInterval: time.Duration(v[4]),
		Since:          int64(v[5]),
		WouldPreempt:   flags&cellWouldPreempt != 0,
		Conflict:       flags&cellConflict != 0,
		AddressesIn:    flags&cellAddressesIn != 0,
		Checksum:       vrrp.Checksum(v[6]),
		PeerChecksum:   vrrp.Checksum(v[6] >> 8),
		Counters:       *(*vrrp.Counters)(unsafe.Pointer(&v[8])),
	}
	var raw [16]byte
	*(*uint64)(unsafe.Pointer(&raw[0])), *(*uint64)(unsafe.Pointer(&raw[8])) = v[2], v[3]
	switch uint8(v[1] >> 40) {
	case 4:
		g.Active = netip.AddrFrom16(raw).Unmap()
	case 16:
		g.Active = netip.AddrFrom16(raw)
	}
	if g.State == vrrp.Initialize {
		why := reason(v[1] >> 8)
		g.Reason, g.Fault = n.reason(uint16(i), why), why.fault()
	}
	return g
}

// close unmaps; the daemon's side keeps the last value for status.
func (s *shm) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem != nil {
		unix.Munmap(s.mem)
		s.mem, s.words = nil, nil
		s.file.Close()
	}
}

// retire is close for the daemon's side.
func (s *shm) retire(n *names) {
	s.mu.Lock()
	if s.mem != nil {
		last := s.read(n)
		s.last = &last
	}
	s.mu.Unlock()
	s.close()
}

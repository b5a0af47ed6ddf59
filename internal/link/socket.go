// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/wakeup"
)

// Where nodes call each other on a link without configured peers: the group
// that VyOS has for conntrack-sync, and ours of link scope.
var (
	group4 = netip.AddrFrom4([4]byte{225, 0, 0, 50})
	group6 = netip.MustParseAddr("ff02::5450")
)

// hops is the only hop limit that counts (GTSM, RFC 5082): a router on the way
// would have lowered it.
const hops = 255

// bufferSize is asked for at the socket: a burst of a join while the receiver
// is busy with a commit.
const bufferSize = 8 << 20

// udpOverhead is IP and UDP header, by family.
const (
	udpOverhead4 = 20 + 8
	udpOverhead6 = 40 + 8
)

// socket is a UDP socket that is bound to one interface.
type socket struct {
	fd      int
	waiter  *wakeup.Waiter
	index   int
	v6      bool
	local   netip.Addr
	group   netip.Addr
	port    uint16
	payload atomic.Int64 // largest, of the interface's MTU
}

// open binds a socket to the interface as it is now.
func (l *Link) open() (*socket, error) {
	ifi, err := net.InterfaceByName(l.cfg.Interface)
	if err != nil {
		return nil, fmt.Errorf("open sync link: interface %q: %w", l.cfg.Interface, err)
	}
	s := &socket{index: ifi.Index, port: l.cfg.Port, local: l.cfg.Listen.Unmap()}
	if !s.local.IsValid() {
		if s.local, err = l.source(ifi); err != nil {
			return nil, fmt.Errorf("open sync link: interface %q: %w", l.cfg.Interface, err)
		}
	}
	s.v6 = s.local.Is6()
	switch {
	case l.cfg.Group.IsValid():
		s.group = l.cfg.Group.Unmap()
	case s.v6:
		s.group = group6
	default:
		s.group = group4
	}
	fd, err := s.bind(l.cfg.Interface)
	if err != nil {
		return nil, fmt.Errorf("open sync link: listen on UDP port %d of interface %q: %w", s.port, l.cfg.Interface, err)
	}
	s.fd = fd
	if s.waiter, err = wakeup.New(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open sync link: %w", err)
	}
	if _, err = l.refresh(s); err != nil {
		s.close()
		return nil, fmt.Errorf("open sync link: interface %q: %w", l.cfg.Interface, err)
	}
	return s, nil
}

var errNoAddress = errors.New("it has no address to send from (set listen-address, or give it one)")

// source is the address to send from where none is configured: of the family of
// what we send to, of link scope only if that is; where it is not known, IPv4
// before IPv6. An address of link scope that nobody asked for is not taken: the
// other node may have IPv4, and then the two do not meet.
func (l *Link) source(ifi *net.Interface) (netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	to := l.cfg.Group.Unmap()
	if len(l.cfg.Peers) > 0 {
		to = l.cfg.Peers[0].Unmap()
	}
	best, rank := netip.Addr{}, 0
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok && suits(ip.Unmap(), to) > rank {
			best, rank = ip.Unmap(), suits(ip.Unmap(), to)
		}
	}
	if rank == 0 {
		return netip.Addr{}, errNoAddress
	}
	return best, nil
}

// suits ranks a source address for datagrams to an address, which may be
// invalid; 0: it cannot be one.
func suits(ip, to netip.Addr) int {
	switch {
	case to.IsValid() && ip.Is4() != to.Is4():
		return 0
	case ip.Is4():
		return 3
	case ip.IsLinkLocalUnicast() == (to.IsLinkLocalUnicast() || to.IsLinkLocalMulticast()):
		return 2
	case to.IsValid():
		return 1
	}
	return 0
}

func (s *socket) bind(device string) (fd int, err error) {
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = s.setUp(fd, device); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s *socket) setUp(fd int, device string) error {
	if err := unix.BindToDevice(fd, device); err != nil {
		return err
	}
	for _, opt := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, bufferSize); err != nil {
			return err
		}
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(s.port)}
	if s.v6 {
		sa = &unix.SockaddrInet6{Port: int(s.port)}
	}
	if err := s.setUpIP(fd); err != nil {
		return err
	}
	return unix.Bind(fd, sa)
}

// setUpIP: hop limit 255 out and shown in, interface shown, own path MTU only
// (PROBE: DF, and what ICMP says is not believed), the group joined.
func (s *socket) setUpIP(fd int) error {
	level, opts := unix.IPPROTO_IP, [][2]int{
		{unix.IP_TTL, hops}, {unix.IP_MULTICAST_TTL, hops}, {unix.IP_MULTICAST_LOOP, 0},
		{unix.IP_RECVTTL, 1}, {unix.IP_PKTINFO, 1}, {unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
	}
	if s.v6 {
		level, opts = unix.IPPROTO_IPV6, [][2]int{
			{unix.IPV6_UNICAST_HOPS, hops}, {unix.IPV6_MULTICAST_HOPS, hops}, {unix.IPV6_MULTICAST_LOOP, 0},
			{unix.IPV6_RECVHOPLIMIT, 1}, {unix.IPV6_RECVPKTINFO, 1}, {unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
			{unix.IPV6_V6ONLY, 1},
		}
	}
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, level, o[0], o[1]); err != nil {
			return fmt.Errorf("set option %d: %w", o[0], err)
		}
	}
	if s.v6 {
		mreq := unix.IPv6Mreq{Multiaddr: s.group.As16(), Interface: uint32(s.index)}
		return unix.SetsockoptIPv6Mreq(fd, level, unix.IPV6_JOIN_GROUP, &mreq)
	}
	mreq := unix.IPMreqn{Multiaddr: s.group.As4(), Ifindex: int32(s.index)}
	if err := unix.SetsockoptIPMreqn(fd, level, unix.IP_MULTICAST_IF, &mreq); err != nil {
		return err
	}
	return unix.SetsockoptIPMreqn(fd, level, unix.IP_ADD_MEMBERSHIP, &mreq)
}

func (s *socket) close() {
	_ = s.waiter.Close()
	unix.Close(s.fd)
}

// sendPatience is how long a full socket is waited for.
const sendPatience = 5 * time.Millisecond

// writable waits until a socket that was full takes datagrams again, and says
// whether it does.
func (s *socket) writable() bool {
	timeout := unix.NsecToTimespec(int64(sendPatience))
	n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, &timeout, nil)
	return n > 0 || err == unix.EINTR
}

// refresh reads MTU and carrier through the socket, which knows its network
// namespace, and says whether the MTU is another one.
func (l *Link) refresh(s *socket) (changed bool, err error) {
	mtu, carrier, err := s.inspect(l.cfg.Interface)
	if err != nil {
		return false, err
	}
	payload := mtu - udpOverhead4
	if s.v6 {
		payload = mtu - udpOverhead6
	}
	changed = s.payload.Swap(int64(payload)) != int64(payload)
	l.count(func(st *Stats) { st.MTU, st.Carrier, st.Local = mtu, carrier, s.local })
	return changed, nil
}

func (s *socket) inspect(device string) (mtu int, carrier bool, err error) {
	index, err := ifreq(s.fd, unix.SIOCGIFINDEX, device)
	if err != nil {
		return 0, false, err
	}
	if index != uint32(s.index) {
		return 0, false, errChanged
	}
	m, err := ifreq(s.fd, unix.SIOCGIFMTU, device)
	if err != nil {
		return 0, false, err
	}
	flags, err := ifreq(s.fd, unix.SIOCGIFFLAGS, device)
	return int(m), flags&unix.IFF_RUNNING != 0, err
}

// ifreq asks one number of an interface; flags are its lower half.
func ifreq(fd int, req uint, device string) (uint32, error) {
	r, err := unix.NewIfreq(device)
	if err != nil {
		return 0, err
	}
	if err := ioctlIfreq(fd, req, r); err != nil {
		return 0, err
	}
	if req == unix.SIOCGIFFLAGS {
		return uint32(r.Uint16()), nil
	}
	return r.Uint32(), nil
}

func ioctlIfreq(fd int, req uint, r *unix.Ifreq) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(unsafe.Pointer(r)))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

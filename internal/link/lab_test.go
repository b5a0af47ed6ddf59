// SPDX-License-Identifier: Apache-2.0

package link

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/syncproto"
)

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		println("link: these tests make network namespaces and need root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// side is one node: a network namespace without a name, with one end of a veth
// pair called sync0, and perhaps a Link at work.
type side struct {
	t    testing.TB
	ns   netns.NsHandle
	addr netip.Addr
	node *Locked
	link *Link   // the first one
	more []*Link // all of them
	name string  // the node's; else its address
	stop func()
	keys string // its key file
}

// in runs fn on a thread of its own in the namespace; the thread ends with it.
func in(ns netns.NsHandle, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		if err := netns.Set(ns); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// newSides makes two namespaces and the cable between them.
func newSides(t testing.TB) (a, b *side) {
	t.Helper()
	sides := make([]*side, 2)
	for i := range sides {
		sides[i] = &side{t: t, addr: netip.AddrFrom4([4]byte{192, 168, 255, byte(i + 1)}), ns: newNamespace(t)}
	}
	a, b = sides[0], sides[1]
	cable(a, b, "sync0")
	for _, s := range sides {
		s.up()
	}
	return a, b
}

// cable joins two sides by a veth pair whose ends have the same name.
func cable(a, b *side, name string) {
	a.t.Helper()
	a.must(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}, PeerName: name,
			PeerNamespace: netlink.NsFd(b.ns), PeerMTU: 1500,
		})
	})
}

func newNamespace(t testing.TB) netns.NsHandle {
	t.Helper()
	made := make(chan netns.NsHandle)
	go func() {
		runtime.LockOSThread() // never unlocked
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			close(made)
			return
		}
		ns, err := netns.Get()
		if err != nil {
			close(made)
			return
		}
		made <- ns
	}()
	ns, ok := <-made
	if !ok {
		t.Fatal("cannot make a network namespace")
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func (s *side) must(fn func() error) {
	s.t.Helper()
	if err := in(s.ns, fn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) up() {
	s.t.Helper()
	s.must(func() error {
		dev, err := netlink.LinkByName("sync0")
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: s.addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}
		if err := netlink.AddrAdd(dev, addr); err != nil {
			return err
		}
		return netlink.LinkSetUp(dev)
	})
}

// start runs a Link to the other side (or one that has to find it), with a
// fresh Node: what a start of the daemon does.
func (s *side) start(peers ...netip.Addr) {
	s.t.Helper()
	s.startLinks(Config{Interface: "sync0", Peers: peers})
}

// startLinks is start with any links.
func (s *side) startLinks(links ...Config) {
	s.t.Helper()
	node := newNode()
	node.Node = syncproto.New(syncproto.Config{Policy: conntrack.DefaultPolicy(), Rand: rand.Reader,
		Name: cmp.Or(s.name, s.addr.String()), NetNS: uint64(s.ns)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, len(links))
	s.node, s.more = node, nil
	for _, c := range links {
		c.KeyFile = s.keys
		s.more = append(s.more, New(c, node))
	}
	for _, l := range s.more {
		go func() { ended <- in(s.ns, func() error { return l.Run(ctx) }) }()
		select {
		case <-l.Ready():
		case err := <-ended:
			s.t.Fatalf("Run: %v", err)
		case <-time.After(patience):
			s.t.Fatal("the link is not ready")
		}
	}
	s.link = s.more[0]
	s.stop = func() {
		cancel()
		for range links {
			if err := <-ended; err != nil {
				s.t.Errorf("Run: %v", err)
			}
		}
		s.stop = func() {}
	}
	s.t.Cleanup(func() { s.stop() })
}

func newNode() *Locked {
	return &Locked{Node: syncproto.New(syncproto.Config{Policy: conntrack.DefaultPolicy(), Rand: rand.Reader})}
}

func (s *side) thePeer() *syncproto.Peer {
	s.node.Lock()
	defer s.node.Unlock()
	if p := s.node.Peers(); len(p) > 0 {
		return p[0]
	}
	return nil
}

// peerNow gives what the peer is and counted, read under the lock.
func (s *side) peerNow() (up bool, stats syncproto.PeerStats) {
	p := s.thePeer()
	s.node.Lock()
	defer s.node.Unlock()
	return p.Up(), p.Stats()
}

// tell makes n flows, from the given number on.
func (s *side) tell(from, n int) {
	s.node.Lock()
	for i := from; i < from+n; i++ {
		s.node.Tell(flow(i), monotonic())
	}
	s.node.Unlock()
	s.node.Wake()
}

func flow(i int) *conntrack.Flow {
	f := &conntrack.Flow{Family: conntrack.IPv4, Proto: unix.IPPROTO_TCP, Timeout: 432000}
	f.Orig = conntrack.Tuple{Src: conntrack.Addr{10, byte(i >> 16), byte(i >> 8), byte(i)}, Dst: conntrack.Addr{192, 0, 2, 1}, SrcPort: 40000, DstPort: 80}
	f.Reply = conntrack.Tuple{Src: f.Orig.Dst, Dst: f.Orig.Src, SrcPort: 80, DstPort: 40000}
	f.Status = conntrack.SeenReply | conntrack.Assured | conntrack.Confirmed
	f.TCP = conntrack.TCP{State: conntrack.TCPEstablished, Flags: [2]uint8{3, 3}, Scale: [2]uint8{7, 7}}
	return f
}

// view is how many flows of its peer a side has, and whether
// that is all.
func (s *side) view() (n int, complete bool) {
	p := s.thePeer()
	if p == nil {
		return 0, false
	}
	s.node.Lock()
	defer s.node.Unlock()
	return p.View().Len(), p.View().Complete()
}

// patience is for what should come, and at once: a busy machine takes longer.
const patience = 20 * time.Second

// wait polls until ok says true.
func wait(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > limit {
			t.Fatalf("after %v: not %s", limit, what)
		}
		time.Sleep(200 * time.Microsecond)
	}
	return time.Since(begin)
}

// drop adds one rule that drops what exprs match, in a table of its own.
func (s *side) drop(table string, hook *nftables.ChainHook, exprs ...expr.Any) {
	s.t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(s.ns)))
	if err != nil {
		s.t.Fatal(err)
	}
	t := c.AddTable(&nftables.Table{Name: table, Family: nftables.TableFamilyINet})
	ch := c.AddChain(&nftables.Chain{Name: "c", Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: append(exprs, &expr.Verdict{Kind: expr.VerdictDrop})})
	if err := c.Flush(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) undrop(table string) {
	s.t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(s.ns)))
	if err != nil {
		s.t.Fatal(err)
	}
	c.DelTable(&nftables.Table{Name: table, Family: nftables.TableFamilyINet})
	if err := c.Flush(); err != nil {
		s.t.Fatal(err)
	}
}

// lose drops so many percent of what comes in.
func (s *side) lose(percent uint32) {
	s.t.Helper()
	s.drop("loss", nftables.ChainHookInput,
		&expr.Numgen{Register: 1, Modulus: 100, Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binaryutil.BigEndian.PutUint32(percent)})
}

// udpPort matches datagrams to a port.
func udpPort(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

// sendFrom sends a datagram from the namespace to an address, with that hop
// limit.
func (s *side) sendFrom(to netip.Addr, srcPort, hops int, payload []byte) {
	s.t.Helper()
	s.must(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, hops); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: srcPort}); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
		return unix.Sendto(fd, payload, 0, &unix.SockaddrInet4{Port: DefaultPort, Addr: to.As4()})
	})
}

func contains(err error, parts ...string) bool {
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			return false
		}
	}
	return true
}

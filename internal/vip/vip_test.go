// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNamespace runs fn on a thread in a namespace of its own that has a veth
// pair, eth0 and peer, both up.
func inNamespace(t *testing.T, fn func(index int32)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: thread and namespace end together
		ns, err := netns.New()
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		for _, c := range []string{"link add eth0 type veth peer name peer", "link set eth0 up", "link set peer up"} {
			if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %v %s", c, err, out)
				return
			}
		}
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			t.Error(err)
			return
		}
		fn(int32(l.Attrs().Index))
	}()
	<-done
}

func ip(t *testing.T, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Errorf("ip %s: %v %s", args, err, out)
	}
	return string(out)
}

// await waits until ok holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%s: not within 5 s", what)
			return
		}
	}
}

func put(t *testing.T, c *Conn, addrs ...Address) {
	t.Helper()
	errs := make([]unix.Errno, len(addrs))
	if err := c.Put(addrs, errs); err != nil {
		t.Error(err)
	}
	for i, e := range errs {
		if e != 0 {
			t.Errorf("put %v: %v", addrs[i], e)
		}
	}
}

func open(t *testing.T) *Conn {
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func addr(p string, index int32) Address {
	return Address{Prefix: netip.MustParsePrefix(p), IfIndex: index}
}

// The kernel keeps protocol number and lifetime, through refreshes too, and
// for IPv6; without a refresh the address vanishes.
func TestLifetimeAndProtocol(t *testing.T) {
	inNamespace(t, func(index int32) {
		c := open(t)
		defer c.Close()
		addrs := []Address{addr("10.0.0.100/24", index), addr("2001:db8::100/64", index)}
		for range 5 {
			put(t, c, addrs...)
			time.Sleep(time.Second)
		}
		list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			t.Error(err)
		}
		n := 0
		for _, a := range list {
			if a.Protocol == Proto {
				n++
				if a.ValidLft < 1 || a.ValidLft > Lifetime || a.PreferedLft < 1 {
					t.Errorf("%v: lifetimes %d, %d", a.IPNet, a.ValidLft, a.PreferedLft)
				}
				if a.Flags&unix.IFA_F_TENTATIVE != 0 {
					t.Errorf("%v is tentative", a.IPNet)
				}
			}
		}
		if n != 2 {
			t.Errorf("%d addresses of ours after 5 s of refreshes, want 2:\n%s", n, ip(t, "addr"))
		}
		await(t, "both are gone", func() bool {
			out := ip(t, "addr")
			return !strings.Contains(out, "10.0.0.100") && !strings.Contains(out, "2001:db8::100")
		})
	})
}

func TestManyAddresses(t *testing.T) {
	inNamespace(t, func(index int32) {
		c := open(t)
		defer c.Close()
		var addrs []Address
		for i := range 300 {
			addrs = append(addrs, addr(fmt.Sprintf("10.0.%d.%d/32", i/250, 1+i%250), index))
		}
		put(t, c, addrs...)
		if n := strings.Count(ip(t, "-4 addr show dev eth0"), "inet "); n != 300 {
			t.Errorf("%d addresses, want 300", n)
		}
		errs := make([]unix.Errno, len(addrs))
		if n := testing.AllocsPerRun(50, func() { c.Put(addrs, errs) }); n > 0 {
			t.Errorf("%v allocations to refresh 300 addresses", n)
		}
		if err := c.Remove(addrs, errs); err != nil {
			t.Error(err)
		}
		if n := strings.Count(ip(t, "-4 addr show dev eth0"), "inet "); n != 0 {
			t.Errorf("%d addresses left", n)
		}
	})
}

func TestRefusals(t *testing.T) {
	inNamespace(t, func(index int32) {
		c := open(t)
		defer c.Close()
		addrs := []Address{addr("10.0.0.1/32", 9999), addr("10.0.0.2/32", index)}
		errs := make([]unix.Errno, 2)
		if err := c.Put(addrs, errs); err != nil || errs[0] != unix.ENODEV || errs[1] != 0 {
			t.Errorf("put: %v, %v; want ENODEV for the first alone", err, errs)
		}
		for range 2 { // gone already is gone
			clear(errs)
			if err := c.Remove(addrs, errs); err != nil || errs[0] != 0 || errs[1] != 0 {
				t.Errorf("remove: %v, %v", err, errs)
			}
		}
	})
}

func TestCleanup(t *testing.T) {
	inNamespace(t, func(index int32) {
		c := open(t)
		defer c.Close()
		ip(t, "addr add 10.0.0.2/24 dev eth0")
		put(t, c, addr("10.0.0.100/32", index), addr("2001:db8::100/64", index))
		if n, err := Cleanup(); n != 2 || err != nil {
			t.Errorf("Cleanup: %d, %v; want 2", n, err)
		}
		out := ip(t, "addr")
		if strings.Contains(out, "100/") || !strings.Contains(out, "10.0.0.2/24") {
			t.Errorf("after Cleanup:\n%s", out)
		}
	})
}

// A virtual address in the operator's own subnet: it takes nothing along,
// whichever of the two goes first, and the subnet's route keeps its source.
func TestSameSubnet(t *testing.T) {
	inNamespace(t, func(index int32) {
		c := open(t)
		defer c.Close()
		ip(t, "addr add 10.0.0.2/24 dev eth0")
		own, err := Own(index)
		if err != nil || len(own) != 1 {
			t.Errorf("own addresses: %v, %v", own, err)
		}
		routes := ip(t, "-4 route")
		a := Address{Prefix: Plan(netip.MustParsePrefix("10.0.0.100/24"), own), IfIndex: index}
		put(t, c, a)
		if now := ip(t, "-4 route"); now != routes {
			t.Errorf("routes changed:\n%s\nwere:\n%s", now, routes)
		}
		if again, _ := Own(index); len(again) != 1 {
			t.Errorf("a virtual address counts as own: %v", again)
		}
		// The operator sets the address anew.
		ip(t, "addr del 10.0.0.2/24 dev eth0")
		if !strings.Contains(ip(t, "-4 addr"), "10.0.0.100/") {
			t.Error("the virtual address went with the operator's")
		}
		ip(t, "addr add 10.0.0.2/24 dev eth0")
		c.Remove([]Address{a}, make([]unix.Errno, 1))
		if !strings.Contains(ip(t, "-4 addr"), "10.0.0.2/24") {
			t.Error("the operator's address went with the virtual one")
		}
		if now := ip(t, "-4 route"); now != routes {
			t.Errorf("routes changed:\n%s\nwere:\n%s", now, routes)
		}
	})
}

// Where nothing covers it, it brings its subnet's route and takes it along;
// an own address that the operator adds later survives.
func TestSubnetOfItsOwn(t *testing.T) {
	inNamespace(t, func(index int32) {
		c := open(t)
		defer c.Close()
		restore, err := KeepSecondaries("eth0")
		if err != nil {
			t.Error(err)
		}
		a := Address{Prefix: Plan(netip.MustParsePrefix("10.9.0.1/24"), nil), IfIndex: index}
		put(t, c, a)
		if !strings.Contains(ip(t, "-4 route"), "10.9.0.0/24 dev eth0") {
			t.Error("no route to the subnet")
		}
		ip(t, "addr add 10.9.0.2/24 dev eth0")
		c.Remove([]Address{a}, make([]unix.Errno, 1))
		restore()
		if !strings.Contains(ip(t, "-4 addr"), "10.9.0.2/24") {
			t.Error("the operator's address went with the virtual one")
		}
	})
}

func TestWatch(t *testing.T) {
	inNamespace(t, func(index int32) {
		w, err := OpenWatch()
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Close()
		c := open(t)
		defer c.Close()
		put(t, c, addr("10.0.0.100/32", index))
		ip(t, "addr add 10.0.0.2/24 dev eth0")
		ip(t, "addr del 10.0.0.100/32 dev eth0")
		ip(t, "link set eth0 down")
		ip(t, "link del eth0")
		var got []string
		lost, err := w.Read(func(l Link) {
			if l.Index == index {
				got = append(got, fmt.Sprintf("link up=%v deleted=%v", l.Up, l.Deleted))
			}
		}, func(a AddressNote) {
			got = append(got, fmt.Sprintf("%v proto=%d deleted=%v", a.Prefix, a.Proto, a.Deleted))
		})
		if lost || err != nil {
			t.Errorf("lost %v, %v", lost, err)
		}
		all := strings.Join(got, "\n")
		for _, want := range []string{
			"10.0.0.100/32 proto=84 deleted=false", "10.0.0.2/24 proto=0 deleted=false",
			"10.0.0.100/32 proto=84 deleted=true", "link up=false deleted=false", "link up=false deleted=true",
		} {
			if !strings.Contains(all, want) {
				t.Errorf("no notice %q in:\n%s", want, all)
			}
		}
	})
}

func TestGARP(t *testing.T) {
	mac := [6]byte{2, 0, 0, 0, 0, 1}
	msg, err := GARP(netip.MustParseAddr("10.0.0.100"), mac, false)
	const want = "0001080006040001" + "020000000001" + "0a000064" + "ffffffffffff" + "0a000064"
	if err != nil || hex.EncodeToString(msg) != want {
		t.Errorf("%x, %v; want %s", msg, err, want)
	}
	if msg, _ := GARP(netip.MustParseAddr("10.0.0.100"), mac, true); msg[7] != 2 {
		t.Errorf("reply: %x", msg)
	}
	if _, err := GARP(netip.MustParseAddr("2001:db8::1"), mac, false); err == nil {
		t.Error("gratuitous ARP for IPv6")
	}
}

func TestNA(t *testing.T) {
	msg, err := NA(netip.MustParseAddr("2001:db8::100"), [6]byte{0, 0, 0x5e, 0, 2, 10})
	const src = "20010db8000000000000000000000100"
	const want = "6c000000" + "0020" + "3aff" + src + "ff020000000000000000000000000001" +
		"8800" + "1923" + "a0000000" + src + "0201" + "00005e00020a"
	if got := hex.EncodeToString(msg); err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	for _, ip := range []string{"10.0.0.1", "::ffff:10.0.0.1"} {
		if _, err := NA(netip.MustParseAddr(ip), [6]byte{}); err == nil {
			t.Errorf("neighbour advertisement for %s", ip)
		}
	}
}

// A neighbour that knows another MAC learns ours from one announcement.
func TestGARPIsBelieved(t *testing.T) {
	inNamespace(t, func(index int32) {
		other := fmt.Sprintf("vip%d", os.Getpid())
		ip(t, "netns add "+other)
		defer ip(t, "netns del "+other)
		ip(t, "link set peer netns "+other)
		ip(t, "-n "+other+" addr add 10.0.0.9/24 dev peer")
		ip(t, "-n "+other+" link set peer up")
		ip(t, "-n "+other+" neigh replace 10.0.0.100 lladdr 02:00:00:00:00:99 dev peer nud stale")
		links, err := Links()
		if err != nil {
			t.Error(err)
		}
		g, err := OpenAnnouncer()
		if err != nil {
			t.Error(err)
			return
		}
		defer g.Close()
		time.Sleep(1100 * time.Millisecond) // the kernel's locktime of a fresh entry
		var mac [6]byte
		for _, l := range links {
			if l.Index == index {
				mac = l.MAC
			}
		}
		msg, _ := GARP(netip.MustParseAddr("10.0.0.100"), mac, false)
		if err := g.Send(index, msg); err != nil {
			t.Error(err)
		}
		await(t, "the neighbour has learnt ours", func() bool {
			return strings.Contains(ip(t, "-n "+other+" neigh show 10.0.0.100"), net.HardwareAddr(mac[:]).String())
		})
	})
}

func FuzzNotices(f *testing.F) {
	f.Add(appendAddress(nil, unix.RTM_NEWADDR, 0, 1, addr("10.0.0.1/24", 7)))
	f.Add(appendAddress(nil, unix.RTM_DELADDR, 0, 2, addr("2001:db8::1/64", 7)))
	f.Fuzz(func(t *testing.T, b []byte) {
		eachMessage(b, func(_ uint16, _ uint32, body []byte) {
			var l Link
			var a AddressNote
			parseLink(body, &l)
			if parseAddress(body, &a) && !a.Prefix.IsValid() {
				t.Fatalf("%x: %+v", body, a)
			}
		})
	})
}

func TestAddressCodec(t *testing.T) {
	for _, p := range []string{"10.0.0.1/24", "10.0.0.1/32", "2001:db8::1/64"} {
		want := addr(p, 7)
		n := 0
		eachMessage(appendAddress(nil, unix.RTM_NEWADDR, 0, 42, want), func(typ uint16, seq uint32, body []byte) {
			var got AddressNote
			n++
			if !parseAddress(body, &got) || got.Address != want || got.Proto != Proto || typ != unix.RTM_NEWADDR || seq != 42 {
				t.Errorf("%s: %+v, type %d, sequence %d", p, got, typ, seq)
			}
		})
		if n != 1 {
			t.Errorf("%s: %d messages", p, n)
		}
	}
}

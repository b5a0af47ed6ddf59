// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// dmzHost is the lab's host on the network that has no group.
var dmzHost = netip.MustParseAddr("172.16.0.10")

// A flow between the LAN and a third network without a group is copied, once:
// its packets leave by two captured interfaces, one of which no group names.
func TestThirdInterfaceIsCopiedOnce(t *testing.T) {
	const each = 50
	p := drill.ForTest(t, netlab.Options{DMZ: true}, drill.PairOptions{})
	r1, r2 := p.Lab.R1, p.Lab.R2
	for _, r := range p.Lab.Routers() {
		eventually(t, 10*time.Second, r.Name+" captures eth0, eth1, eth3", func() bool {
			return slices.Equal(ask(t, p, r).Capture.Interfaces, []string{"eth0", "eth1", "eth3"})
		})
	}
	out := load.Path{Name: "to the DMZ", Client: p.Lab.Client, Server: p.Lab.DMZ, Port: 7000, Listen: dmzHost, Dial: dmzHost}
	in := load.Path{Name: "from the DMZ", Client: p.Lab.DMZ, Server: p.Lab.Client, Port: 7000, Listen: netlab.ClientAddr.Addr(), Dial: netlab.ClientAddr.Addr()}
	before := packets(t, p, r1)
	var want []flowKey
	for _, path := range []load.Path{out, in} {
		listen(t, path)
		echo(t, path)
		for range each {
			want = append(want, keyOf("tcp", dial(t, path)), keyOf("udp", exchange(t, path)))
		}
	}
	if err := p.AwaitCopied(t.Context(), r1, len(want), 20*time.Second); err != nil {
		t.Fatal(err)
	}
	got := flows(t, p, r2, control.FlowQuery{Source: control.SourceView})
	for _, k := range want {
		if got[k] != 1 {
			t.Errorf("%v is %d times in the view of r2", k, got[k])
		}
	}
	if len(got) != len(want) {
		t.Errorf("the view of r2 has %d flows, want %d", len(got), len(want))
	}
	// Once on the way, too: one record each in the ring and on the link.
	if told := packets(t, p, r1).Told - before.Told; told != uint64(len(want)) {
		t.Errorf("%d records in the ring of r1, want %d", told, len(want))
	}
	c := ask(t, p, r1).Sync.Counters
	t.Logf("%d flows: %d full records of %d sent, %d datagrams lost", len(want), c.FullSent, c.RecordsSent, c.DatagramsLost)
	if c.DatagramsLost == 0 && c.RecordsSent != uint64(len(want)) {
		t.Errorf("%d records sent, want %d", c.RecordsSent, len(want))
	}
	// r2 forwards nothing: it must not tell of what it commits.
	if k := packets(t, p, r2); k.Told != 0 {
		t.Errorf("r2 told %d flows that r1 forwards", k.Told)
	}
}

// An interface that comes late is captured as well, and one that goes away is
// let go of.
func TestLateInterfaceIsCaptured(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{DMZ: true}, drill.PairOptions{})
	r1, ns := p.Lab.R1, p.Lab.R1.NS
	captured := func(want ...string) func() bool {
		return func() bool { return slices.Equal(ask(t, p, r1).Capture.Interfaces, want) }
	}
	ip := func(args ...string) {
		t.Helper()
		if _, err := ns.Output(t.Context(), "ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	// What leads to the DMZ is now a macvlan of eth3.
	ip("link", "add", "link", "eth3", "name", "late", "type", "macvlan", "mode", "bridge")
	ip("addr", "del", "172.16.0.2/24", "dev", "eth3")
	ip("addr", "add", "172.16.0.2/24", "dev", "late")
	ip("link", "set", "late", "up")
	took := eventually(t, 10*time.Second, "late captured", captured("eth0", "eth1", "eth3", "late"))
	t.Logf("captured %s after it came up", took.Round(time.Millisecond))
	// The host there still has eth3's hardware address for its gateway.
	if _, err := p.Lab.DMZ.Output(t.Context(), "ip", "neigh", "flush", "all"); err != nil {
		t.Fatal(err)
	}
	// The lab's forward chain does not name late: only what begins in the LAN
	// passes.
	out := load.Path{Name: "to the DMZ", Client: p.Lab.Client, Server: p.Lab.DMZ, Port: 7000, Listen: dmzHost, Dial: dmzHost}
	echo(t, out)
	before := packets(t, p, r1)
	k := keyOf("udp", exchange(t, out))
	eventually(t, 10*time.Second, "the flow copied", func() bool {
		return flows(t, p, p.Lab.R2, control.FlowQuery{Source: control.SourceView})[k] == 1
	})
	// A macvlan's packets leave by its lower interface, too: one record all the same.
	if told := packets(t, p, r1).Told - before.Told; told != 1 {
		t.Errorf("%d records in the ring, want 1", told)
	}
	ip("link", "del", "late")
	eventually(t, 10*time.Second, "late let go", captured("eth0", "eth1", "eth3"))
}

// echo answers every datagram of a path until the test ends.
func echo(t *testing.T, path load.Path) {
	t.Helper()
	var c net.PacketConn
	err := path.Server.Run(func() (err error) {
		c, err = net.ListenPacket("udp4", netip.AddrPortFrom(path.Listen, path.Port).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		b := make([]byte, 64)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
}

// exchange sends a datagram from a new port until it is answered.
func exchange(t *testing.T, path load.Path) (c net.Conn) {
	t.Helper()
	err := path.Client.Run(func() (err error) {
		c, err = net.Dial("udp4", netip.AddrPortFrom(path.Dial, path.Port).String())
		return err
	})
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
		for end := time.Now().Add(answerLimit); ; {
			_ = c.SetDeadline(time.Now().Add(2 * time.Second))
			if _, err = c.Write([]byte("hello")); err == nil {
				_, err = c.Read(make([]byte, 16))
			}
			if err == nil || time.Now().After(end) {
				break
			}
		}
	}
	if err != nil {
		t.Fatalf("exchange a datagram %s: %v", path.Name, err)
	}
	return c
}

// keyOf names the flow of an untranslated connection, or of one whose
// destination is translated.
func keyOf(protocol string, c net.Conn) flowKey {
	from, to := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
	return flowKey{protocol, control.Tuple{Src: from.Addr().String(), Dst: to.Addr().String(), SrcPort: from.Port(), DstPort: to.Port()}}
}

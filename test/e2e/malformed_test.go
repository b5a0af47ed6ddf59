// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/netlab"
	"github.com/tandem-ha/tandem/vrrp"
)

// standing is what no malformed packet may move: roles and since when, own
// flows, views, sessions, what was written into the kernel table.
type standing struct {
	Role     string
	Since    time.Time
	Own      map[flowKey]int
	View     map[flowKey]int
	Complete bool
	Sessions uint64
	Commits  control.SyncCommits
	Table    map[flowKey]int
}

func standings(t *testing.T, p *drill.Pair) (out [2]standing) {
	t.Helper()
	for i, r := range p.Lab.Routers() {
		s := ask(t, p, r)
		peer := s.Sync.Peers[0]
		out[i] = standing{
			Role: s.Sets[0].Role, Since: s.Sets[0].Since.Truncate(time.Second), Complete: peer.Complete && peer.PeerComplete,
			Sessions: peer.Counters.Sessions, Commits: s.Sync.Commits,
			Own:   flows(t, p, r, control.FlowQuery{Source: control.SourceOwn}),
			View:  flows(t, p, r, control.FlowQuery{Source: control.SourceView}),
			Table: flows(t, p, r, control.FlowQuery{Source: control.SourceKernel, Address: netlab.LANCrowd.Addr().String()}),
		}
	}
	return out
}

// drops are a router's counters of what was dropped, by where and why.
func drops(s *control.Status) map[string]uint64 {
	out := map[string]uint64{}
	for why, n := range s.Sync.Links[0].Counters.Dropped {
		out["link "+why] = n
	}
	for why, n := range s.Sync.Peers[0].Counters.Dropped {
		out["peer "+why] = n
	}
	for _, x := range s.Strays {
		for why, n := range x.Dropped {
			out[x.Interface+" "+why] += n
		}
	}
	for _, g := range s.Groups {
		c := g.Counters
		maps.Copy(out, map[string]uint64{g.Name + " version": c.VersionErrors, g.Name + " checksum": c.ChecksumErrors,
			g.Name + " ttl": c.TTLErrors, g.Name + " length": c.PacketLengthErrors, g.Name + " interval": c.AdvertIntervalErrors,
			g.Name + " count": c.CountZeroErrors, g.Name + " addresses": c.AddressListErrors, g.Name + " two actives": c.TwoActives})
	}
	return out
}

// moved is by how much counters moved; those that stood still are left out.
func moved(before, after map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for k, n := range after {
		if n != before[k] {
			out[k] = n - before[k]
		}
	}
	return out
}

// A malformed advert moves the one counter that names its fault, at both
// routers, and nothing else. Each would win the election if it were believed.
func TestMalformedAdvert(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	st, err := p.Lab.Station(netlab.LAN, "evil")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := st.NS.PacketSocket(st.Iface, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	src := netip.MustParseAddr("10.0.0.66")
	say := func(pdu []byte, ttl byte) {
		t.Helper()
		frame := ipFrame([6]byte{1, 0, 0x5e, 0, 0, 0x12}, [6]byte(st.MAC), src, vrrp.Group4, vrrp.Protocol, ttl, pdu)
		if _, err := unix.Write(fd, frame); err != nil {
			t.Fatal(err)
		}
	}
	before := standings(t, p)
	for _, c := range malformedAdverts(src) {
		t.Run(c.name, func(t *testing.T) {
			a, b := ask(t, p, p.Lab.R1), ask(t, p, p.Lab.R2)
			say(c.pdu, c.ttl)
			want := map[string]uint64{c.want: 1}
			for r, s := range map[*netlab.Router]*control.Status{p.Lab.R1: &a, p.Lab.R2: &b} {
				old := drops(s)
				var got map[string]uint64
				for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && !maps.Equal(got, want); time.Sleep(20 * time.Millisecond) {
					now := ask(t, p, r)
					got = moved(old, drops(&now))
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("counters of %s (-want +got):\n%s", r.Name, d)
				}
			}
		})
	}
	if d := cmp.Diff(before, standings(t, p)); d != "" {
		t.Errorf("malformed adverts changed more than counters (-before +after):\n%s", d)
	}
	// The same, well-formed: r1 gives way, for as long as they come. So the ones
	// before could have done harm.
	eventually(t, 5*time.Second, "r1 believing a good advert of a higher priority (else these cases prove nothing)", func() bool {
		say(advert(src, nil), vrrp.TTL)
		return ask(t, p, p.Lab.R1).Sets[0].Role == control.RoleBackup
	})
}

// advert is one for the group LAN that outranks r1. edit changes it before the
// checksum is made.
func advert(src netip.Addr, edit func(pdu []byte) []byte) []byte {
	m := vrrp.Meta{Src: src, Dst: vrrp.Group4, TTL: vrrp.TTL}
	addr := netlab.LANVIP.Addr().As4()
	a := vrrp.Advert{Version: 3, VRID: 10, Priority: 250, Interval: int64(100 * time.Millisecond), Addresses: addr[:]}
	pdu := a.Append(nil, vrrp.ChecksumMessage, m)
	if edit != nil {
		pdu = edit(pdu)
		if len(pdu) >= 8 {
			pdu[6], pdu[7] = 0, 0
			binary.BigEndian.PutUint16(pdu[6:], checksum(pdu))
		}
	}
	return pdu
}

type badAdvert struct {
	name string
	pdu  []byte
	ttl  byte
	want string // the counter that moves
}

func malformedAdverts(src netip.Addr) []badAdvert {
	set := func(at int, v byte) []byte {
		return advert(src, func(b []byte) []byte { b[at] = v; return b })
	}
	sum := advert(src, nil)
	sum[7] ^= 1
	v2 := vrrp.Advert{Version: 2, VRID: 10, Priority: 250, Interval: int64(time.Second), Addresses: []byte{10, 0, 0, 1}}
	return []badAdvert{
		{"empty", nil, 255, "eth0 truncated"},
		{"cut", advert(src, func(b []byte) []byte { return b[:7] }), 255, "eth0 truncated"},
		{"version 4", set(0, 0x41), 255, "eth0 version"},
		{"type 2", set(0, 0x32), 255, "eth0 type"},
		{"foreign vrid", set(1, 77), 255, "eth0 vrid"},
		{"version 2", v2.Append(nil, vrrp.ChecksumMessage, vrrp.Meta{Src: src, Dst: vrrp.Group4}), 255, "LAN version"},
		{"checksum", sum, 255, "LAN checksum"},
		{"routed", advert(src, nil), 254, "LAN ttl"},
		{"no address", advert(src, func(b []byte) []byte { b[3] = 0; return b[:8] }), 255, "LAN count"},
		{"fewer addresses than it says", set(3, 9), 255, "LAN length"},
		{"longer than it says", advert(src, func(b []byte) []byte { return append(b, make([]byte, 40)...) }), 255, "LAN length"},
		{"interval 0", advert(src, func(b []byte) []byte { b[4], b[5] = 0, 0; return b }), 255, "LAN interval"},
	}
}

// What comes on the sync link and is not a datagram of this session moves the
// counter that names its fault, and nothing else. It comes from where the
// peer's comes: from its namespace, with its addresses. The gate is
// off: it has tests of its own, and what is behind it must hold by itself.
func TestMalformedDatagram(t *testing.T) {
	const n = 400
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{Edit: within("[conntrack-sync.interface.eth2]", `xdp = "off"`)})
	r1, r2 := p.Lab.R1, p.Lab.R2
	keepUDP(t, p.Lab)
	wires := map[*netlab.Router]*tapped{r1: tap(t, p.Lab, r1, r2), r2: tap(t, p.Lab, r2, r1)}
	crowd, err := drill.Crowd(p.Lab, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = crowd.Close() })
	if res, err := crowd.Open(t.Context(), 10*time.Second); err != nil || res.Answered != n {
		t.Fatalf("%v (%v)", res, err)
	}
	if err := p.AwaitCopied(t.Context(), r1, n, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Await(t.Context(), r2, 10*time.Second, "commit all", func(s *control.Status) bool { return s.Sync.Peers[0].Uncommitted == 0 }); err != nil {
		t.Fatal(err)
	}
	for _, w := range wires { // now: what is sent later comes by these wires, too
		w.settle(t)
	}
	before := standings(t, p)
	for _, from := range p.Lab.Routers() {
		to, w := p.Lab.Other(from), wires[from]
		for _, c := range w.malformed(wires[to]) {
			t.Run(c.name+" to "+to.Name, func(t *testing.T) {
				if len(c.datagrams) == 0 {
					t.Fatal("there is none to send: this proves nothing")
				}
				s := ask(t, p, to)
				old := drops(&s)
				for _, d := range c.datagrams {
					w.send(t, &d)
				}
				var got map[string]uint64
				sum := func() (all uint64) {
					for _, v := range got {
						all += v
					}
					return all
				}
				for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && sum() < uint64(len(c.datagrams)); time.Sleep(5 * time.Millisecond) {
					now := ask(t, p, to)
					got = moved(old, drops(&now))
				}
				if sum() != uint64(len(c.datagrams)) {
					t.Errorf("%d datagrams moved counters by %d: %v", len(c.datagrams), sum(), got)
				}
				for why := range got {
					if !c.want[why] {
						t.Errorf("counters moved: %v, want only %v", got, c.want)
					}
				}
			})
		}
	}
	if d := cmp.Diff(before, standings(t, p)); d != "" {
		t.Errorf("malformed datagrams changed more than counters (-before +after):\n%s", d)
	}
	if res, err := crowd.Exchange(t.Context(), 5*time.Second); err != nil || res.Answered != n {
		t.Errorf("flows after it: %v (%v): %v", res, err, res.Missing)
	}
	c := dialOne(t, p)
	eventually(t, 5*time.Second, "a new connection copied", func() bool {
		return flows(t, p, r2, control.FlowQuery{Source: control.SourceView})[keyOf("tcp", c)] == 1
	})
}

// Garbage is nobody: a link on which nothing else comes is silent.
func TestGarbageIsNotHeard(t *testing.T) {
	p := drill.ForTest(t, netlab.Options{}, drill.PairOptions{})
	r1, r2 := p.Lab.R1, p.Lab.R2
	w := tap(t, p.Lab, r2, r1)
	w.settle(t)
	if err := p.Stop(r2); err != nil {
		t.Fatal(err)
	}
	old := w.seen
	eventually(t, 10*time.Second, "an alarm of r1", func() bool {
		w.send(t, &datagram{payload: w.random(200)})
		w.send(t, &datagram{payload: old[w.rng.IntN(len(old))]}) // its own words of before
		return len(silent(t, p, r1)) == 1
	})
	if s := ask(t, p, r1); s.Sync.Links[0].Heard || s.Sync.Peers[0].Heard {
		t.Errorf("garbage counts as a peer: %+v, %+v", s.Sync.Links[0], s.Sync.Peers[0])
	}
}

func dialOne(t *testing.T, p *drill.Pair) net.Conn {
	path := drill.Paths(p.Lab)[0]
	listen(t, path)
	return dial(t, path)
}

type badDatagrams struct {
	name      string
	datagrams []datagram
	want      map[string]bool // counters that may move
}

func (w *tapped) malformed(back *tapped) []badDatagrams {
	only := func(why ...string) map[string]bool {
		m := map[string]bool{}
		for _, x := range why {
			m[x] = true
		}
		return m
	}
	out := []badDatagrams{
		{"garbage", nil, only("peer short")},
		{"truncated", nil, only("peer short", "peer checksum")},
		{"flipped bits", nil, only("peer short", "peer checksum", "peer version", "peer seal")},
		{"replayed", nil, only("peer replay")},
		{"foreign session", nil, only("peer session")},
		{"malformed records", nil, only("peer record")},
		{"malformed hello", nil, only("peer hello")},
		{"another version", nil, only("peer version")},
		{"sealed", nil, only("peer seal")},
		{"reflected", nil, only("peer reflected")},
		{"stranger", nil, only("link stranger")},
		{"hop limit", nil, only("link hop_limit")},
		{"longer than any link", nil, only("link truncated")},
	}
	add := func(i int, d ...datagram) { out[i].datagrams = append(out[i].datagrams, d...) }
	for range 100 {
		add(0, datagram{payload: w.random(1 + w.rng.IntN(1400))})
		whole := w.seen[w.rng.IntN(len(w.seen))]
		add(1, datagram{payload: whole[:w.rng.IntN(len(whole))]})
		flipped := append([]byte(nil), whole...)
		flipped[w.rng.IntN(len(flipped))] ^= 1 << w.rng.IntN(8)
		add(2, datagram{payload: flipped})
		add(4, w.forge(func(b []byte) []byte { copy(b[dgSender:], w.random(16)); return b }),
			w.forge(func(b []byte) []byte { copy(b[dgReceiver:], w.random(16)); return b }),
			w.forge(func(b []byte) []byte { copy(b[dgSender:], w.random(32)); return b }))
	}
	for _, d := range w.seen[max(0, len(w.seen)-50):] {
		if d[dgType] == 2 {
			add(3, datagram{payload: d})
		}
	}
	for i := range byte(50) { // of the session, fresh, whole, and nonsense inside
		add(5, w.forge(func(b []byte) []byte {
			b[dgType] = 2
			binary.BigEndian.PutUint64(b[dgSequence:], binary.BigEndian.Uint64(b[dgSequence:])+1000+uint64(i))
			return append(b[:dgRecords], 0x40|i&0x3f, 0xff) // a full record that ends too soon
		}))
		add(6, w.forge(func(b []byte) []byte { b[dgType] = 1; return append(b[:dgRecords], 0x40|i&0x3f, 0xff) }))
	}
	add(7, w.forge(func(b []byte) []byte { b[dgVersion] = 2; return b }))
	add(8, w.forge(func(b []byte) []byte { b[dgSeal] = 1; return b }))
	for _, d := range back.seen[max(0, len(back.seen)-10):] {
		if d[dgType] == 2 {
			add(9, datagram{payload: d})
		}
	}
	add(10, datagram{payload: w.last(), src: netip.MustParseAddr("192.168.255.77")}, datagram{payload: w.last(), port: 4000})
	add(12, datagram{payload: w.random(20_000)})
	add(11, datagram{payload: w.last(), ttl: 254}, datagram{payload: w.last(), ttl: 1})
	return out
}

// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// renewals takes what a view has pending and gives, by protocol, how many of it
// are renewals; err answers those, the rest is carried out.
func renewals(v *View, now int64, err error) (n map[uint8]int) {
	n = map[uint8]int{}
	ops, tokens := v.Pending(nil, nil, 1000, time.Second, now)
	for i := range ops {
		if ops[i].Kind == conntrack.OpRenew {
			n[ops[i].Flow.Proto]++
			ops[i].Err = err
		}
	}
	v.Done(tokens, ops)
	return n
}

// Each flow of a short timeout is renewed three times before the 600 s are over
// that its entry was written with, and one of a long timeout far less often.
func TestRenewedBeforeItRunsOut(t *testing.T) {
	c := newCouple()
	for i := range uint32(300) {
		c.a.Tell(udpFlow6(i), c.now)
		c.a.Tell(tcpFlow(i), c.now)
	}
	c.run(2 * time.Second)
	v := c.ba.View()
	renewals(v, c.now, nil) // the creations
	began, udp, tcp := c.now, 0, 0
	for c.now < began+int64(600*time.Second) {
		c.run(time.Second)
		n := renewals(v, c.now, nil)
		udp, tcp = udp+n[unix.IPPROTO_UDP], tcp+n[unix.IPPROTO_TCP]
		if n[unix.IPPROTO_UDP] > 10 {
			t.Fatalf("%d renewals in one second, of 300 flows", n[unix.IPPROTO_UDP])
		}
	}
	if udp < 850 || udp > 1250 || tcp < 30 || tcp > 90 {
		t.Errorf("%d renewals of 300 UDP flows and %d of 300 TCP flows in 600 s", udp, tcp)
	}
}

// What packets of a term that ended left in the kernel table is renewed at once:
// nobody knows how long it has.
func TestRenewedAfterATerm(t *testing.T) {
	c := newCouple()
	for i := range uint32(50) {
		c.a.Tell(udpFlow6(i), c.now)
	}
	c.run(2 * time.Second)
	renewals(c.ba.View(), c.now, nil)
	c.a.Release(c.now)
	c.a.SetActive(false)
	c.ab.View().Forget()
	c.b.SetActive(true)
	for c.b.Adopt(1000, c.now) {
	}
	c.run(2 * time.Second)
	if n := renewals(c.ab.View(), c.now, nil)[unix.IPPROTO_UDP]; n != 50 {
		t.Errorf("%d of 50 flows were renewed", n)
	}
}

// What a peer that lost its kernel table does not say again is not renewed: it
// ends with its entry.
func TestFormerIsNotRenewed(t *testing.T) {
	c := newCouple()
	for i := range uint32(50) {
		c.a.Tell(udpFlow6(i), c.now)
	}
	c.run(2 * time.Second)
	v := c.ba.View()
	renewals(v, c.now, nil)
	for i := range uint32(25) {
		v.tabs[kind6].at(i).set(viewFormer)
	}
	for i := range v.tabs[kind6].size {
		v.renewSoon(&v.tabs[kind6], i)
	}
	if n := renewals(v, c.now, nil)[unix.IPPROTO_UDP]; n != 25 {
		t.Errorf("%d of 25 flows that live were renewed", n)
	}
}

// An entry that ran out before the takeover, of which the kernel tells only now,
// is no end of a flow; that somebody deleted it is.
func TestRanOutBeforeTheTakeover(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		c := newCouple()
		c.a.Tell(udpFlow6(1), c.now)
		c.run(2 * time.Second)
		v := c.ba.View()
		renewals(v, c.now, nil)
		c.b.SetActive(true)
		d := conntrack.Death{Flow: *udpFlow6(1)}
		if deleted {
			d.PortID = 7
		}
		c.b.Died(&d, c.now)
		ops, _ := v.Pending(nil, nil, 10, 0, c.now)
		if created := len(ops) == 1 && ops[0].Kind == conntrack.OpCreate; created == deleted || v.Len() == 0 != deleted {
			t.Errorf("deleted %t: %d flows in the view, pending %+v", deleted, v.Len(), ops)
		}
	}
}

// What had run out is created again, also by one that has become Active
// meanwhile; what cannot be renewed is written anew.
func TestRenewalRefused(t *testing.T) {
	for _, c := range []struct {
		err    error
		active bool
		want   conntrack.OpKind
	}{{unix.ENOENT, false, conntrack.OpCreate}, {unix.ENOENT, true, conntrack.OpCreate}, {unix.EPERM, false, conntrack.OpReplace}, {unix.ENOMEM, false, conntrack.OpRenew}} {
		w := newCouple()
		w.a.Tell(udpFlow6(1), w.now)
		w.run(2 * time.Second)
		v := w.ba.View()
		renewals(v, w.now, nil)
		i := v.tabs[kind6].size - 1
		v.renewSoon(&v.tabs[kind6], i)
		w.b.SetActive(c.active)
		if n := renewals(v, w.now, c.err)[unix.IPPROTO_UDP]; n != 1 {
			t.Errorf("%v: %d renewals", c.err, n)
		}
		if ops, _ := v.Pending(nil, nil, 10, 0, w.now); len(ops) != 1 || ops[0].Kind != c.want {
			t.Errorf("%v, Active %t: then %+v", c.err, c.active, ops)
		}
	}
}

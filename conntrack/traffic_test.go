// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"testing"

	"golang.org/x/sys/unix"
)

// These tests send packets through restored entries: what docs/ctnetlink.md
// says of the first packets after a takeover.

// Tuples as they stand on the wire on either side of the SNAT of tcp4(snat4).
var (
	fromClient = tuple("10.0.0.7", "198.51.100.9", 40000, 443)
	outside    = tuple("203.0.113.1", "198.51.100.9", 51000, 443)
	fromServer = tuple("198.51.100.9", "203.0.113.1", 443, 51000)
	inside     = tuple("198.51.100.9", "10.0.0.7", 443, 40000)
)

func clientData(seq, acked uint32) []byte { return tcp(fromClient, ack, seq, acked, 512, 100) }
func serverData(seq, acked uint32) []byte { return tcp(fromServer, ack, seq, acked, 512, 100) }

func (r *router) wantInvalid(what string, want uint64) {
	r.t.Helper()
	if got := r.invalid(); got != want {
		r.t.Errorf("%s: %d INVALID packets, want %d", what, got, want)
	}
}

// TestRestoredTCP: real scale and flags 0x03 run with strict window tracking,
// whoever speaks first.
func TestRestoredTCP(t *testing.T) {
	for _, first := range []string{"client", "server"} {
		t.Run(first, func(t *testing.T) {
			r := newRouter(t)
			f := tcp4(snat4)
			f.Status |= DstNAT // ignored
			mustApply(t, r.table, Op{Flow: f})
			if first == "client" {
				r.want("client", r.toServer(clientData(1000, 5000)), outside)
			}
			for i := range uint32(5) {
				r.want("server", r.toClient(serverData(5000+100*i, 1100+100*i)), inside)
				r.want("client", r.toServer(clientData(1100+100*i, 5100+100*i)), outside)
			}
			r.wantInvalid("conversation", 0)
			if got := onlyFlow(t, r.table); got.TCP.State != TCPEstablished || got.Status&established != established {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestRestoredDNAT: the server's side of a port forward, and both at once.
func TestRestoredDNAT(t *testing.T) {
	r := newRouter(t)
	f := Flow{
		Family: IPv4, Proto: unix.IPPROTO_TCP, Status: established, Timeout: 300,
		Orig:  tuple("198.51.100.9", "203.0.113.1", 5555, 80),
		Reply: tuple("10.0.0.7", "10.0.0.1", 8080, 6666),
		TCP:   TCP{State: TCPEstablished, Flags: [2]uint8{3, 3}, Scale: [2]uint8{7, 7}},
	}
	mustApply(t, r.table, Op{Flow: f})
	got := r.toServer(tcp(f.Reply, ack, 1, 1, 512, 10))
	r.want("answer", got, tuple("203.0.113.1", "198.51.100.9", 80, 5555))
	got = r.toClient(tcp(f.Orig, ack, 1, 11, 512, 10))
	r.want("question", got, tuple("10.0.0.1", "10.0.0.7", 6666, 8080))
	r.wantInvalid("conversation", 0)
}

// TestStateNoneIsBlackHole: an entry without TCP state works if the original
// side speaks first, and swallows what the server says first.
func TestStateNoneIsBlackHole(t *testing.T) {
	r := newRouter(t)
	f := tcp4(snat4)
	f.TCP = TCP{State: TCPNone}
	mustApply(t, r.table, Op{Flow: f})
	if got := r.toClient(serverData(5000, 1000)); got != nil {
		t.Errorf("server first: %+v came out", *got)
	}
	r.wantInvalid("server first", 1)
	r.want("client", r.toServer(clientData(1000, 5000)), outside)
	r.want("server", r.toClient(serverData(5000, 1100)), inside)
	r.wantInvalid("client first", 1)
}

// TestStaleState: SYN_SENT makes INVALID packets, SYN_RECV is fine.
func TestStaleState(t *testing.T) {
	for _, c := range []struct {
		state   TCPState
		invalid bool
	}{{TCPSynSent, true}, {TCPSynRecv, false}} {
		r := newRouter(t)
		f := tcp4(snat4)
		f.TCP.State = c.state
		mustApply(t, r.table, Op{Flow: f})
		for i := range uint32(3) {
			r.toClient(serverData(5000+100*i, 1000+100*i))
			r.toServer(clientData(1000+100*i, 5100+100*i))
		}
		if got := r.invalid(); (got > 0) != c.invalid {
			t.Errorf("state %d: %d INVALID packets", c.state, got)
		}
	}
}

// TestMaxAckDropsReset: with MAXACK_SET, once the client has spoken, the
// server's RST is compared with an acknowledgement that nobody restored (0),
// and is INVALID for half of all sequence numbers. Apply never sets it.
func TestMaxAckDropsReset(t *testing.T) {
	for _, c := range []struct {
		name    string
		seq     uint32
		maxAck  bool
		invalid uint64
	}{
		{"as Apply writes it", 0x90000000, false, 0}, {"as Apply writes it", 0x10000000, false, 0},
		{"MAXACK_SET", 0x90000000, true, 1}, {"MAXACK_SET", 0x10000000, true, 0},
	} {
		r := newRouter(t)
		f := tcp4(snat4)
		f.TCP.Flags = [2]uint8{0xff &^ TCPFlagBeLiberal, 0xff &^ TCPFlagBeLiberal}
		if c.maxAck {
			createWithMaxAck(t, r.table, f)
		} else {
			mustApply(t, r.table, Op{Flow: f})
		}
		r.want("client", r.toServer(clientData(1000, c.seq)), outside)
		got := r.toClient(tcp(fromServer, rst|ack, c.seq, 1100, 0, 0))
		if (got != nil) != (c.invalid == 0) {
			t.Errorf("%s: RST with sequence %#x: %+v", c.name, c.seq, got)
		}
		r.wantInvalid(c.name, c.invalid)
	}
}

// createWithMaxAck does what Apply refuses to do.
func createWithMaxAck(t testing.TB, table *Table, f Flow) {
	t.Helper()
	proto := appendProtoinfo(nil, &f)
	for _, at := range []int{len(proto) - 12, len(proto) - 4} { // the two nf_ct_tcp_flags
		proto[at], proto[at+1] = 0x23, 0x23
	}
	nat := appendNAT(nil, ctaNATSrc, IPv4, &f.Reply.Dst, true, f.Reply.DstPort)
	wantErr(t, "create with MAXACK_SET", request(t, table, isCreate, tuples(&f, f.plainInverse()), status(established), timeout(100), proto, nat), nil)
	if got := onlyFlow(t, table); got.TCP.Flags != [2]uint8{0x23, 0x23} {
		t.Fatalf("flags %#x", got.TCP.Flags)
	}
}

// TestScale: a wrong one makes INVALID what the right one lets through, and
// BE_LIBERAL tolerates it.
func TestScale(t *testing.T) {
	for _, c := range []struct {
		name    string
		scale   uint8
		flags   uint8
		invalid uint64
	}{{"right", 7, 3, 0}, {"wrong", 0, 3, 1}, {"wrong, liberal", 0, 3 | TCPFlagBeLiberal, 0}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRouter(t)
			f := tcp4(snat4)
			f.TCP.Scale, f.TCP.Flags = [2]uint8{c.scale, c.scale}, [2]uint8{c.flags, c.flags}
			mustApply(t, r.table, Op{Flow: f})
			r.want("client", r.toServer(clientData(1000, 5000)), outside)
			r.want("server", r.toClient(serverData(5000, 1100)), inside)
			r.want("client", r.toServer(clientData(1100, 5100)), outside)
			got := r.toClient(serverData(5100+20_000, 1200)) // within 512 << 7, not within 512
			if (got != nil) != (c.invalid == 0) {
				t.Errorf("came out: %+v", got)
			}
			r.wantInvalid("server ahead", c.invalid)
		})
	}
}

// TestStaleWindow: an entry that missed a part of the stream takes the rest
// for INVALID; an update does not cure it, delete and create does.
func TestStaleWindow(t *testing.T) {
	r := newRouter(t)
	f := tcp4(snat4)
	mustApply(t, r.table, Op{Flow: f})
	r.want("client", r.toServer(clientData(1000, 5000)), outside)
	r.want("server", r.toClient(serverData(5000, 1100)), inside)
	const moved = 100 << 20 // went over the other router
	if got := r.toClient(serverData(5100+moved, 1100+moved)); got != nil {
		t.Errorf("onto the old entry: %+v came out", *got)
	}
	r.wantInvalid("old entry", 1)
	wantErr(t, "update", request(t, r.table, isUpdate, tuples(&f, f.plainInverse()), status(established), timeout(300), protoinfo(f, func(*TCP) {})), nil)
	if got := r.toClient(serverData(5100+moved, 1100+moved)); got != nil {
		t.Errorf("after an update: %+v came out", *got)
	}
	r.wantInvalid("updated entry", 2)
	mustApply(t, r.table, Op{Kind: OpReplace, Flow: f})
	r.want("server", r.toClient(serverData(5100+moved, 1100+moved)), inside)
	r.want("client", r.toServer(clientData(1100+moved, 5200+moved)), outside)
	r.wantInvalid("replaced entry", 2)
}

// TestLiberalUpdate: an update that sets BE_LIBERAL does cure it.
func TestLiberalUpdate(t *testing.T) {
	r := newRouter(t)
	f := tcp4(snat4)
	mustApply(t, r.table, Op{Flow: f})
	r.want("client", r.toServer(clientData(1000, 5000)), outside)
	r.want("server", r.toClient(serverData(5000, 1100)), inside)
	const moved = 100 << 20
	before := onlyFlow(t, r.table)
	mustApply(t, r.table, Op{Kind: OpLiberal, Flow: f})
	after := onlyFlow(t, r.table)
	if after.TCP.Flags[0] &= ^TCPFlagBeLiberal; after.TCP.Flags[0] != before.TCP.Flags[0] || after.TCP.State != before.TCP.State || after.Status != before.Status {
		t.Errorf("it was %+v, and is %+v", before, after)
	}
	for range 2 {
		r.want("server", r.toClient(serverData(5100+moved, 1100+moved)), inside)
		r.want("client", r.toServer(clientData(1100+moved, 5200+moved)), outside)
	}
	r.wantInvalid("updated entry", 0)
	f.Orig.SrcPort++
	wantErr(t, "there is none", refuse(t, r.table, OpLiberal, f), unix.ENOENT)
}

// TestUnheardAcknowledgements: the client repeats the oldest of what it was
// not told of, the server acknowledges all that it has, which this router has
// not seen: INVALID on a strict entry, not on a liberal one.
func TestUnheardAcknowledgements(t *testing.T) {
	for flags, invalid := range map[uint8]uint64{3: 1, 3 | TCPFlagBeLiberal: 0} {
		r := newRouter(t)
		f := tcp4(snat4)
		f.TCP.Flags = [2]uint8{flags, flags}
		mustApply(t, r.table, Op{Flow: f})
		r.want("client", r.toServer(clientData(1000, 5000)), outside)
		got := r.toClient(tcp(fromServer, ack, 5000, 1000+8<<10, 512, 0))
		if (got != nil) != (invalid == 0) {
			t.Errorf("flags %#x: came out: %+v", flags, got)
		}
		r.wantInvalid("acknowledgement", invalid)
	}
}

// TestLoose: a packet of a running connection that comes before the commit
// makes an entry with another port; EEXIST shows it, a replace puts it right.
func TestLoose(t *testing.T) {
	r := newRouter(t)
	got := r.toServer(clientData(1000, 5000))
	if got == nil || got.Src != outside.Src || got.SrcPort < 20000 || got.SrcPort > 20999 {
		t.Fatalf("came out: %+v", got)
	}
	f := tcp4(snat4)
	wantErr(t, "create", refuse(t, r.table, OpCreate, f), unix.EEXIST)
	mustApply(t, r.table, Op{Kind: OpReplace, Flow: f})
	r.want("client", r.toServer(clientData(1000, 5000)), outside)
	r.want("server", r.toClient(serverData(5000, 1100)), inside)
}

// TestNoEntryDrawsReset: without an entry the server's packet reaches the
// router's own address, which answers RST (tcp_loose makes an entry of it, so
// that it is NEW and goes to INPUT).
func TestNoEntryDrawsReset(t *testing.T) {
	r := newRouter(t)
	got := r.pass(r.wan, r.wan, serverData(5000, 1000))
	if got == nil || got.Flags&rst == 0 || got.Src != fromServer.Dst || got.Dst != fromServer.Src || got.SrcPort != fromServer.DstPort {
		t.Fatalf("answer of the router: %+v, want its RST", got)
	}
}

// TestRestoredDatagrams: UDP and ICMP in both directions, and the server first.
func TestRestoredDatagrams(t *testing.T) {
	r := newRouter(t)
	f := flow(IPv4, unix.IPPROTO_UDP, fromClient, snat4)
	mustApply(t, r.table, Op{Flow: f})
	r.want("server", r.toClient(udp(fromServer)), inside)
	r.want("client", r.toServer(udp(fromClient)), outside)

	request, answer := echo("10.0.0.7", "198.51.100.9", 77, 8), echo("198.51.100.9", "203.0.113.1", 4711, 0)
	f = flow(IPv4, unix.IPPROTO_ICMP, request, answer)
	mustApply(t, r.table, Op{Flow: f})
	r.want("answer", r.toClient(ping(answer)), tuple("198.51.100.9", "10.0.0.7", 77, 77))
	r.want("ping", r.toServer(ping(request)), tuple("203.0.113.1", "198.51.100.9", 4711, 4711))
	r.wantInvalid("all", 0)
	if n, _, _ := r.table.Count(); n != 2 {
		t.Errorf("%d flows, want 2", n)
	}
}

// TestGRE: the first packet ends an entry whose timeout is not fixed; Apply
// fixes it.
func TestGRE(t *testing.T) {
	r := newRouter(t)
	orig, reply := tuple("10.0.0.7", "198.51.100.9", 0, 0), tuple("198.51.100.9", "203.0.113.1", 0, 0)
	f := flow(IPv4, unix.IPPROTO_GRE, orig, reply)
	packet := []byte{0, 0, 8, 0, 't', 'e', 's', 't'} // version 0, no key
	mustApply(t, r.table, Op{Flow: f})
	for range 3 {
		r.want("client", r.toServer(ip(orig, unix.IPPROTO_GRE, packet)), tuple("203.0.113.1", "198.51.100.9", 0, 0))
		r.want("server", r.toClient(ip(reply, unix.IPPROTO_GRE, packet)), tuple("198.51.100.9", "10.0.0.7", 0, 0))
	}
	if got := onlyFlow(t, r.table); got.Key() != f.Key() || got.Status&FixedTimeout == 0 || got.Timeout > 100 || got.Timeout+passed < 100 {
		t.Errorf("after packets: %+v", got)
	}

	mustApply(t, r.table, Op{Kind: OpDelete, Flow: f})
	nat := appendNAT(nil, ctaNATSrc, IPv4, &reply.Dst, true, 0)
	wantErr(t, "create", request(t, r.table, isCreate, tuples(&f, f.plainInverse()), status(replied), timeout(100), nat), nil)
	r.toClient(ip(reply, unix.IPPROTO_GRE, packet))
	if flows := dump(t, r.table); len(flows) != 0 {
		t.Errorf("without a fixed timeout: %+v", flows)
	}
}

// TestSCTPTags: without the verification tags data are INVALID.
func TestSCTPTags(t *testing.T) {
	r := newRouter(t)
	f := flow(IPv4, unix.IPPROTO_SCTP, fromClient, snat4)
	f.Status, f.SCTP = established, SCTP{State: 4, VTag: [2]uint32{0x11111111, 0x22222222}} // ESTABLISHED
	mustApply(t, r.table, Op{Flow: f})
	r.want("server", r.toClient(sctpData(fromServer, 0x22222222)), inside)
	r.want("client", r.toServer(sctpData(fromClient, 0x11111111)), outside)
	r.wantInvalid("with tags", 0)
	f.SCTP.VTag = [2]uint32{}
	mustApply(t, r.table, Op{Kind: OpReplace, Flow: f})
	if got := r.toClient(sctpData(fromServer, 0x22222222)); got != nil {
		t.Errorf("without tags: %+v came out", *got)
	}
	r.wantInvalid("without tags", 1)
}

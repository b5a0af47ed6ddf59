// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// These tests hold the lines of docs/ctnetlink.md about what the kernel takes
// and refuses, by messages that the encoder would never make. A kernel that
// changes its mind fails here first.

const (
	isCreate = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	isUpdate = 0
)

// request sends one NEW with these attributes and gives the kernel's refusal.
func request(t testing.TB, table *Table, flags uint16, parts ...[]byte) error {
	t.Helper()
	seq := table.ops.nextSeq(1)
	b := appendHeader(table.buf[:0], msgNew, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags, seq, IPv4)
	for _, p := range parts {
		b = append(b, p...)
	}
	table.buf = endMessage(b, 0)
	_, err := table.ask(seq)
	return err
}

// tuples are the two of a flow, the reply as given.
func tuples(f *Flow, reply Tuple) []byte {
	b := appendTuple(nil, ctaTupleOrig, &f.Orig, f.Family, f.Proto, false, 0)
	return appendTuple(b, ctaTupleReply, &reply, f.Family, f.Proto, false, 0)
}

func status(s Status) []byte                     { return append32(nil, ctaStatus, uint32(s)) }
func timeout(s uint32) []byte                    { return append32(nil, ctaTimeout, s) }
func protoinfo(f Flow, change func(*TCP)) []byte { change(&f.TCP); return appendProtoinfo(nil, &f) }

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestFlagsOfNew(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	all := append(append(append(tuples(&f, plain4), status(established)...), timeout(100)...), protoinfo(f, func(*TCP) {})...)
	wantErr(t, "neither flag, no entry", request(t, table, 0, all), unix.ENOENT)
	wantErr(t, "CREATE", request(t, table, unix.NLM_F_CREATE, all), nil)
	wantErr(t, "CREATE|EXCL, entry there", request(t, table, isCreate, all), unix.EEXIST)
	wantErr(t, "CREATE, entry there", request(t, table, unix.NLM_F_CREATE, tuples(&f, plain4), timeout(200)), nil)
	if got := onlyFlow(t, table); got.Timeout+passed < 200 {
		t.Errorf("CREATE did not update: %+v", got)
	}
	wantErr(t, "neither flag, entry there", request(t, table, 0, tuples(&f, plain4), timeout(300)), nil)
	if got := onlyFlow(t, table); got.Timeout+passed < 300 {
		t.Errorf("update did not update: %+v", got)
	}
}

func TestNATIsNotTakenFromReply(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(snat4)
	wantErr(t, "translated reply", request(t, table, isCreate, tuples(&f, snat4), status(established), timeout(100)), nil)
	if got := onlyFlow(t, table); got.Reply != snat4 || got.Status&(SrcNAT|DstNAT) != 0 {
		t.Errorf("translated reply without CTA_NAT_SRC gave %+v", got)
	}
}

func TestNATPort(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(snat4)
	mustApply(t, table, Op{Flow: f})
	other := f
	other.Orig.Src = addr("10.0.0.8")
	wantErr(t, "exact port of another flow", refuse(t, table, OpCreate, other), unix.EEXIST)
	nat := appendNAT(nil, ctaNATSrc, IPv4, &f.Reply.Dst, false, 0)
	other.Orig.SrcPort = f.Reply.DstPort
	wantErr(t, "address without port", request(t, table, isCreate, tuples(&other, other.plainInverse()), status(established), timeout(100), nat), nil)
	var got Flow
	key := other.Key()
	if ok, err := table.Get(&key, &got); !ok || err != nil || got.Reply.Dst != f.Reply.Dst || got.Reply.DstPort == f.Reply.DstPort {
		t.Errorf("address without port gave %+v (%v, %v)", got, ok, err)
	}
}

func TestNATOnUpdate(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	mustApply(t, table, Op{Flow: f})
	nat := appendNAT(nil, ctaNATSrc, IPv4, &snat4.Dst, true, 51000)
	wantErr(t, "CTA_NAT_SRC", request(t, table, isUpdate, tuples(&f, plain4), nat), unix.EOPNOTSUPP)
	master := appendTuple(nil, 14, &f.Orig, f.Family, f.Proto, false, 0) // CTA_TUPLE_MASTER
	wantErr(t, "master", request(t, table, isUpdate, tuples(&f, plain4), master), unix.EOPNOTSUPP)
	g := f
	g.Orig.SrcPort = 1
	wantErr(t, "NAT bits in status", request(t, table, isCreate, tuples(&g, g.plainInverse()), status(established|SrcNAT|DstNAT), timeout(100)), nil)
	var got Flow
	key := g.Key()
	if ok, err := table.Get(&key, &got); !ok || err != nil || got.Status&(SrcNAT|DstNAT) != 0 {
		t.Errorf("NAT bits in the status of a create were taken: %+v (%v, %v)", got, ok, err)
	}
}

func TestMasterMustExist(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	m := tuple("10.0.0.1", "10.0.0.2", 1, 21)
	master := appendTuple(nil, 14, &m, f.Family, f.Proto, false, 0) // CTA_TUPLE_MASTER
	wantErr(t, "unknown master", request(t, table, isCreate, tuples(&f, plain4), status(established), timeout(100), master), unix.ENOENT)
}

func TestStatusOnCreate(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	for _, c := range []struct {
		status Status
		want   error
	}{
		{0, unix.EBUSY}, {SeenReply | Assured, unix.EBUSY}, {Confirmed | Expected, unix.EBUSY}, {Confirmed | Dying, unix.EBUSY},
		{Confirmed | SeenReply | Assured | FixedTimeout, nil},
	} {
		wantErr(t, fmt.Sprintf("status %#x", c.status), request(t, table, isCreate, tuples(&f, plain4), status(c.status), timeout(100)), c.want)
	}
	if got := onlyFlow(t, table); got.Status&(established|FixedTimeout) != established|FixedTimeout {
		t.Errorf("status %#x", got.Status)
	}
}

func TestStatusIsNotCleared(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	f.Status |= FixedTimeout
	mustApply(t, table, Op{Flow: f})
	wantErr(t, "without ASSURED", request(t, table, isUpdate, tuples(&f, plain4), status(replied)), unix.EBUSY)
	wantErr(t, "without SEEN_REPLY", request(t, table, isUpdate, tuples(&f, plain4), status(Confirmed|Assured)), unix.EBUSY)
	wantErr(t, "without FIXED_TIMEOUT", request(t, table, isUpdate, tuples(&f, plain4), status(established)), nil)
	if got := onlyFlow(t, table); got.Status&FixedTimeout == 0 {
		t.Errorf("FIXED_TIMEOUT was cleared: %#x", got.Status)
	}
	f.Status = unreplied
	mustApply(t, table, Op{Kind: OpReplace, Flow: f}) // what heals it
	compareFlow(t, "replaced", asShown(f), onlyFlow(t, table))
}

func TestTimeoutOnCreate(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	wantErr(t, "no timeout", request(t, table, isCreate, tuples(&f, plain4), status(established)), unix.EINVAL)
	f.Status |= FixedTimeout
	mustApply(t, table, Op{Flow: f})
	wantErr(t, "timeout of a fixed one", request(t, table, isUpdate, tuples(&f, plain4), timeout(7)), unix.EPERM)
}

func TestTCPStateRange(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	for state := TCPNone; state <= TCPSynSent2+1; state++ {
		f := tcp4(snat4)
		f.TCP.State = state
		if state > TCPSynSent2 {
			wantErr(t, "state 10", refuse(t, table, OpReplace, f), unix.ERANGE)
			break
		}
		mustApply(t, table, Op{Kind: OpReplace, Flow: f})
		compareFlow(t, fmt.Sprintf("state %d", state), asShown(f), onlyFlow(t, table))
	}
}

func TestTCPFlagsNeedMask(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	b := appendNest(nil, ctaProtoinfo)
	b = appendNest(b, ctaProtoinfoTCP)
	b = append8(b, ctaTCPState, uint8(TCPEstablished))
	b = append(appendAttr(b, ctaTCPFlagsOrig, 2), 3, 0, 0, 0) // as a dump shows it
	b = append(appendAttr(b, ctaTCPFlagsReply, 2), 3, 0, 0, 0)
	endNest(b, 4)
	endNest(b, 0)
	wantErr(t, "flags with mask 0", request(t, table, isCreate, tuples(&f, plain4), status(established), timeout(100), b), nil)
	if got := onlyFlow(t, table); got.TCP.Flags != [2]uint8{} || got.TCP.State != TCPEstablished {
		t.Errorf("%+v", got.TCP)
	}
}

func TestTCPScaleNeedsBothFlags(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	for _, c := range []struct{ flags, want [2]uint8 }{
		{[2]uint8{3, 3}, [2]uint8{7, 9}}, {[2]uint8{3, 2}, [2]uint8{}}, {[2]uint8{2, 3}, [2]uint8{}}, {[2]uint8{}, [2]uint8{}},
	} {
		f := tcp4(snat4)
		f.TCP.Flags = c.flags
		mustApply(t, table, Op{Kind: OpReplace, Flow: f})
		if got := onlyFlow(t, table); got.TCP.Scale != c.want {
			t.Errorf("flags %v: scale %v, want %v", c.flags, got.TCP.Scale, c.want)
		}
	}
	f := tcp4(snat4)
	f.TCP.Scale[0] = 15
	wantErr(t, "scale 15", refuse(t, table, OpReplace, f), unix.ERANGE)
	f.TCP.Scale[0] = 14
	wantErr(t, "scale 14", refuse(t, table, OpReplace, f), nil)
}

// TestTCPFlagsNeverRestored: whatever a flow carries, these do not reach the
// kernel (TestMaxAckDropsReset shows why).
func TestTCPFlagsNeverRestored(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(snat4)
	f.TCP.Flags = [2]uint8{0xff, 0xff}
	mustApply(t, table, Op{Flow: f})
	if got := onlyFlow(t, table); got.TCP.Flags != [2]uint8{0x0f, 0x0f} {
		t.Errorf("flags %#x", got.TCP.Flags)
	}
}

func TestZoneTwice(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	orig := appendTuple(nil, ctaTupleOrig, &f.Orig, IPv4, f.Proto, true, 7)
	reply := appendTuple(nil, ctaTupleReply, &f.Reply, IPv4, f.Proto, false, 0)
	zone := append16(nil, ctaZone, 7)
	wantErr(t, "CTA_ZONE and CTA_TUPLE_ZONE", request(t, table, isCreate, orig, reply, zone, status(established), timeout(100)), unix.EINVAL)
}

func TestSCTPNeedsAll(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	f.Proto = unix.IPPROTO_SCTP
	b := appendNest(nil, ctaProtoinfo)
	b = appendNest(b, ctaProtoinfoSCTP)
	b = append8(b, ctaSCTPState, 4)
	endNest(b, 4)
	endNest(b, 0)
	wantErr(t, "state without vtags", request(t, table, isCreate, tuples(&f, plain4), status(established), timeout(100), b), unix.EINVAL)
	wantErr(t, "neither", refuse(t, table, OpCreate, f), nil)
}

func TestLabelsNeedRuleset(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	labels := appendBytes(nil, 22, append(make([]byte, 15), 1)) // CTA_LABELS
	wantErr(t, "labels on create", request(t, table, isCreate, tuples(&f, plain4), status(established), timeout(100), labels), nil)
	wantErr(t, "labels on update", request(t, table, isUpdate, tuples(&f, plain4), labels), unix.ENOSPC)
}

func TestUnknownHelper(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	b := appendNest(nil, 5) // CTA_HELP
	b = appendBytes(b, 1, []byte("tandem\x00\x00"))
	wantErr(t, "unknown helper", request(t, table, isCreate, tuples(&f, plain4), status(established), timeout(100), endNest(b, 0)), unix.EOPNOTSUPP)
}

// TestCountersAreIgnored: they are accepted and not restored.
func TestCountersAreIgnored(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	f := tcp4(plain4)
	b := appendNest(nil, 9) // CTA_COUNTERS_ORIG
	b = appendBytes(b, 1, []byte{0, 0, 0, 0, 0, 0, 0, 9})
	wantErr(t, "counters", request(t, table, isCreate, tuples(&f, plain4), status(established), timeout(100), endNest(b, 0)), nil)
}

// TestMaximumBoundsCommit fills a table to nf_conntrack_max, which counts per
// namespace; ASSURED entries are not evicted, so the rest is ENOMEM.
func TestMaximumBoundsCommit(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	_, limit, err := table.Count()
	if err != nil {
		t.Fatal(err)
	}
	const step = 50_000
	refused := 0
	for at := 0; at < int(limit)+1000; at += step {
		ops := numberedFrom(at, min(step, int(limit)+1000-at))
		if err := table.Apply(ops); err != nil {
			t.Fatal(err)
		}
		for i := range ops {
			switch {
			case ops[i].Err == unix.ENOMEM && at+i >= int(limit)-1:
				refused++
			case ops[i].Err != nil:
				t.Fatalf("op %d of %d: %v", at+i, limit, ops[i].Err)
			}
		}
	}
	if n, _, _ := table.Count(); refused < 990 || n > limit+10 || n < limit-10 {
		t.Errorf("%d flows of %d, %d refused", n, limit, refused)
	}
	flush(t, table)
}

// TestNewAndUpdateEvents: both are msgNew; CREATE|EXCL tells the first.
func TestNewAndUpdateEvents(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for _, group := range []int{unix.NFNLGRP_CONNTRACK_NEW, unix.NFNLGRP_CONNTRACK_UPDATE} {
		if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			t.Fatal(err)
		}
	}
	f := tcp4(snat4)
	mustApply(t, table, Op{Flow: f})
	wantErr(t, "update", request(t, table, isUpdate, tuples(&f, f.plainInverse()), append32(nil, ctaMark, 9)), nil)
	for _, want := range []uint16{unix.NLM_F_CREATE | unix.NLM_F_EXCL, 0} {
		m, err := c.receive()
		if err != nil || m.Type != msgNew || m.Flags&(unix.NLM_F_CREATE|unix.NLM_F_EXCL) != want || m.PortID != table.PortID() {
			t.Errorf("event %+v, %v; want flags %#x", m, err, want)
		}
	}
}

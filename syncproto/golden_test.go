// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	switches "flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = switches.Bool("update", false, "write testdata/wire/v1 anew")

const golden = "../testdata/wire/v1"

// goldenDatagram is a file of testdata/wire/v1: bytes, and what they say.
type goldenDatagram struct {
	Hex     string
	Type    byte
	Seq     uint64
	Records []map[string]any
}

// TestGolden decodes every datagram that version 1 ever wrote, and checks that
// what is written today is among them.
func TestGolden(t *testing.T) {
	made := datagrams()
	if *update {
		for name, b := range made {
			writeGolden(t, name, b)
		}
	}
	files, err := filepath.Glob(golden + "/*.json")
	if err != nil || len(files) < len(made) {
		t.Fatalf("%d golden files, want at least %d (%v)", len(files), len(made), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var want, got goldenDatagram
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(name, err)
		}
		b, err := hex.DecodeString(want.Hex)
		if err != nil {
			t.Fatal(name, err)
		}
		if err := json.Unmarshal(describe(t, name, b), &got); err != nil {
			t.Fatal(name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-golden +now):\n%s", name, diff)
		}
		if now, ok := made[name]; ok && !bytes.Equal(now, b) {
			t.Errorf("%s is written otherwise now:\n%x, golden\n%x", name, now, b)
		}
	}
}

func writeGolden(t *testing.T, name string, b []byte) {
	t.Helper()
	var indented bytes.Buffer
	if err := json.Indent(&indented, describe(t, name, b), "", "  "); err != nil {
		t.Fatal(err)
	}
	indented.WriteByte('\n')
	if err := os.WriteFile(filepath.Join(golden, name+".json"), indented.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// datagrams are one of each kind, and one per flow record.
func datagrams() map[string][]byte {
	a, b := Session{1, 2, 3, 15: 16}, Session{0xf1, 0xf2, 15: 0xff}
	data := func(records ...byte) []byte {
		d := appendHeader(nil, &header{kind: typeData, seq: 70000, sender: a, receiver: b})
		return closeDatagram(append(d, records...))
	}
	out := map[string][]byte{}
	for _, w := range wireFlows() {
		var before []byte // so that the delta is the one of the table
		if w.prev != 0 {
			before = appendDelete(nil, w.prev, 0, true)
		}
		out[w.name] = data(append(before, w.encode()...)...)
	}
	h := hello{minVersion: 1, maxVersion: 2, flags: helloPaired, features: 5, bootID: [16]byte{9, 15: 9}, netns: 4026531840, name: "r1"}
	for name, hd := range map[string]header{
		"call": {kind: typeCall}, "hello-cold": {kind: typeHello, seq: 1, sender: a}, "hello-pair": {kind: typeHello, seq: 2, sender: a, receiver: b},
	} {
		out[name] = closeDatagram(appendHello(appendHeader(nil, &hd), &h))
	}
	var in received
	for _, seq := range []uint64{1, 2, 3, 5, 9, 10, 300, 301, 303, 304} {
		in.mark(seq)
	}
	out["ack-with-gaps"] = data(in.appendAck(nil)...)
	out["heartbeat"] = data(appendState(appendControl(nil, recAck, []byte{4, 4}), 3, 2, []byte("blob"))...)
	out["heartbeat-paths"] = data(appendPath(appendState(appendControl(nil, recAck, []byte{4, 4}), 3, 2, []byte("blob")),
		&pathRecord{number: 2, heard: 0x8001, payload: 8960})...)
	out["complete-release"] = data(appendNumber(appendNumber(nil, recRelease, 69999), recComplete, 1000000)...)
	out["unknown-record"] = data(appendNumber(appendControl(nil, 63, []byte("from the future")), recComplete, 0)...)
	n := testNode("golden", 1) // two flows in slots 0 and 2, one in 1
	n.SetActive(true)
	n.Tell(tcpFlow(7), 1e12)
	n.Seed(tcpFlow(8), 1e12)
	n.Tell(udpFlow6(7), 1e12)
	digest := func(round uint32, s slotRange) []byte {
		d := digestRecord{round: round, slotRange: s}
		d.sum, d.flows = n.own.digest(s, digestKey(a))
		return appendDigest(nil, &d)
	}
	out["digest"] = data(append(digest(0, slotRange{0, 256}), digest(77, slotRange{1, 3})...)...)
	out["resync-all"] = data(appendResync(nil, resyncAll, nil)...)
	out["resync-ranges"] = data(append(appendResync(nil, resyncRanges, []slotRange{{512, 256}, {1<<27 - 17, 1}}),
		appendResync(nil, resyncDigests, []slotRange{{3, 200}})...)...)
	out["verdict"] = data(append(appendVerdict(nil, &verdictRecord{77, 1, verdictDiffers, 2}),
		appendVerdict(nil, &verdictRecord{1<<32 - 1, 512, verdictRefused, 256})...)...)
	return out
}

// describe says what a datagram says.
func describe(t *testing.T, name string, b []byte) []byte {
	t.Helper()
	var h header
	body, err := parseDatagram(b, &h)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	d := goldenDatagram{Hex: hex.EncodeToString(b), Type: h.kind, Seq: h.seq}
	for prev := uint32(0); len(body) > 0; {
		if body[0]&classMask != classControl {
			var rec flowRecord
			if body, err = parseFlow(body, prev, &rec); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			prev = rec.slot
			d.Records = append(d.Records, describeFlow(&rec))
			continue
		}
		typ, inner, rest, ok := parseControl(body)
		if !ok || h.kind == typeData && !validControl(typ, inner) {
			t.Fatalf("%s: malformed control record", name)
		}
		d.Records = append(d.Records, describeControl(typ, inner))
		body = rest
	}
	out, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func describeFlow(rec *flowRecord) map[string]any {
	m := map[string]any{"class": rec.class, "slot": rec.slot, "owner": rec.owner, "heat": rec.heat}
	switch rec.class {
	case classFull:
		m["flow"] = rec.flow
	case classShort:
		over := *tcpFlow(0)
		rec.resolve(&over)
		m["over tcp"] = over
		udp := *udpFlow6(0)
		rec.resolve(&udp)
		m["over udp"] = udp
	}
	return m
}

func describeControl(typ byte, b []byte) map[string]any {
	m := map[string]any{"type": typ}
	r := reader{b: b}
	switch typ {
	case recHello:
		var h hello
		parseHello(b, &h)
		m["min"], m["max"], m["flags"], m["features"] = h.minVersion, h.maxVersion, h.flags, h.features
		m["boot"], m["netns"], m["name"] = hex.EncodeToString(h.bootID[:]), h.netns, h.name
	case recAck:
		var a ack
		parseAck(b, &a)
		var has []uint64
		for s := a.highest; s > a.highest-min(a.highest, 400); s-- {
			if a.has(s) {
				has = append(has, s)
			}
		}
		m["has"] = has
	case recState:
		v, e, blob, _ := parseState(b)
		m["version"], m["echo"], m["blob"] = v, e, string(blob)
	case recPath:
		var p pathRecord
		parsePath(b, &p)
		m["path"], m["heard"], m["payload"] = p.number, p.heard, p.payload
	case recComplete, recRelease:
		m["number"] = r.uvarint()
	case recDigest:
		var d digestRecord
		parseDigest(b, &d)
		m["round"], m["first"], m["count"], m["flows"], m["sum"] = d.round, d.first, d.count, d.flows, fmt.Sprintf("%016x", d.sum)
	case recResync:
		var ranges [][2]int
		m["what"], _ = parseResync(b, func(s slotRange) { ranges = append(ranges, [2]int{int(s.first), s.count}) })
		m["ranges"] = ranges
	case recVerdict:
		var v verdictRecord
		parseVerdict(b, &v)
		m["round"], m["first"], m["verdict"], m["flows"] = v.round, v.first, v.verdict, v.flows
	}
	return m
}

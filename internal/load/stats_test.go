// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"testing"
	"time"
)

func TestGaps(t *testing.T) {
	if g := gapsOf(nil); g != (Gaps{}) {
		t.Errorf("of nothing: %v", g)
	}
	var d []time.Duration
	for i := 199; i >= 0; i-- {
		d = append(d, time.Duration(i))
	}
	if g := gapsOf(d); g != (Gaps{N: 200, Some: 199, P50: 99, P99: 197, Max: 199}) {
		t.Errorf("%+v", g)
	}
}

func TestSilence(t *testing.T) {
	var a arrivals
	const s = int64(time.Second)
	for _, at := range []int64{9 * s, 1 * s, 10 * s, 12 * s, 12*s + 1} {
		a.add(at)
	}
	a.reset(10 * s) // 9 s stays: it may be the last before the silence
	if got := a.silence(); got != (Silence{From: 10 * s, To: 12 * s}) {
		t.Errorf("%+v", got)
	}
}

// A gap is the time from the sending of the first packet that was lost until
// one arrives.
func TestFlowGap(t *testing.T) {
	f := &flow{}
	for n := range uint64(8) {
		f.sent[n] = int64(1000 + 100*n)
	}
	f.reset(1000)
	for _, n := range []uint64{0, 1, 2} {
		f.arrived(n, f.sent[n]+5)
	}
	if _, worst, _ := f.read(); worst != 0 {
		t.Errorf("nothing was lost, gap %d", worst)
	}
	f.arrived(6, f.sent[6]+5) // 3, 4, 5 are lost
	if _, worst, _ := f.read(); worst != 305 {
		t.Errorf("gap %d, want 305", worst)
	}
	f.arrived(7, f.sent[7]+5)
	if last, worst, _ := f.read(); worst != 305 || last != 1705 {
		t.Errorf("last %d, gap %d", last, worst)
	}
}

func TestPayload(t *testing.T) {
	a, b := make([]byte, 64), make([]byte, 64)
	fill(a, stream(kindBulk, 1, toServer), 640)
	if err := verifyFast(a, stream(kindBulk, 1, toServer), 640); err != nil {
		t.Error(err)
	}
	if err := verifyFast(a[3:40], stream(kindBulk, 1, toServer), 643); err != nil {
		t.Errorf("in the middle of words: %v", err)
	}
	for _, s := range []uint64{stream(kindBulk, 1, toClient), stream(kindBulk, 2, toServer), stream(kindSteady, 1, toServer)} {
		fill(b, s, 640)
		if bytes.Equal(a, b) {
			t.Errorf("stream %x has the same bytes", s)
		}
	}
	for i := range a {
		a[i] ^= 0x20
		if verifyFast(a, stream(kindBulk, 1, toServer), 640) == nil {
			t.Errorf("byte %d is wrong and passed", i)
		}
		a[i] ^= 0x20
	}
}

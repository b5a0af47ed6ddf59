// SPDX-License-Identifier: Apache-2.0

package link

import (
	"testing"
)

// TestSip: the example of the paper (appendix A).
func TestSip(t *testing.T) {
	k := stampKey{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	if got := k.sipHash([]uint64{0x0706050403020100}, 0x0f0e0d0c0b0a0908); got != 0xa129ca6149be45e5 {
		t.Errorf("SipHash-2-4 = %#x, want 0xa129ca6149be45e5", got)
	}
}

// TestStamp: every bit of the header counts but its own, keys differ, and a
// datagram without the right one is refused before its seal is tried.
func TestStamp(t *testing.T) {
	one, err := newStampKey(new(secret(1)))
	if err != nil {
		t.Fatal(err)
	}
	two, _ := newStampKey(new(secret(2)))
	b := plain(2, 1, 10)
	same, other := 0, 0
	for bit := range 8 * lenHeader {
		was := one.of(b)
		b[bit/8] ^= 1 << (bit % 8)
		if one.of(b) == was {
			same++
			if bit/8 == offStamp {
				same--
			}
		}
		if one.of(b) == two.of(b) {
			other++
		}
	}
	if same > 10 || other > 10 { // 1.5 are to be expected
		t.Errorf("%d bits of the header do not count; two keys agree %d times", same, other)
	}
	a, o := sealerOf(t, secret(1)), sealerOf(t, secret(1))
	sealed := mustSeal(t, a, plain(2, 1, 10))
	sealed[offStamp] ^= 1
	tried := o.opens.next
	if _, err := o.open(sealed); err != errForged || o.opens.next != tried {
		t.Errorf("another stamp: %v", err)
	}
	sealed[offStamp] ^= 1
	if _, err := o.open(sealed); err != nil {
		t.Errorf("its own stamp: %v", err)
	}
}

func BenchmarkStamp(b *testing.B) {
	k, err := newStampKey(new(secret(1)))
	if err != nil {
		b.Fatal(err)
	}
	h := plain(2, 1, 10)
	for b.Loop() {
		h[offStamp] = k.of(h)
	}
}

// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func secret(n byte) (s Secret) {
	for i := range s {
		s[i] = n + byte(i)
	}
	return s
}

// plain is a datagram as syncproto makes them.
func plain(kind byte, seq uint64, records int) []byte {
	b := make([]byte, lenHeader, 2000)
	copy(b, []byte{0x74, 0x44, 1, kind, sealNone, 0, lenChecksum, 0})
	for i := range 8 {
		b[offSequence+i] = byte(seq >> (56 - 8*i))
	}
	for i := range lenSessions {
		b[offSender+i] = byte(i + 1)
	}
	b = append(b, bytes.Repeat([]byte{0xab}, records)...)
	sum := crc32.Checksum(b, castagnoli)
	return append(b, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
}

func sealerOf(t testing.TB, secrets ...Secret) *sealer {
	t.Helper()
	s, err := newSealer(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustSeal(t testing.TB, s *sealer, b []byte) []byte {
	t.Helper()
	sealed, err := s.seal(b)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealSymmetry(t *testing.T) {
	a, b := sealerOf(t, secret(1)), sealerOf(t, secret(1))
	for _, size := range []int{0, 1, 100, 1400} {
		want := plain(2, 7, size)
		sealed := mustSeal(t, a, append(make([]byte, 0, 2000), want...))
		if size > 8 && bytes.Contains(sealed, []byte{0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab}) {
			t.Errorf("%d bytes of records stand in the clear", size)
		}
		if len(sealed) != len(want)+sealRoom {
			t.Errorf("%d bytes became %d, want %d more", len(want), len(sealed), sealRoom)
		}
		got, err := b.open(sealed)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("open(seal(%d bytes)) = %v, equal %v", size, err, bytes.Equal(got, want))
		}
	}
}

// TestSealBroken flips each bit of a datagram: none may open.
func TestSealBroken(t *testing.T) {
	a, b := sealerOf(t, secret(1)), sealerOf(t, secret(1))
	whole := mustSeal(t, a, plain(2, 7, 40))
	for i := range len(whole) * 8 {
		bad := bytes.Clone(whole)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := b.open(bad); err == nil {
			t.Errorf("opened with bit %d of byte %d flipped", i%8, i/8)
		}
	}
	for n := range whole {
		if _, err := b.open(bytes.Clone(whole[:n])); err == nil {
			t.Errorf("opened the first %d bytes", n)
		}
	}
	if _, err := b.open(bytes.Clone(whole)); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}

func TestSealKeys(t *testing.T) {
	old, next, other := secret(1), secret(50), secret(99)
	for _, tc := range []struct {
		name       string
		seal, open []Secret
		want       error
	}{
		{"the same", []Secret{old}, []Secret{old}, nil},
		{"another", []Secret{old}, []Secret{other}, errUnknown},
		{"rotation: the peer knows the next one", []Secret{old}, []Secret{old, next}, nil},
		{"rotation: we seal with it", []Secret{next, old}, []Secret{old, next}, nil},
		{"rotation: the old one is gone here", []Secret{old, next}, []Secret{next}, errUnknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sealed := mustSeal(t, sealerOf(t, tc.seal...), plain(2, 1, 10))
			if _, err := sealerOf(t, tc.open...).open(sealed); !errors.Is(err, tc.want) {
				t.Fatalf("open: %v, want %v", err, tc.want)
			}
		})
	}
	if _, err := sealerOf(t, old).open(plain(2, 1, 10)); !errors.Is(err, errUnsealed) {
		t.Errorf("a datagram without a seal: %v, want %v", err, errUnsealed)
	}
}

// TestSealDirections: what a node sealed for its peer does not open with the
// sessions changed over, so nothing can be reflected; and no key serves two
// pairs of sessions.
func TestSealDirections(t *testing.T) {
	a, b := sealerOf(t, secret(1)), sealerOf(t, secret(1))
	sealed := mustSeal(t, a, plain(2, 1, 10))
	half := lenSessions / 2
	mine := bytes.Clone(sealed[offSender : offSender+half])
	copy(sealed[offSender:], sealed[offSender+half:offSender+lenSessions])
	copy(sealed[offSender+half:], mine)
	if _, err := b.open(sealed); !errors.Is(err, errForged) {
		t.Errorf("reflected: %v, want %v", err, errForged)
	}
}

// TestSealCalls: calls have no session, and each is sealed under a key of its
// own, or the same sequence would be used twice under one.
func TestSealCalls(t *testing.T) {
	a, b := sealerOf(t, secret(1)), sealerOf(t, secret(1))
	one, two := mustSeal(t, a, plain(kindCall, 0, 30)), mustSeal(t, a, plain(kindCall, 0, 30))
	if bytes.Equal(one[lenHeader:], two[lenHeader:]) {
		t.Error("two calls are sealed alike")
	}
	if _, err := b.open(one); err != nil {
		t.Errorf("open a call: %v", err)
	}
}

func TestSealAllocatesNothing(t *testing.T) {
	a, b := sealerOf(t, secret(1)), sealerOf(t, secret(1))
	buf := make([]byte, 0, 2000)
	want := plain(2, 7, 1000)
	n := testing.AllocsPerRun(200, func() {
		buf = append(buf[:0], want...)
		sealed, err := a.seal(buf)
		if err == nil {
			_, err = b.open(sealed)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%.1f allocations for one datagram", n)
	}
}

func TestKeyFile(t *testing.T) {
	k1, k2 := hex.EncodeToString(bytes.Repeat([]byte{1}, 32)), hex.EncodeToString(bytes.Repeat([]byte{2}, 32))
	for _, tc := range []struct {
		name, text string
		mode       os.FileMode
		want       string // "" for accepted
	}{
		{"others may read it", k1, 0o640, "chmod 600 it"},
		{"empty", "# nothing\n\n", 0o600, "no key in it"},
		{"short", k1[:62], 0o600, "line 1: must be a key of 64 hexadecimal digits"},
		{"not hexadecimal", "# the key\n" + strings.Repeat("z", 64), 0o600, "line 2: must be a key"},
		{"three", k1 + "\n" + k2 + "\n" + k1, 0o600, "3 keys: at most 2"},
		{"twice the same", k1 + "\n" + k1, 0o600, "look alike"},
		{"one", k1, 0o600, ""},
		{"two, with comments", "# new\n" + k2 + " # since today\n\n" + k1 + "\n", 0o600, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sync.key")
			if err := os.WriteFile(path, []byte(tc.text), tc.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadSecrets(path)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("LoadSecrets: %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := LoadSecrets(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
	line, err := NewSecret()
	if _, perr := parseSecrets(strings.NewReader(line)); err != nil || perr != nil {
		t.Errorf("NewSecret: %v, read back: %v", err, perr)
	}
}

// TestSealedLink: two nodes with the key replicate; one without it, or with
// another, moves a counter; a key is replaced while flows go on.
func TestSealedLink(t *testing.T) {
	a, b := newSides(t)
	key := func(n byte) string { return hex.EncodeToString(bytes.Repeat([]byte{n}, 32)) }
	write := func(s *side, keys ...string) {
		if s.keys == "" {
			s.keys = filepath.Join(t.TempDir(), "sync.key")
		}
		if err := os.WriteFile(s.keys+".new", []byte(strings.Join(keys, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.keys+".new", s.keys); err != nil {
			t.Fatal(err)
		}
	}
	write(a, key(1))
	b.start(a.addr) // no key
	a.start(b.addr)
	a.tell(0, 100)
	wait(t, patience, "unsealed datagrams counted", func() bool { return a.link.Stats().DroppedUnsealed > 3 })
	b.stop()
	write(b, key(2))
	b.start(a.addr)
	wait(t, patience, "foreign key counted", func() bool { return a.link.Stats().DroppedUnknownKey > 3 })
	if n, _ := b.view(); n != 0 || a.thePeer() != nil {
		t.Fatalf("%d flows came without the key", n)
	}
	write(b, key(1))
	all := func(n int) func() bool {
		return func() bool { got, complete := b.view(); return got == n && complete }
	}
	wait(t, patience, "all there with the key", all(100))

	flows := 100
	for i, step := range []struct {
		side *side
		keys []string
	}{{a, []string{key(1), key(3)}}, {b, []string{key(1), key(3)}}, {a, []string{key(3), key(1)}},
		{b, []string{key(3), key(1)}}, {a, []string{key(3)}}, {b, []string{key(3)}}} {
		before := step.side.link.secrets.Load()
		write(step.side, step.keys...)
		for range 2 { // while the keys change, and with them in force
			a.tell(flows, 100)
			flows += 100
			wait(t, patience, fmt.Sprintf("all there after step %d", i), all(flows))
			wait(t, patience, "keys in force", func() bool { return step.side.link.secrets.Load() != before })
		}
	}
	if _, s := a.peerNow(); s.Sessions != 1 {
		t.Errorf("%d sessions, want 1: the rotation interrupted", s.Sessions)
	}
	if forged := a.link.Stats().DroppedForged; forged != 0 {
		t.Errorf("%d datagrams did not open", forged)
	}
}

func BenchmarkSeal(b *testing.B) {
	a, o := sealerOf(b, secret(1)), sealerOf(b, secret(1))
	buf, want := make([]byte, 0, 2000), plain(2, 7, 1400)
	b.SetBytes(int64(len(want)))
	for b.Loop() {
		buf = append(buf[:0], want...)
		sealed, err := a.seal(buf)
		if err == nil {
			_, err = o.open(sealed)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

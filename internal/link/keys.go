// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// maxSecrets is how many keys a key file may hold: while one replaces another
// there are two.
const maxSecrets = 2

// NewSecret draws a key and gives it as a line of a key file.
func NewSecret() (string, error) {
	var s Secret
	if _, err := rand.Read(s[:]); err != nil {
		return "", fmt.Errorf("draw a key: %w", err)
	}
	return hex.EncodeToString(s[:]), nil
}

// LoadSecrets reads a key file: a key of 64 hexadecimal digits on each line, the
// first one seals, each one opens. Empty lines and # comments are skipped. A
// file that others than its owner may read is refused.
func LoadSecrets(path string) ([]Secret, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read key file %q: %w: tandem sync key new draws a key; put the same file on every node, mode 0600", path, os.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("read key file %q: others than its owner may use it (mode %04o): chmod 600 it", path, mode)
	}
	secrets, err := parseSecrets(f)
	if err != nil {
		return nil, fmt.Errorf("read key file %q: %w", path, err)
	}
	_, err = newSealer(secrets)
	return secrets, err
}

func parseSecrets(r io.Reader) (out []Secret, err error) {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(Secret{}) {
			return nil, fmt.Errorf("line %d: must be a key of 64 hexadecimal digits: tandem sync key new draws one", n)
		}
		out = append(out, Secret(b))
	}
	switch {
	case lines.Err() != nil:
		return nil, lines.Err()
	case len(out) == 0:
		return nil, errors.New("no key in it: tandem sync key new draws one")
	case len(out) > maxSecrets:
		return nil, fmt.Errorf("%d keys: at most %d, the one that seals and the one it replaces or that replaces it", len(out), maxSecrets)
	}
	return out, nil
}

// keyFile is a key file that is read again when it changes, so that a key is
// replaced without a gap: the new one second on both nodes, then first on both,
// then the old one away.
type keyFile struct {
	path    string
	changed time.Time
	size    int64
}

// reload gives new secrets if the file has changed since, nil if not. A file that
// cannot be used changes nothing.
func (k *keyFile) reload() ([]Secret, error) {
	info, err := os.Stat(k.path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if info.ModTime().Equal(k.changed) && info.Size() == k.size {
		return nil, nil
	}
	k.changed, k.size = info.ModTime(), info.Size()
	return LoadSecrets(k.path)
}

// loadKeys takes the key file's keys, at start and when it has changed.
func (l *Link) loadKeys() error {
	if l.keys.path == "" {
		return nil
	}
	secrets, err := l.keys.reload()
	if err == nil && secrets != nil {
		l.secrets.Store(&secrets)
	}
	return err
}

// sealer gives the sealer for the keys in force: the one at hand, or a new
// one; nil: datagrams are not sealed.
func (l *Link) sealer(at *sealer) *sealer {
	secrets := l.secrets.Load()
	if secrets == nil || at != nil && at.from == secrets {
		return at
	}
	s, err := newSealer(*secrets)
	if err != nil {
		panic("link: keys that were checked are refused: " + err.Error())
	}
	s.from = secrets
	return s
}

// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"bytes"
	"fmt"
	"os"
)

// KeepSecondaries sets promote_secondaries on an interface that carries a
// virtual address with a prefix of its own: an address that the operator adds
// to that subnet later is the virtual one's secondary, and without it would be
// deleted together with it, also by the end of a lifetime after kill -9. The
// returned function puts the former value back; a value left behind by a
// killed process does no harm (systemd sets it everywhere).
func KeepSecondaries(iface string) (restore func(), err error) {
	path := "/proc/sys/net/ipv4/conf/" + iface + "/promote_secondaries"
	old, err := os.ReadFile(path)
	if err != nil {
		return func() {}, fmt.Errorf("read promote_secondaries of %s: %w", iface, err)
	}
	if !bytes.Equal(bytes.TrimSpace(old), []byte("0")) {
		return func() {}, nil
	}
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
		return func() {}, fmt.Errorf("set promote_secondaries of %s: %w", iface, err)
	}
	return func() { os.WriteFile(path, old, 0o644) }, nil
}

// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// windows is nf_conntrack_tcp_be_liberal of this network namespace: with 1 a
// segment outside of its window is none the less of its connection.
type windows struct {
	log   *slog.Logger
	found []byte // what it was, nil while it is not ours
}

const beLiberal = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"

// lenient has segments passed whatever their window, or puts back what was.
func (w *windows) lenient(on bool) {
	err := error(nil)
	if on {
		if w.found, err = os.ReadFile(beLiberal); err == nil {
			err = os.WriteFile(beLiberal, []byte("1"), 0o644)
		}
	} else if w.found != nil {
		err = os.WriteFile(beLiberal, bytes.TrimSpace(w.found), 0o644)
		w.found = nil
	}
	if err != nil {
		w.log.Error("set whether TCP windows are judged", "on", !on, "error", err)
	}
}

// bootID names this boot of the kernel; zero when it cannot be read.
func bootID() (id [16]byte) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	hex := strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
	for i := 0; i < len(id) && 2*i+2 <= len(hex); i++ {
		fmt.Sscanf(hex[2*i:2*i+2], "%02x", &id[i])
	}
	return id
}

// netnsCookie names the network namespace within this boot.
func netnsCookie() uint64 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0
	}
	return c
}

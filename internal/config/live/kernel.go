// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"

	"github.com/tandem-ha/tandem/internal/control"
)

const btfPath = "/sys/kernel/btf/vmlinux"

func (a *asker) kernel() string {
	if _, err := os.Stat(btfPath); err != nil {
		a.fail(fmt.Sprintf("this kernel has no BTF (%s is missing), which the BPF programs are fitted by: "+
			"boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as Debian's, Ubuntu's and Fedora's have it", btfPath))
	}
	if err := features.HaveProgramType(ebpf.SchedCLS); err != nil {
		a.fail(fmt.Sprintf("this kernel refuses BPF programs (%v): boot one with CONFIG_BPF_SYSCALL=y, 6.1 or newer, "+
			"and outside of a container that forbids bpf(2)", plain(err)))
	}
	if n, err := readNumber("/proc/sys/net/ipv4/ip_forward"); err == nil && n == 0 {
		a.warn("this machine does not forward IPv4: set net.ipv4.ip_forward = 1, or no connection goes through it")
	}
	return "it loads BPF programs and has BTF"
}

// plain takes the wrapping off, which names functions of a library.
func plain(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// maxChain is the mean number of entries of a hash chain (each flow is in two)
// above which the longest chains near the 50 at which the kernel refuses an
// insert (nf_conntrack_core.c: MIN_CHAINLEN).
const maxChain = 16

func (a *asker) table() string {
	limit, err := readNumber("/proc/sys/net/netfilter/nf_conntrack_max")
	if err != nil {
		a.warn("connection tracking is not loaded, so there is nothing to replicate yet: a ruleset with NAT or `ct state` loads it, or modprobe nf_conntrack")
		return ""
	}
	count, _ := readNumber("/proc/sys/net/netfilter/nf_conntrack_count")
	buckets, _ := readNumber("/proc/sys/net/netfilter/nf_conntrack_buckets")
	view := 0
	if a.daemon != nil && a.daemon.Sync != nil {
		for _, p := range a.daemon.Sync.Peers {
			view += p.Uncommitted
		}
	}
	switch text, short := (control.KernelTable{Entries: uint32(count), Max: uint32(limit)}).Room(view); {
	case short:
		a.fail(text)
	case text != "":
		a.warn(text)
	case buckets > 0 && 2*limit/buckets > maxChain:
		a.warn(fmt.Sprintf("nf_conntrack_max = %d is too much for nf_conntrack_buckets = %d, a full table would refuse entries: "+
			"set it with sysctl -w net.netfilter.nf_conntrack_buckets=%d", limit, buckets, limit/2))
	}
	return fmt.Sprintf("%d of %d entries used", count, limit)
}

func readNumber(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tandem-ha/tandem/internal/netlab"
)

// kernelDrops are the kernel's counters of packets that it did not pass on, of each
// host of a lab: where a packet was lost that did not arrive.
type kernelDrops map[string]uint64

// dropColumns are read from files with a line of names and a line of values:
// of /proc/net/snmp by protocol, of /proc/net/stat by processor, in hex.
var dropColumns = map[string][]string{
	"snmp Ip:":          {"InDiscards", "InAddrErrors", "OutDiscards", "OutNoRoutes"},
	"snmp Udp:":         {"InErrors", "RcvbufErrors", "SndbufErrors", "NoPorts"},
	"stat/nf_conntrack": {"invalid", "insert_failed", "drop", "early_drop"},
}

func readDrops(t *testing.T, l *netlab.Lab) kernelDrops {
	t.Helper()
	d := kernelDrops{}
	hosts := map[string]*netlab.Namespace{"client": l.Client, "server": l.Server, "switch": l.Switch}
	for _, r := range l.Routers() {
		hosts[r.Name] = r.NS
	}
	for name, ns := range hosts {
		if err := ns.Run(func() error { return d.read(name) }); err != nil {
			t.Fatalf("read the counters of %s: %v", name, err)
		}
	}
	if err := d.machine(); err != nil {
		t.Fatal(err)
	}
	return d
}

// since says what was dropped after an earlier look. A router that was built
// anew meanwhile counts from 0.
func (d kernelDrops) since(before kernelDrops) string {
	var out []string
	for k, v := range d {
		if b := before[k]; b <= v {
			v -= b
		}
		if v > 0 {
			out = append(out, fmt.Sprintf("%s %d", k, v))
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

func (d kernelDrops) read(host string) error {
	for file, names := range dropColumns {
		if err := d.columns(host, file, names); err != nil {
			return err
		}
	}
	return d.interfaces(host)
}

func (d kernelDrops) columns(host, file string, names []string) error {
	file, line, snmp := strings.Cut(file, " ")
	base := 16
	if snmp {
		base = 10
	}
	b, err := os.ReadFile("/proc/thread-self/net/" + file)
	if err != nil {
		return err
	}
	var head []string
	for text := range strings.Lines(string(b)) {
		fields := strings.Fields(text)
		switch {
		case snmp && fields[0] != line:
		case head == nil:
			head = fields
		default:
			d.pick(host+" "+file, head, fields, names, base)
		}
	}
	return nil
}

func (d kernelDrops) pick(where string, head, fields, names []string, base int) {
	for i, name := range head {
		if slices.Contains(names, name) {
			n, _ := strconv.ParseUint(fields[i], base, 64)
			d[where+" "+name] += n
		}
	}
}

// interfaces reads what interfaces dropped, in either direction.
func (d kernelDrops) interfaces(host string) error {
	b, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		return err
	}
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		name, rest, ok := strings.Cut(sc.Text(), ":")
		if f := strings.Fields(rest); ok && len(f) == 16 {
			d.pick(host+" "+strings.TrimSpace(name), []string{"in", "out"}, []string{f[3], f[11]}, []string{"in", "out"}, 10)
		}
	}
	return nil
}

// machine reads what all hosts share: the queues between a wire's two ends, and
// those of packets that wait for a neighbour's address.
func (d kernelDrops) machine() error {
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return err
	}
	for text := range strings.Lines(string(b)) {
		d.pick("machine backlog", []string{"", "full"}, strings.Fields(text)[:2], []string{"full"}, 16)
	}
	return d.columns("machine", "stat/arp_cache", []string{"unresolved_discards", "table_fulls"})
}

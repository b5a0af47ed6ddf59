// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"os/exec"
	"strings"
	"time"
)

// advert is what tshark must say of each advert of tandem's, beside its
// priority: fields and their values.
type advert struct {
	fields  []string
	want    string // joined by spaces
	message bool   // the checksum of version 3 over IPv4 covers the message alone
}

// Every field but the priority, which the scenario changes.
var (
	header4 = []string{"ip.src", "ip.dst", "ip.ttl", "ip.dsfield.dscp", "ip.checksum.status", "vrrp.version", "vrrp.type", "vrrp.virt_rtr_id", "vrrp.checksum.status"}
	header6 = []string{"ipv6.src", "ipv6.dst", "ipv6.hlim", "ipv6.tclass.dscp", "vrrp.version", "vrrp.type", "vrrp.virt_rtr_id", "vrrp.checksum.status"}
)

// judge has tshark read the cable: each advert from tandem's address is as it
// should be, and some had priority 0.
func (l *lab) judge(w *wire) {
	l.t.Helper()
	from := "vrrp && ip.src == "
	if strings.Contains(w.source, ":") {
		from = "vrrp && ipv6.src == "
	}
	args := []string{"-n", "19", "tshark", "-r", l.pcap, "-Y", from + w.source, "-T", "fields", "-o", "ip.check_checksum:TRUE",
		"-e", "vrrp.prio", "-e", "_ws.expert.message", "-e", "_ws.malformed"}
	if w.judge.message {
		args = append(args, "-o", "vrrp.v3_checksum_as_in_v2:TRUE")
	}
	for _, f := range w.judge.fields {
		args = append(args, "-e", f)
	}
	var lines []string
	time.Sleep(200 * time.Millisecond)
	eventually(l.t, late, "the last advert, of priority 0, is in the capture", func() bool {
		out, err := exec.Command("nice", args...).Output()
		lines = strings.Split(strings.TrimRight(string(out), "\n"), "\n")
		if err != nil {
			l.t.Logf("tshark: %v", err) // of a packet that is being written, too
		}
		return err == nil && strings.HasPrefix(lines[len(lines)-1], "0\t")
	})
	adverts, zeroes, bad := 0, 0, 0
	for _, line := range lines {
		f := strings.Split(line, "\t")
		adverts++
		if f[0] == "0" {
			zeroes++
		}
		if got := strings.Join(f[3:], " "); f[1] != "" || f[2] != "" || got != w.judge.want || (f[0] != "0" && f[0] != "100") {
			if bad++; bad <= 3 {
				l.t.Errorf("tshark of advert %d: priority %s, %s %s %s; want %s", adverts, f[0], f[1], f[2], got, w.judge.want)
			}
		}
	}
	if adverts < 5 || zeroes == 0 {
		l.t.Errorf("tshark saw %d adverts of tandem, %d of priority 0", adverts, zeroes)
	}
	l.t.Logf("tshark agrees with %d of %d adverts, %d of priority 0", adverts-bad, adverts, zeroes)
}

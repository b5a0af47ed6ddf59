// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"flag"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/config"
)

var groupsFor = flag.Duration("groups.for", 5*time.Second, "how long BenchmarkGroups watches")

// BenchmarkGroups is the lateness of adverts of 255 groups on one interface, all
// Active, at 100 ms: from the deadline to the end of the send call, as the
// process that sends them counts (upper bounds of buckets). Aim: a tenth of the
// interval at p99.
//
//	go test ./bench -run '^$' -bench Groups -benchtime 1x -groups.for 60s
func BenchmarkGroups(b *testing.B) {
	const interval = 100 * time.Millisecond
	segment(b)
	var groups []config.Group
	for vrid := 1; vrid <= 255; vrid++ {
		groups = append(groups, config.Group{
			Name: fmt.Sprintf("G%d", vrid), Interface: "eth0", VRID: uint8(vrid), Priority: 200, Version: 3, AdvertInterval: interval,
			Addresses: []config.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(vrid)}), 32), Interface: "eth0"}},
		})
	}
	p := startElection(b, groups)
	defer p.Stop()
	for b.Loop() {
		before := p.Status().Sent
		time.Sleep(*groupsFor)
		sent := p.Status().Sent
		for i := range sent.Buckets {
			sent.Buckets[i] -= before.Buckets[i]
		}
		want := uint64(len(groups)) * uint64(*groupsFor/interval)
		fmt.Printf("%d groups at %v, %s: %d adverts of %d in %v\n  late p50 < %d us, p99 < %d us, p99.9 < %d us\n", len(groups), interval, kernel(),
			sent.Count(), want, *groupsFor, sent.Quantile(0.5), sent.Quantile(0.99), sent.Quantile(0.999))
		if sent.Count() < want*9/10 {
			b.Errorf("%d adverts of %d were sent", sent.Count(), want)
		}
		if n := p.Status().Unsent; n != 0 {
			b.Errorf("%d messages of the process were lost", n)
		}
		b.ReportMetric(float64(sent.Quantile(0.99)), "p99-us")
	}
}

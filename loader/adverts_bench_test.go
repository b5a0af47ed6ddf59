// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"

	"github.com/cilium/ebpf"
)

// BenchmarkAdverts is what a packet that is no advert costs an interface with
// groups, at TC and at XDP, beside an empty program there.
func BenchmarkAdverts(b *testing.B) {
	a, err := openAdverts(AdvertOptions{XDP: true, Log: logger(b)}, "")
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	var empty [2]*ebpf.Program
	for i, spec := range []*ebpf.ProgramSpec{emptyTC(), emptyXDP()} {
		if empty[i], err = ebpf.NewProgram(spec); err != nil {
			b.Fatal(err)
		}
		defer empty[i].Close()
	}
	packet := wire{pdu: make([]byte, 30), proto: 17}.bytes()
	for _, c := range []struct {
		name string
		prog *ebpf.Program
	}{
		{"tc/empty", empty[0]}, {"tc", a.coll.Programs["tandem_advert"]},
		{"xdp/empty", empty[1]}, {"xdp", a.xdp.Programs["tandem_adv_xdp"]},
	} {
		b.Run(c.name, func(b *testing.B) {
			_, per, err := c.prog.Benchmark(packet, b.N, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(per.Nanoseconds()), "ns/packet")
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

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

// BenchmarkAdvertsStream is what one TCP stream brings through a router with
// the program for adverts on both of its interfaces: a veth that has a program
// in its driver no longer passes large segments on.
func BenchmarkAdvertsStream(b *testing.B) {
	l := newLab(b)
	to := l.sink("10.2.0.2:7000")
	for b.Loop() {
		for way, unit := range map[string]string{"": "bare-Gbit/s", "tc": "tc-Gbit/s", "xdp (native)": "xdp-Gbit/s"} {
			var a *Adverts
			if way != "" {
				l.in(l.router, func() {
					var err error
					if a, err = openAdverts(AdvertOptions{Interfaces: []string{"in", "out"}, XDP: way != "tc", Log: logger(b)}, ""); err != nil {
						b.Error(err)
					}
				})
				if got, why := a.Way("out"); got != way {
					b.Fatalf("%q (%s), want %q", got, why, way)
				}
			}
			conn, before, begin := l.dial("tcp", "10.2.0.2:7000"), to.Load(), time.Now()
			conn.SetDeadline(begin.Add(2 * time.Second))
			for buf := make([]byte, 1<<17); ; {
				if _, err := conn.Write(buf); err != nil {
					break
				}
			}
			b.ReportMetric(float64(to.Load()-before)*8/float64(time.Since(begin)), unit)
			conn.Close()
			if a != nil {
				a.Close()
			}
		}
	}
}

// sink counts what comes over TCP to an address of the server.
func (l *lab) sink(at string) *atomic.Int64 {
	n := new(atomic.Int64)
	l.in(l.server, func() {
		ln, err := net.Listen("tcp", at)
		if err != nil {
			l.t.Error(err)
			return
		}
		l.t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					for buf := make([]byte, 1<<18); ; {
						got, err := c.Read(buf)
						n.Add(int64(got))
						if err != nil {
							return
						}
					}
				}()
			}
		}()
	})
	return n
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/benchlab"
	"golang.org/x/sys/unix"
)

// BenchmarkListeners says what a subscription costs those who write: creates
// per second and microseconds per entry of a flush, without a listener, with
// a Deaths, with a Deaths whose filter drops everything, and with a listener
// for NEW events, as conntrackd and conntrack -E are. All in one namespace.
//
//	go test ./bench -run '^$' -bench Listeners -benchtime 1x
func BenchmarkListeners(b *testing.B) {
	raiseMax(b, *commitFlows)
	enterNamespace(b)
	table, err := conntrack.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer table.Close()
	bare, err := benchlab.OpenBare()
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	ops := commitOps(*commitFlows)
	cases := []struct {
		name   string
		listen func(b *testing.B) (stop func())
	}{
		{"none", func(*testing.B) func() { return func() {} }},
		{"DESTROY", func(b *testing.B) func() { return listenDeaths(b, 0) }},
		{"DESTROY, all filtered", func(b *testing.B) func() { return listenDeaths(b, conntrack.Expected) }},
		{"NEW", listenNew},
	}
	creates, deletes := make([][]float64, len(cases)), make([][]float64, len(cases))
	for b.Loop() {
		for range *commitRounds {
			for i, c := range cases {
				stop := c.listen(b)
				create, remove := createAndFlush(b, table, bare, ops)
				stop()
				creates[i], deletes[i] = append(creates[i], create), append(deletes[i], remove)
			}
		}
	}
	fmt.Printf("%d flows, %d rounds, %s\n", len(ops), *commitRounds, kernel())
	for i, c := range cases {
		fmt.Printf("  listener %-22s create %s flows/s\n%34s delete %s us\n", c.name, spread(creates[i], "%.0f"), "", spread(deletes[i], "%.2f"))
	}
}

func createAndFlush(b *testing.B, table *conntrack.Table, bare *benchlab.Bare, ops []conntrack.Op) (create, remove float64) {
	start := time.Now()
	if err := table.Apply(ops); err != nil {
		b.Fatal(err)
	}
	create = float64(len(ops)) / time.Since(start).Seconds()
	start = time.Now()
	if err := bare.Flush(); err != nil {
		b.Fatal(err)
	}
	return create, time.Since(start).Seconds() * 1e6 / float64(len(ops))
}

func listenDeaths(b *testing.B, filter conntrack.Status) func() {
	d, err := conntrack.ListenDeaths()
	if err != nil {
		b.Fatal(err)
	}
	if err := d.Filter(filter); err != nil {
		b.Fatal(err)
	}
	return func() { d.Close() }
}

// listenNew never reads: that the events are built is the cost.
func listenNew(b *testing.B) func() {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_CONNTRACK_NEW)
	}
	if err != nil {
		b.Fatal(err)
	}
	return func() { unix.Close(fd) }
}

// SPDX-License-Identifier: Apache-2.0

// Package vip owns virtual addresses and virtual MACs on interfaces: it puts
// addresses in with a lifetime of a few seconds, keeps them alive, announces
// them, makes and removes the devices that carry a virtual MAC, and takes away
// what a killed process left. It never decides whether an address should be
// in, and it touches no address, and no device, that it did not make.
//
//	rtnl.go      rtnetlink messages <-> values
//	conn.go      addresses in, refreshed, out; Cleanup
//	mac.go       devices of virtual MACs
//	sysctl.go    what they need of the kernel, with its undo
//	watch.go     links and addresses as the kernel reports them
//	local.go     the link-local address that IPv6 adverts are sent from
//	announce.go  when each address is announced: a machine, pure
//	garp.go      gratuitous ARP, and the socket of announcements
//	na.go        unsolicited neighbour advertisements
package vip

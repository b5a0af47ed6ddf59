// SPDX-License-Identifier: Apache-2.0

// Package vip owns virtual addresses on interfaces: it puts them in with a
// lifetime of a few seconds, keeps them alive, announces them, and removes
// what a killed process left. It never decides whether an address should be
// in, and it touches no address whose protocol number is not its own.
//
//	rtnl.go    rtnetlink messages <-> values
//	conn.go    addresses in, refreshed, out; Cleanup
//	watch.go   links and addresses as the kernel reports them
//	local.go   the link-local address that IPv6 adverts are sent from
//	garp.go    gratuitous ARP
package vip
